//! The writer processes, and what each of them was told is stored.

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use store_benches::records::{Stamp, fill, varied_len, verify};
use store_benches::worker::{Handle, PATIENCE, Parent, Worker};
use store_client::{ReadError, Reader, Spec, WriteError};

/// Items that each writer puts.
const ITEMS: u32 = 20;
const LEN_MIN: usize = 16;
const LEN_MAX: usize = 2048;
/// Short-lived writers at the same time.
const GROUP: u32 = 8;
/// How many of the short-lived are killed instead of leaving by themselves.
const KILLED_SHARE: f64 = 1.0 / 3.0;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    number: u32,
    /// Waits for the parent before putting, and before leaving.
    waits: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Waits {
    Never,
    BeforeAndAfter,
    /// To be killed: never detached by itself.
    After,
}

/// What a writer process tells its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    Attached,
    Stored { item: u32 },
    Refused { full: bool, what: String },
    Done,
}

fn key_of(number: u32, item: u32) -> Vec<u8> {
    format!("writer-{number:04}:{item:02}").into_bytes()
}

fn stamp_of(number: u32, item: u32) -> Stamp {
    Stamp { writer: 1, seq: number * ITEMS + item }
}

/// A writer process.
pub(crate) fn work(job: Job, store: Handle, parent: &mut Parent) -> Result<()> {
    let store = match store.writer() {
        Ok(store) => store,
        Err(error) => {
            let what = format!("attaching: {error}");
            return parent.tell(&Told::Refused { full: false, what });
        }
    };
    parent.tell(&Told::Attached)?;
    if job.waits == Waits::BeforeAndAfter {
        parent.await_go()?;
    }
    let mut value = Vec::new();
    for item in 0..ITEMS {
        let (key, stamp) = (key_of(job.number, item), stamp_of(job.number, item));
        fill(&mut value, &key, stamp, varied_len(stamp.seq.into(), LEN_MIN, LEN_MAX));
        parent.tell(&match store.put(&key, &value) {
            Ok(_) => Told::Stored { item },
            Err(error) => Told::Refused {
                full: matches!(error, WriteError::Full(_) | WriteError::IndexFull { .. }),
                what: error.to_string(),
            },
        })?;
    }
    parent.tell(&Told::Done)?;
    if job.waits == Waits::Never { Ok(()) } else { parent.await_go() }
}

/// What the store looked like when all had put and none had left.
pub(crate) struct Peak {
    pub(crate) clients: usize,
    pub(crate) extents_open: u32,
}

pub(crate) struct Herd {
    store: Spec,
    rng: SmallRng,
    /// By writer number: which of its items were acknowledged.
    stored: Vec<[bool; ITEMS as usize]>,
    pub(crate) killed: u32,
    pub(crate) full: u32,
    pub(crate) errors: u32,
    pub(crate) first_error: Option<String>,
}

impl Herd {
    pub(crate) fn new(spec: &Spec, rng: SmallRng) -> Self {
        let (store, stored) = (spec.clone(), Vec::new());
        Self { store, rng, stored, killed: 0, full: 0, errors: 0, first_error: None }
    }

    /// All attached before the first one puts, all done before the first one leaves.
    pub(crate) fn all_at_once(&mut self, count: u32, reader: &Reader) -> Result<Peak> {
        let mut writers = Vec::new();
        for _ in 0..count {
            writers.push(self.spawn(Waits::BeforeAndAfter)?);
        }
        let mut attached = Vec::new();
        for (number, mut writer) in writers {
            match writer.receive(PATIENCE)? {
                Told::Attached => attached.push((number, writer)),
                told => self.note(number, told),
            }
        }
        for (_, writer) in &mut attached {
            writer.go()?;
        }
        for (number, writer) in &mut attached {
            self.listen(*number, writer, None)?;
        }
        let extents_open = reader.stats()?.extents_open;
        let peak = Peak { clients: reader.info()?.clients.len(), extents_open };
        for (_, writer) in &mut attached {
            writer.go()?;
        }
        for (_, writer) in &mut attached {
            writer.finish()?;
        }
        Ok(peak)
    }

    /// In small groups; some are killed after any number of their puts, and never detach.
    pub(crate) fn one_after_another(&mut self, count: u32) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let group = GROUP.min(left);
            left -= group;
            let mut writers = Vec::new();
            for _ in 0..group {
                let victim = self.rng.random_bool(KILLED_SHARE);
                let waits = if victim { Waits::After } else { Waits::Never };
                writers.push((self.spawn(waits)?, waits));
            }
            for ((number, mut writer), waits) in writers {
                if waits == Waits::After {
                    let puts = self.rng.random_range(0..=ITEMS);
                    self.listen(number, &mut writer, Some(puts))?;
                    writer.kill()?;
                    // What it told before its death is acknowledged, read or not by then.
                    for told in writer.receive_rest() {
                        self.note(number, told);
                    }
                    writer.reap(PATIENCE)?;
                    self.killed += 1;
                } else {
                    self.listen(number, &mut writer, None)?;
                    writer.finish()?;
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, waits: Waits) -> Result<(u32, Worker)> {
        let number = u32::try_from(self.stored.len())?;
        self.stored.push(Default::default());
        Ok((number, Worker::spawn(&self.store, &Job { number, waits })?))
    }

    /// Until it is done, was not let in, or has told of `puts` puts.
    fn listen(&mut self, number: u32, writer: &mut Worker, puts: Option<u32>) -> Result<()> {
        let mut told_puts = 0;
        while puts != Some(told_puts) {
            let told: Told =
                writer.receive(PATIENCE).with_context(|| format!("writer {number}"))?;
            let attaching =
                matches!(&told, Told::Refused { what, .. } if what.starts_with("attach"));
            if told == Told::Done || attaching {
                self.note(number, told);
                break;
            }
            told_puts += u32::from(told != Told::Attached);
            self.note(number, told);
        }
        Ok(())
    }

    fn note(&mut self, number: u32, told: Told) {
        match told {
            Told::Attached | Told::Done => {}
            Told::Stored { item } => self.stored[number as usize][item as usize] = true,
            Told::Refused { full, what } => {
                let count = if full { &mut self.full } else { &mut self.errors };
                *count += 1;
                self.first_error.get_or_insert_with(|| format!("writer {number}: {what}"));
            }
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.stored.iter().flatten().filter(|&&stored| stored).count() as u64
    }

    /// How many acknowledged items are not there, and how many are there but not whole.
    pub(crate) fn hold_to(&self, reader: &Reader) -> Result<(u64, u64), ReadError> {
        let (mut lost, mut torn) = (0, 0);
        for (number, stored) in (0..).zip(&self.stored) {
            for (item, &stored) in (0..).zip(stored) {
                let key = key_of(number, item);
                match reader.get(&key)?.map(|value| verify(&key, &value)) {
                    Some(Ok(stamp)) if stamp == stamp_of(number, item) => {}
                    Some(_) => torn += 1,
                    // The put that a kill interrupted may be absent, but not half there.
                    None => lost += u64::from(stored),
                }
            }
        }
        Ok((lost, torn))
    }
}

#[cfg(test)]
mod tests {
    use super::{Herd, ITEMS, Told, key_of, stamp_of};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::collections::HashSet;

    #[test]
    fn items_are_told_apart() {
        let items = || (0..50).flat_map(|number| (0..ITEMS).map(move |item| (number, item)));
        let keys: HashSet<_> = items().map(|(number, item)| key_of(number, item)).collect();
        let seqs: HashSet<_> = items().map(|(number, item)| stamp_of(number, item).seq).collect();
        assert_eq!((keys.len(), seqs.len()), (50 * ITEMS as usize, 50 * ITEMS as usize));
    }

    #[test]
    fn what_is_told_is_counted() {
        let spec = "posix:none".parse().expect("a spec");
        let mut herd = Herd::new(&spec, SmallRng::seed_from_u64(1));
        herd.stored = vec![Default::default(); 2];
        herd.note(1, Told::Stored { item: 3 });
        herd.note(1, Told::Refused { full: true, what: "full".into() });
        herd.note(0, Told::Refused { full: false, what: "other".into() });
        assert_eq!((herd.acknowledged(), herd.full, herd.errors), (1, 1, 1));
        assert_eq!(herd.first_error.as_deref(), Some("writer 1: full"));
    }
}
