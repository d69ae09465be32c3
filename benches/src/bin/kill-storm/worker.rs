//! A process that writes all kinds of things until it is killed, and keeps the ledger of its slot.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_core::{Condition, Outcome, PutOptions, ReadError, Session, WriteError};

use store_benches::appended::{append_stamp, fill, put_stamp};
use store_benches::mortal::{begin_operation, registered};

use crate::content::{own_key, rolling_key};
use crate::ledger::{ADDING, Ledger, OWN_KEYS, REMOVING, Slot, State};
use crate::settings::Setting;
use crate::stores::{Keys, Stores};

/// The first of the own keys that are numbers, and the first that live for a time.
const NUMBERS_FROM: usize = 6;
pub(crate) const FLEETING_FROM: usize = 9;

/// One life in a slot.
pub(crate) struct Worker<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) stores: &'a Stores,
    pub(crate) ledger: &'static Ledger,
    pub(crate) number: u8,
    pub(crate) seed: u64,
    pub(crate) guard_deadline: Duration,
}

impl Worker<'_> {
    /// Finds out what became of what its predecessor had in flight, registers, and writes.
    pub(crate) fn live(&self) -> Result<()> {
        settle(self.stores, self.ledger, self.number)?;
        begin_operation();
        let slot = &self.ledger.slots[usize::from(self.number)];
        let session = self.stores.base.open_session().context("registering")?;
        registered(&slot.life, &self.ledger.graves, session.client());
        session.set_guard_deadline(self.guard_deadline);
        let mut life = Living {
            worker: self,
            slot,
            session: &session,
            rng: SmallRng::seed_from_u64(self.seed),
            value: Vec::new(),
        };
        loop {
            begin_operation();
            match life.rng.random_range(0..100) {
                0..45 => life.write_own()?,
                45..75 => life.write_shared()?,
                75..95 => life.roll()?,
                _ => {
                    let index = life.rng.random_range(0..OWN_KEYS);
                    settle_own(self.stores, self.ledger, self.number, index)?;
                }
            }
        }
    }
}

/// Finds out what became of what was in flight in a slot whose process is dead, and sees whether all
/// else is as it was acknowledged.
pub(crate) fn settle(stores: &Stores, ledger: &Ledger, number: u8) -> Result<()> {
    for index in 0..OWN_KEYS {
        settle_own(stores, ledger, number, index)?;
    }
    let slot = &ledger.slots[usize::from(number)];
    let keys = stores.rolling();
    let there = |at: u64| keys.store.contains(&rolling_key(number, at));
    let (head, tail) = (slot.head.load(Ordering::Acquire), slot.tail.load(Ordering::Acquire));
    match slot.rolling.load(Ordering::Acquire) {
        // One that was put may have been evicted at once: its number is not used again either.
        ADDING if keys.may_vanish || there(head)? => slot.head.store(head + 1, Ordering::Release),
        REMOVING if !there(tail)? => slot.tail.store(tail + 1, Ordering::Release),
        _ => {}
    }
    slot.rolling.store(0, Ordering::Release);
    slot.settle_adding();
    Ok(())
}

/// The same for one of its own keys; also while its process lives and has nothing in flight.
pub(crate) fn settle_own(stores: &Stores, ledger: &Ledger, number: u8, index: usize) -> Result<()> {
    let (key, keys) = (own_key(number, index), stores.of(index));
    let found = match keys.store.get(&key)? {
        None => Ok(State::Absent),
        Some(value) => keys.read(is_number(keys, index), &key, &value),
    };
    let entry = &ledger.slots[usize::from(number)].entries[index];
    if let Err(wrong) = found.and_then(|found| entry.settle(found, keys.may_vanish)) {
        ledger.complain(&format!("own key {index} of slot {number} {wrong}"));
    }
    Ok(())
}

/// Numbers that may be evicted would begin anew, and their sums can't be told.
pub(crate) fn is_number(keys: Keys<'_>, index: usize) -> bool {
    (NUMBERS_FROM..FLEETING_FROM).contains(&index) && !keys.may_vanish
}

/// A worker at work.
pub(crate) struct Living<'a> {
    pub(crate) worker: &'a Worker<'a>,
    pub(crate) slot: &'a Slot,
    pub(crate) session: &'a Session,
    pub(crate) rng: SmallRng,
    /// What is put or appended next.
    pub(crate) value: Vec<u8>,
}

impl Living<'_> {
    /// Sorts what a write was told: none if it was refused for a reason that is allowed.
    pub(crate) fn allowed<T>(&self, result: Result<T, WriteError>) -> Result<Option<T>> {
        let ledger = self.worker.ledger;
        match result {
            Ok(answer) => {
                self.slot.acknowledged.fetch_add(1, Ordering::Relaxed);
                return Ok(Some(answer));
            }
            Err(
                WriteError::Full(_)
                | WriteError::QuotaFull { .. }
                | WriteError::IndexFull { .. }
                | WriteError::Read(ReadError::Contended { .. }),
            ) => {}
            Err(WriteError::Stuck { pid, .. })
                if ledger.stopped_pid.load(Ordering::Acquire) != 0 =>
            {
                let named = u64::from(pid) == ledger.stopped_pid.load(Ordering::Acquire);
                if !named {
                    println!("process {} was told that {pid} holds a guard", std::process::id());
                }
                let counted = if named { &ledger.stuck } else { &ledger.wrong_pid };
                counted.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => return Err(error).context("a write"),
        }
        self.slot.refused.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    pub(crate) fn complain(&self, key: &[u8], what: &str) {
        let key = String::from_utf8_lossy(key);
        self.worker.ledger.complain(&format!("{key}, slot {}: {what}", self.worker.number));
    }

    /// Makes the value of the next put under a key, or what is appended next.
    pub(crate) fn fresh(&mut self, key: &[u8], appends: bool) -> State {
        let make = if appends { append_stamp } else { put_stamp };
        let stamp = make(self.worker.number, self.slot.next_stamp());
        fill(&mut self.value, key, stamp);
        State::Record { writer: stamp.writer, seq: stamp.seq, appended: 0 }
    }

    /// One key more at one end, or one less at the other.
    fn roll(&mut self) -> Result<()> {
        let slot = self.slot;
        let (head, tail) = (slot.head.load(Ordering::Acquire), slot.tail.load(Ordering::Acquire));
        let keys = self.worker.stores.rolling();
        let setting = self.worker.setting;
        let adds = match head - tail {
            0 => true,
            stand if stand >= setting.rolling => false,
            // Where the index is to grow, more is added than deleted.
            _ => self.rng.random_range(0..4) > 0,
        };
        if !adds {
            return self.remove_at(tail, keys);
        }
        let key = rolling_key(self.worker.number, head);
        let len = self.rng.random_range(1..=setting.rolling_bytes);
        let value = rolling_value(&key, len);
        slot.rolling.store(ADDING, Ordering::Release);
        let (options, absent) = (PutOptions::new(), Condition::Absent);
        let put = keys.store.put(self.session, &key, &value, &options, absent);
        if let Some(outcome) = self.allowed(put)? {
            if outcome != Outcome::Inserted {
                self.complain(&key, "it was there before it was added");
            }
            slot.head.store(head + 1, Ordering::Release);
        } else if tail < head {
            // Whoever is told that there is no room makes some.
            slot.rolling.store(0, Ordering::Release);
            return self.remove_at(tail, keys);
        }
        slot.rolling.store(0, Ordering::Release);
        Ok(())
    }

    fn remove_at(&self, tail: u64, keys: Keys<'_>) -> Result<()> {
        let key = rolling_key(self.worker.number, tail);
        self.slot.rolling.store(REMOVING, Ordering::Release);
        if let Some(deleted) = self.allowed(keys.store.delete(self.session, &key))? {
            if !deleted && !keys.may_vanish {
                self.complain(&key, "it was gone before it was deleted");
            }
            self.slot.tail.store(tail + 1, Ordering::Release);
        }
        self.slot.rolling.store(0, Ordering::Release);
        Ok(())
    }
}

/// A value that its key and its length decide.
pub(crate) fn rolling_value(key: &[u8], len: usize) -> Vec<u8> {
    key.iter().copied().cycle().take(len).collect()
}
