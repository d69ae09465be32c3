//! Every prefix of the stores of an operation, applied to a copy of the segment, is a state that a
//! crash can leave. Each is shown to a judge, who recovers it as another process would; and of some
//! the recovery is an operation itself, that dies too.
//!
//! Processors of x86-64 make stores visible in their order, and what a killed process has stored is
//! never lost, so that prefixes are all there is. Payloads are copied by words, so that they are torn
//! at every word.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use store_core::{Store, from_image};

use crate::trace::{Logging, Stored, record};

/// Violations whose text is kept: of one operation, and in all.
const TEXTS_OF_ONE_MAX: usize = 3;
const TEXTS_MAX: usize = 30;
/// Larger than any process's number: Linux has 22 bits for them.
const NO_PID: u32 = i32::MAX as u32;
/// Keys that no model has, looked for by a writer that only wants the guards.
const ABSENT_KEYS: u32 = 24;

/// A store with what it must hold, that operations are done to.
pub trait Live {
    /// What can be done to it.
    type Op: Clone + Debug;
    /// What it must hold.
    type Model: Clone;

    /// The store.
    fn store(&self) -> &Store<Logging>;

    /// What it holds now.
    fn model(&self) -> Self::Model;

    /// By what name an operation is counted.
    fn name(op: &Self::Op) -> &'static str;

    /// Does `op` to both; panics where they differ.
    fn apply(&mut self, op: &Self::Op);

    /// Recovers from `image`, which a process left that died in `op`, as another process would, and
    /// compares with what was there before and after `op`.
    ///
    /// # Errors
    /// What is wrong. It may panic as well.
    fn judge(
        image: &[u8],
        op: &Self::Op,
        before: &Self::Model,
        after: &Self::Model,
    ) -> Result<(), String>;
}

/// What was looked at so far.
#[derive(Debug, Default)]
pub struct Seen {
    fingerprints: HashSet<u64>,
    /// Distinct states by start and operation.
    pub counts: BTreeMap<(String, String), u64>,
    /// How many states were judged to be wrong.
    pub violations: u64,
    /// The first of them, in words.
    pub texts: Vec<String>,
}

impl Seen {
    /// Distinct states.
    pub fn states(&self) -> u64 {
        self.fingerprints.len() as u64
    }

    /// Adds what another thread saw. States that both saw are counted once in all, and under each
    /// start that they had.
    pub fn absorb(&mut self, other: Self) {
        self.fingerprints.extend(other.fingerprints);
        for (of, count) in other.counts {
            *self.counts.entry(of).or_default() += count;
        }
        self.violations += other.violations;
        self.texts.extend(other.texts);
        self.texts.truncate(TEXTS_MAX);
    }

    /// Notes a state, and how it was judged if it is a new one.
    pub fn note(
        &mut self,
        (start, operation): (&str, &str),
        fingerprint: u64,
        judge: impl FnOnce() -> Result<(), String>,
    ) {
        if !self.fingerprints.insert(fingerprint) {
            return;
        }
        *self.counts.entry((start.to_owned(), operation.to_owned())).or_default() += 1;
        if let Err(text) = caught(judge) {
            self.violate(&format!("{start}, {operation}"), &text);
        }
    }

    fn violate(&mut self, place: &str, text: &str) {
        self.violations += 1;
        let alike = self.texts.iter().filter(|text| text.starts_with(place)).count();
        if alike < TEXTS_OF_ONE_MAX && self.texts.len() < TEXTS_MAX {
            self.texts.push(format!("{place}: {text}"));
        }
    }
}

/// A walk from one start state through a sequence of operations.
#[derive(Debug)]
pub struct Walk {
    start: String,
    /// Of each operation, so many states are recovered from by one that dies too.
    recoveries: u32,
    random: u64,
}

impl Walk {
    /// One from the start state of that name; `seed` says which states die once more.
    pub fn new(start: &str, recoveries: u32, seed: u64) -> Self {
        Self { start: start.to_owned(), recoveries, random: mixed(seed, 1) }
    }

    /// Does `op`, and looks at each state that a crash in it can leave. `false` if it panicked: there
    /// is nothing to go on from.
    pub fn step<L: Live>(&mut self, live: &mut L, op: &L::Op, seen: &mut Seen) -> bool {
        let address = live.store().info().expect("it stands").address as usize;
        let image = live.store().image().expect("it stands");
        let (before, was) = (live.model(), Figures::of(live.store()));
        let (done, stores) = record(|| {
            caught(|| {
                live.apply(op);
                Ok(())
            })
        });
        if let Err(text) = done {
            seen.violate(&self.start, &format!("{op:?}: {text}"));
            return false;
        }
        let after = live.model();
        let operation = format!("{}{}", L::name(op), Figures::of(live.store()).beyond(&was));
        let mut dying = self.chosen(stores.len());
        each_prefix(image, address, &stores, |done, image, fingerprint| {
            let place = || format!("{op:?}, {done} of {} stores", stores.len());
            seen.note((&self.start, &operation), fingerprint, || {
                L::judge(image, op, &before, &after).map_err(|text| format!("{}: {text}", place()))
            });
            if dying.last() == Some(&done) {
                dying.pop();
                self.die_recovering::<L>(image, (op, &before, &after), &place(), 2, seen);
            }
        });
        true
    }

    /// Looks at each state that a crash in the recovery from `image` can leave; and so on, `depth`
    /// times.
    fn die_recovering<L: Live>(
        &mut self,
        image: &[u8],
        (op, before, after): (&L::Op, &L::Model, &L::Model),
        place: &str,
        depth: u32,
        seen: &mut Seen,
    ) {
        if depth == 0 {
            return;
        }
        let mut image = image.to_vec();
        kill_clients(&mut image);
        let by_reaper = self.below(2) == 0;
        let operation = if by_reaper { "recovery by a reaper" } else { "recovery by a writer" };
        let recovered = caught(|| recover(&image, by_reaper));
        let (address, stores) = match recovered {
            Ok(recovered) => recovered,
            Err(text) => {
                return seen.violate(&self.start, &format!("{place}, {operation}: {text}"));
            }
        };
        let mut dying = self.chosen(stores.len()).into_iter().take(1).collect::<Vec<_>>();
        each_prefix(image, address, &stores, |done, image, fingerprint| {
            let place = || format!("{place}, then {done} of {} of its recovery", stores.len());
            seen.note((&self.start, operation), fingerprint, || {
                L::judge(image, op, before, after).map_err(|text| format!("{}: {text}", place()))
            });
            if dying.last() == Some(&done) {
                dying.pop();
                self.die_recovering::<L>(image, (op, before, after), &place(), depth - 1, seen);
            }
        });
    }

    /// Some of `stores` stores, the last one first.
    fn chosen(&mut self, stores: usize) -> Vec<usize> {
        let count = if stores == 0 { 0 } else { self.recoveries };
        let mut chosen: Vec<usize> = (0..count).map(|_| self.below(stores) + 1).collect();
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        chosen.dedup();
        chosen
    }

    fn below(&mut self, count: usize) -> usize {
        self.random = mixed(self.random, 2);
        (self.random % count as u64) as usize
    }
}

/// Recovers a copy of `image`, and gives where it was mapped and the stores that it took.
fn recover(image: &[u8], by_reaper: bool) -> Result<(usize, Vec<Stored>), String> {
    let store: Store<Logging> = from_image(image).map_err(|error| error.to_string())?;
    let address = store.info().map_err(|error| error.to_string())?.address as usize;
    let (recovered, stores) = record(|| {
        let session = store.open_session().map_err(|error| error.to_string())?;
        if by_reaper {
            return store.reap(&session).map(drop).map_err(|error| error.to_string());
        }
        for number in 0..ABSENT_KEYS {
            let key = format!("no model has this {number}");
            store.delete(&session, key.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    recovered.map(|()| (address, stores))
}

/// What an operation can do besides its own work.
struct Figures {
    buckets: u64,
    overflow_lines: u64,
    extents: u32,
    emptied: u64,
    moved_bytes: u64,
    evicted: u64,
}

impl Figures {
    fn of(store: &Store<Logging>) -> Self {
        let stats = store.stats().expect("it stands");
        Self {
            buckets: stats.buckets,
            overflow_lines: stats.overflow_lines_used,
            extents: stats.extents - stats.extents_uncommissioned,
            emptied: stats.emptied,
            moved_bytes: stats.moved_bytes,
            evicted: stats.eviction.map_or(0, |it| it.evicted_small + it.evicted_main),
        }
    }

    /// What happened since `was`, for people.
    fn beyond(&self, was: &Self) -> String {
        [
            (self.buckets > was.buckets, ", a split"),
            (self.overflow_lines > was.overflow_lines, ", a link"),
            (self.overflow_lines < was.overflow_lines, ", an unlink"),
            (self.extents > was.extents, ", growth"),
            (self.extents < was.extents, ", memory given back"),
            (self.emptied > was.emptied, ", cleaning"),
            (self.moved_bytes > was.moved_bytes, ", relocation"),
            (self.evicted > was.evicted, ", eviction"),
        ]
        .into_iter()
        .filter_map(|(happened, what)| happened.then_some(what))
        .collect()
    }
}

/// Shows the images that the prefixes of `stores` leave, from none of them to all, of a segment that
/// was at `address` and had the bytes of `image`: how many were done, the bytes, and a number that
/// differs where they do.
pub fn each_prefix(
    mut image: Vec<u8>,
    address: usize,
    stores: &[Stored],
    mut show: impl FnMut(usize, &[u8], u64),
) {
    let words = image.as_chunks::<8>().0.iter().enumerate();
    let mut fingerprint =
        words.fold(0, |sum, (at, word)| sum ^ mixed(at as u64, u64::from_le_bytes(*word)));
    show(0, &image, fingerprint);
    for (done, stored) in stores.iter().enumerate() {
        let at = stored.address - address;
        let was = word(&image, at / 8);
        image[at..at + stored.bytes].copy_from_slice(&stored.value.to_le_bytes()[..stored.bytes]);
        let number = (at / 8) as u64;
        fingerprint ^= mixed(number, was) ^ mixed(number, word(&image, at / 8));
        show(done + 1, &image, fingerprint);
    }
}

/// Word `number` of an image.
fn word(image: &[u8], number: usize) -> u64 {
    u64::from_le_bytes(image[number * 8..number * 8 + 8].try_into().expect("8 bytes"))
}

/// Makes every client of the image a process that is gone: no process has its number.
pub fn kill_clients(image: &mut [u8]) {
    let (offset, count) = (word(image, 24) as usize, word(image, 25) as usize);
    for client in 0..count {
        let at = offset + 256 * client;
        if word(image, at / 8) >> 60 != 0 {
            image[at..at + 4].copy_from_slice(&NO_PID.to_le_bytes());
        }
    }
}

/// Two numbers as one that looks random.
fn mixed(a: u64, b: u64) -> u64 {
    let mut mixed = b.wrapping_add(a.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ mixed >> 31).wrapping_mul(factor);
    }
    mixed ^ mixed >> 29
}

/// Does `act`, and makes an error of a panic.
fn caught<R>(act: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.as_deref().unwrap_or("without a word")))
    })
}
