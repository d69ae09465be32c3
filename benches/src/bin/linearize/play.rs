//! Histories: one after the other, several to a store.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use rand::RngExt;
use rand::rngs::SmallRng;

use store_core::{CreateOptions, GuardKind, Sealing, Store, memfd};

use store_benches::forked::{Child, wait_for_end};
use store_benches::mortal::{Doom, Mortal};

use crate::checker::{Operation, Verdict, check};
use crate::client::{Part, key_of, meaning, seed_of};
use crate::log::{CLIENTS, Log};
use crate::model::{Answer, Call};

/// Histories that one store sees, before the next one is made.
const HISTORIES_PER_STORE: u64 = 250;
/// A history that takes so long stands still.
const HISTORY_MAX: Duration = Duration::from_secs(60);
/// Violations that are shown whole.
const SHOWN_MAX: u64 = 3;

/// What was seen in all histories.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) histories: u64,
    pub(crate) with_kills: u64,
    pub(crate) operations: u64,
    /// Of these, those that others of the same key were beside.
    pub(crate) beside_others: u64,
    pub(crate) unanswered: u64,
    pub(crate) refused: u64,
    pub(crate) kills: u64,
    pub(crate) while_holding: u64,
    pub(crate) violations: u64,
    pub(crate) undecided: u64,
    pub(crate) check_violations: u64,
}

/// A process of a history.
struct Runner {
    child: Child,
    /// When it is killed from outside.
    kill_at: Option<Instant>,
    killed: bool,
}

/// Plays histories.
pub(crate) struct Stage<'a> {
    pub(crate) log: &'static Log,
    pub(crate) rng: &'a mut SmallRng,
    pub(crate) seed: u64,
    pub(crate) guard: GuardKind,
    /// One client in each answers with what is stale.
    pub(crate) stale: bool,
    pub(crate) seen: Seen,
    /// Lives in all histories.
    lives: u64,
}

/// Stores that are small, so that lines are linked, buckets split and extents emptied.
fn options(number: u64, guard: GuardKind) -> CreateOptions {
    let (kib, items) = [(640, 8), (512, 200), (2048, 8)][(number % 3) as usize];
    CreateOptions::new(kib << 10).extent_size(4 << 10).items(items).guard(guard).checksums(true)
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        log: &'static Log,
        rng: &'a mut SmallRng,
        seed: u64,
        guard: GuardKind,
        stale: bool,
    ) -> Self {
        Self { log, rng, seed, guard, stale, seen: Seen::default(), lives: 0 }
    }

    /// Plays so many; `tell` hears how many there are after each.
    pub(crate) fn play(&mut self, histories: u64, mut tell: impl FnMut(u64)) -> Result<()> {
        while self.seen.histories < histories {
            let number = self.seen.histories / HISTORIES_PER_STORE;
            let store: Store<Mortal> =
                memfd(&options(number, self.guard), Sealing::SharedWriters).context("a store")?;
            let left = histories - self.seen.histories;
            for _ in 0..left.min(HISTORIES_PER_STORE) {
                self.history(&store)?;
                tell(self.seen.histories);
            }
            let session = store.open_session()?;
            store.reap(&session)?;
            let checked = store.check(|_, _| {});
            for violation in &checked.violations {
                eprintln!("check, after history {}: {violation}", self.seen.histories);
            }
            self.seen.check_violations += checked.violations_total;
            store.close_session(&session)?;
        }
        Ok(())
    }

    fn history(&mut self, store: &Store<Mortal>) -> Result<()> {
        self.seen.histories += 1;
        let (history, log) = (self.seen.histories, self.log);
        let keys = self.rng.random_range(2..=4);
        log.ready.store(0, Ordering::Release);
        log.parent.clear();
        log.clients.iter().for_each(|client| client.clear());
        let kills_before = self.seen.kills;
        let mut runners = [const { None }; CLIENTS];
        for number in 0..CLIENTS as u8 {
            runners[usize::from(number)] = Some(self.start(store, number, keys, true)?);
        }
        let begin = Instant::now();
        while log.ready.load(Ordering::Acquire) < CLIENTS as u64 {
            ensure!(begin.elapsed() < HISTORY_MAX, "the clients of history {history} don't begin");
            std::thread::yield_now();
        }
        let start = Instant::now();
        for runner in runners.iter_mut().flatten() {
            // About one in three, within the time that a history takes.
            runner.kill_at = self
                .rng
                .random_ratio(1, 3)
                .then(|| start + Duration::from_micros(self.rng.random_range(0..2500)));
        }
        log.began.store(history, Ordering::Release);
        while runners.iter().any(Option::is_some) {
            if start.elapsed() > HISTORY_MAX {
                bail!("history {history} does not end; held: {:?}", store.held_guards());
            }
            self.turn(store, keys, &mut runners)?;
        }
        self.seen.with_kills += u64::from(self.seen.kills > kills_before);
        self.judge(store, keys)
    }

    /// Waits for ends, kills whose time has come, and lets others follow the dead.
    fn turn(
        &mut self,
        store: &Store<Mortal>,
        keys: usize,
        runners: &mut [Option<Runner>; CLIENTS],
    ) -> Result<()> {
        let due = runners.iter().flatten().filter(|runner| !runner.killed);
        let due = due.filter_map(|runner| runner.kill_at).min();
        let within = due.map_or(HISTORY_MAX, |due| due.saturating_duration_since(Instant::now()));
        let living = runners.iter().flatten().map(|runner| &runner.child);
        let mut ended = wait_for_end(living, within)?.into_iter();
        for (number, place) in runners.iter_mut().enumerate() {
            let Some(runner) = place else { continue };
            if ended.next() == Some(true) {
                let runner = place.take().context("it is there")?;
                let life = &self.log.clients[number].life;
                match runner.child.reap()? {
                    WaitStatus::Exited(_, 0) => {}
                    WaitStatus::Signaled(_, Signal::SIGKILL, _) => {
                        self.seen.kills += 1;
                        self.seen.while_holding += u64::from(life.holds_a_guard());
                        *place = Some(self.start(store, number as u8, keys, false)?);
                    }
                    status => bail!("a process ended otherwise than it was to: {status:?}"),
                }
            } else if !runner.killed && runner.kill_at.is_some_and(|due| due <= Instant::now()) {
                runner.child.signal(Signal::SIGKILL)?;
                runner.killed = true;
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        store: &Store<Mortal>,
        number: u8,
        keys: usize,
        is_first: bool,
    ) -> Result<Runner> {
        self.lives += 1;
        let (log, history) = (self.log, self.seen.histories);
        let doom = match self.rng.random_range(0..10) {
            0..2 => Doom::AtGuardedStore(self.rng.random_range(1..=60)),
            2 => Doom::AtStore(self.rng.random_range(1..=400)),
            _ => Doom::Never,
        };
        let yields = if self.rng.random() { self.rng.random_range(1..100) } else { 0 };
        let seed = seed_of(self.seed, history, self.lives);
        let stale = self.stale && number == 0;
        log.clients[usize::from(number)].life.begin();
        let part = Part { store, log, number, history, keys, doom, seed, yields, stale, is_first };
        Ok(Runner { child: Child::start(|| part.play())?, kill_at: None, killed: false })
    }

    /// Reads each key, and looks for an order that explains what was answered.
    fn judge(&mut self, store: &Store<Mortal>, keys: usize) -> Result<()> {
        let history = self.seen.histories;
        for key in 0..keys {
            let name = key_of(history, key);
            self.log.parent.record(key, Call::Get, || {
                let value = store.get(&name)?;
                Ok((Answer::Is(value.map(|value| meaning(key, &name, &value))), ()))
            })?;
            let all = self.log.clients.iter().chain([&self.log.parent]).enumerate();
            let mut operations: Vec<_> =
                all.flat_map(|(number, client)| client.operations(number as u8, key)).collect();
            operations.sort_by_key(|one| one.invoked_ns);
            self.seen.operations += operations.len() as u64;
            for one in &operations {
                let beside = operations.iter().any(|other| other.is_beside(one));
                self.seen.beside_others += u64::from(beside);
                self.seen.unanswered += u64::from(one.returned.is_none());
                let refused = one.returned.is_some_and(|(_, answer)| answer == Answer::Unchanged);
                self.seen.refused += u64::from(refused);
            }
            match check(&operations) {
                Verdict::Linearizable => {}
                Verdict::Undecided => self.seen.undecided += 1,
                Verdict::Violation => {
                    self.seen.violations += 1;
                    if !self.stale && self.seen.violations <= SHOWN_MAX {
                        show(history, key, &operations);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Shows the operations of a key that nothing explains, in microseconds from the first.
fn show(history: u64, key: usize, operations: &[Operation]) {
    eprintln!("no order explains key {key} of history {history}:");
    let first = operations.first().map_or(0, |one| one.invoked_ns);
    let micros = |at: u64| (at - first) as f64 / 1e3;
    for one in operations {
        let from = micros(one.invoked_ns);
        let end = match one.returned {
            Some((to, answer)) => format!("{:>9.1}  {:?} -> {answer:?}", micros(to), one.call),
            None => format!("   killed  {:?}", one.call),
        };
        eprintln!("  client {} {from:>9.1} to {end}", one.client);
    }
}
