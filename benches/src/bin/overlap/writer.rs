//! A writer process: random writes on all classes of keys, and a ledger of what was acknowledged.

use std::time::Instant;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_benches::records::{SEQ_MAX, Stamp, fill, verify};
use store_benches::tally::Tally;
use store_benches::worker::{Handle, Parent};
use store_client::{PutOptions, Swapped, Writer};

use crate::keyset::{Acknowledged, Class, FIRST_SEQ, Keyset, number, value_len};
use crate::{Attached, Done, Job};

/// Writes between two looks at the clock.
const STRIDE: usize = 64;

pub(crate) fn run(job: &Job, id: u8, store: Handle, parent: &mut Parent) -> Result<()> {
    let store = store.writer().context("attaching to write")?;
    let mut process = Process {
        store,
        id,
        keyset: Keyset::new(job.shape),
        acknowledged: Acknowledged::none(id, job.shape),
        tally: Tally::default(),
        seq: FIRST_SEQ,
        value: Vec::new(),
        rng: SmallRng::seed_from_u64(job.seed),
    };
    parent.tell(&Attached)?;
    parent.await_go()?;
    let start = Instant::now();
    while start.elapsed() < job.duration() && process.seq < SEQ_MAX - STRIDE as u32 {
        for _ in 0..STRIDE {
            process.write_once();
        }
    }
    let Process { tally, acknowledged, .. } = process;
    parent.tell(&Done { tally, acknowledged: Some(acknowledged) })
}

struct Process {
    store: Writer,
    id: u8,
    keyset: Keyset,
    acknowledged: Acknowledged,
    tally: Tally,
    /// Of the last value made; rises with each, stored or not.
    seq: u32,
    value: Vec<u8>,
    rng: SmallRng,
}

impl Process {
    fn write_once(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => self.overwrite(),
            35..65 => self.roam(),
            65..80 => self.write_and_read_back(),
            80..92 => self.count(),
            _ => self.vote(),
        }
    }

    fn pick(&mut self, class: Class) -> (usize, Vec<u8>) {
        let keys = self.keyset.of(class);
        let index = self.rng.random_range(0..keys.len());
        (index, keys[index].clone())
    }

    /// Leaves a new value in `self.value`, and returns its sequence number.
    fn make_value(&mut self, key: &[u8]) -> u32 {
        self.seq += 1;
        let stamp = Stamp { writer: self.id, seq: self.seq };
        fill(&mut self.value, key, stamp, value_len(key, stamp));
        self.seq
    }

    fn overwrite(&mut self) {
        let (index, key) = self.pick(Class::Always);
        let seq = self.make_value(&key);
        if self.tally.acknowledged(self.store.put(&key, &self.value)).is_some() {
            self.acknowledged.always[index] = seq;
        }
    }

    fn roam(&mut self) {
        let (index, key) = self.pick(Class::Roaming);
        let options = PutOptions::new();
        let kind = self.rng.random_range(0..10);
        if kind < 3 {
            // Absent already is as good: then nothing that this writer stored stands any longer.
            if self.tally.acknowledged(self.store.delete(&key)).is_some() {
                self.acknowledged.roaming[index] = 0;
            }
            return;
        }
        let seq = self.make_value(&key);
        let stored = match kind {
            3..6 => self.tally.acknowledged(self.store.put(&key, &self.value)).is_some(),
            6..8 => {
                let added = self.store.add(&key, &self.value, &options);
                self.tally.acknowledged(added) == Some(true)
            }
            8 => {
                let replaced = self.store.replace(&key, &self.value, &options);
                self.tally.acknowledged(replaced) == Some(true)
            }
            _ => self.swap(&key),
        };
        if stored {
            self.acknowledged.roaming[index] = seq;
        }
    }

    /// Swaps the value that stands, if there is one, for the one that was made.
    fn swap(&mut self, key: &[u8]) -> bool {
        let Some(Some(entry)) = self.tally.answer(self.store.get_entry(key)) else { return false };
        self.tally.reads += 1;
        if let Err(torn) = verify(key, &entry.value) {
            self.tally.torn(torn.to_string());
        }
        let swapped =
            self.store.compare_and_swap(key, entry.version, &self.value, &PutOptions::new());
        self.tally.acknowledged(swapped) == Some(Swapped::Done)
    }

    /// A key of this writer's own: what it just put is what it must read.
    fn write_and_read_back(&mut self) {
        let (index, key) = self.pick(Class::Private(self.id));
        let seq = self.make_value(&key);
        if self.tally.acknowledged(self.store.put(&key, &self.value)).is_none() {
            return;
        }
        self.acknowledged.private[index] = seq;
        let name = String::from_utf8_lossy(&key);
        match self.tally.answer(self.store.get(&key)) {
            Some(Some(found)) if found == self.value => self.tally.reads += 1,
            Some(Some(found)) => match verify(&key, &found) {
                Ok(stamp) => self.tally.lost(format!("put {seq} of {name}, read back {stamp:?}")),
                Err(torn) => self.tally.torn(torn.to_string()),
            },
            Some(None) => self.tally.lost(format!("put {seq} of {name}, read back nothing")),
            None => {}
        }
    }

    fn count(&mut self) {
        let (index, key) = self.pick(Class::Counter);
        if self.tally.acknowledged(self.store.incr(&key, 1)).is_some() {
            self.acknowledged.counters[index] += 1;
        }
    }

    /// Raises a number by compare-and-swap until it succeeds, or for some attempts.
    fn vote(&mut self) {
        const ATTEMPTS: usize = 100;
        let (index, key) = self.pick(Class::Ballot);
        for _ in 0..ATTEMPTS {
            let entry = match self.tally.answer(self.store.get_entry(&key)) {
                Some(Some(entry)) => entry,
                Some(None) => return self.tally.missed(&key),
                None => return,
            };
            self.tally.reads += 1;
            let Some(votes) = number(&entry.value) else {
                return self.tally.torn(format!("a ballot reads {:?}", entry.value));
            };
            let raised = (votes + 1).to_string();
            let options = PutOptions::new();
            let swapped =
                self.store.compare_and_swap(&key, entry.version, raised.as_bytes(), &options);
            match self.tally.acknowledged(swapped) {
                Some(Swapped::Done) => return self.acknowledged.ballots[index] += 1,
                Some(Swapped::Changed(_)) => {}
                Some(Swapped::Absent) => return self.tally.missed(&key),
                None => return,
            }
        }
    }
}
