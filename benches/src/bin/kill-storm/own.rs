//! Writes to the keys that only one slot writes: what each leads to is known before.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;

use store_core::{Condition, Deletion, Outcome, PutOptions, Ttl, WriteError};

use store_benches::shared::now_ns;

use crate::content::{RECORDS_MAX, own_key, read};
use crate::ledger::{Entry, Known, OWN_KEYS, State};
use crate::stores::Keys;
use crate::worker::{FLEETING_FROM, Living, is_number, settle_own};

/// How a write ended that was not refused for lack of room.
enum Done {
    Acknowledged,
    /// Its condition was false.
    Unchanged,
}

/// An own key, and what stands there.
#[derive(Clone, Copy)]
struct Own<'a> {
    key: &'a [u8],
    keys: Keys<'a>,
    entry: &'a Entry,
    known: Known,
}

impl Own<'_> {
    fn is_there(&self) -> bool {
        self.known.state != State::Absent
    }
}

impl Living<'_> {
    pub(crate) fn write_own(&mut self) -> Result<()> {
        let index = self.rng.random_range(0..OWN_KEYS);
        let worker = self.worker;
        let keys = worker.stores.of(index);
        let entry = &self.slot.entries[index];
        if keys.may_vanish || entry.known().gone_from_ns != 0 {
            // It may be gone by now.
            settle_own(worker.stores, worker.ledger, worker.number, index)?;
        }
        let key = own_key(worker.number, index);
        let own = Own { key: &key, keys, entry, known: entry.known() };
        if is_number(keys, index) {
            self.add_to_own(own)
        } else if index >= FLEETING_FROM {
            self.write_fleeting(own)
        } else {
            self.write_record(own)
        }
    }

    /// A write that leads to `next` if it is done.
    fn attempt(
        &self,
        own: Own<'_>,
        next: Known,
        write: impl FnOnce() -> Result<Done, WriteError>,
    ) -> Result<()> {
        own.entry.begin(next);
        match self.allowed(write())? {
            Some(Done::Acknowledged) => own.entry.commit(),
            Some(Done::Unchanged) | None => own.entry.abort(),
        }
        Ok(())
    }

    /// Complains about an answer that does not fit what stands, unless that may be gone.
    fn expect(&self, own: Own<'_>, fits: bool, answer: &str) {
        let may_be_gone = own.keys.may_vanish || own.known.gone_from_ns != 0;
        if !fits && !may_be_gone {
            self.complain(own.key, &format!("{answer}, though {:?} stands", own.known.state));
        }
    }

    fn add_to_own(&mut self, own: Own<'_>) -> Result<()> {
        if self.rng.random_ratio(1, 30) {
            return self.delete(own);
        }
        let number = match own.known.state {
            State::Number(number) => number,
            _ => 0,
        };
        let by = self.rng.random_range(-9_i64..=9);
        self.attempt(own, Known::lasting(State::Number(number + by)), || {
            let sum = own.keys.store.add_to(self.session, own.key, by.into())?;
            self.expect(own, sum == number + by, &format!("adding {by} gave {sum}"));
            Ok(Done::Acknowledged)
        })
    }

    fn write_record(&mut self, own: Own<'_>) -> Result<()> {
        match self.rng.random_range(0..20) {
            0..6 => self.put(own, PutOptions::new(), Condition::Always, None),
            6..8 => self.put(own, PutOptions::new(), Condition::Absent, None),
            8..10 => self.put(own, PutOptions::new(), Condition::Present, None),
            10..13 => self.swap(own),
            13..16 => self.append(own),
            16 => self.delete(own),
            17 => self.delete_version(own),
            18 => self.take(own),
            _ => self.exchange(own),
        }
    }

    fn write_fleeting(&mut self, own: Own<'_>) -> Result<()> {
        let millis = if self.rng.random() { self.rng.random_range(1..30) } else { 3_600_000 };
        let time = Duration::from_millis(millis);
        let gone_from_ns = now_ns() + time.as_nanos() as u64;
        let state = own.known.state;
        let (next, ttl) = match self.rng.random_range(0..6) {
            0..4 => {
                let options = PutOptions::new().ttl(time);
                return self.put(own, options, Condition::Always, Some(gone_from_ns));
            }
            4 => (Known { state, gone_from_ns }, Ttl::Left(time)),
            _ => (Known::lasting(state), Ttl::Never),
        };
        self.attempt(own, next, || {
            let there = own.keys.store.set_ttl(self.session, own.key, ttl)?;
            self.expect(own, there == own.is_there(), &format!("a time to live: {there}"));
            Ok(if there { Done::Acknowledged } else { Done::Unchanged })
        })
    }

    fn put(
        &mut self,
        own: Own<'_>,
        options: PutOptions,
        condition: Condition,
        gone_from_ns: Option<u64>,
    ) -> Result<()> {
        let state = self.fresh(own.key, false);
        let next = Known { state, gone_from_ns: gone_from_ns.unwrap_or(0) };
        self.attempt(own, next, || {
            let outcome =
                own.keys.store.put(self.session, own.key, &self.value, &options, condition)?;
            let fits = match outcome {
                Outcome::Inserted => !own.is_there() && condition != Condition::Present,
                Outcome::Replaced => own.is_there() && condition != Condition::Absent,
                Outcome::Refused(_) => match condition {
                    Condition::Always => false,
                    Condition::Absent => own.is_there(),
                    Condition::Present => !own.is_there(),
                    // Nobody else writes it.
                    Condition::Version(_) => false,
                },
            };
            self.expect(own, fits, &format!("a put, {condition:?}, gave {outcome:?}"));
            let refused = matches!(outcome, Outcome::Refused(_));
            Ok(if refused { Done::Unchanged } else { Done::Acknowledged })
        })
    }

    fn swap(&mut self, own: Own<'_>) -> Result<()> {
        let Some(entry) = own.keys.store.get_entry(own.key)? else {
            self.expect(own, !own.is_there(), "a lookup gave nothing");
            return Ok(());
        };
        self.put(own, PutOptions::new(), Condition::Version(entry.version), None)
    }

    fn append(&mut self, own: Own<'_>) -> Result<()> {
        let record = self.fresh(own.key, true);
        let next = match own.known.state {
            State::Record { appended, .. } if appended + 1 >= RECORDS_MAX => return self.take(own),
            State::Record { writer, seq, appended } => {
                State::Record { writer, seq, appended: appended + 1 }
            }
            _ => record,
        };
        if own.keys.may_vanish {
            // To what it would be appended can't be told.
            return self.delete(own);
        }
        self.attempt(own, Known::lasting(next), || {
            own.keys.store.append(self.session, own.key, &self.value)?;
            Ok(Done::Acknowledged)
        })
    }

    fn delete(&self, own: Own<'_>) -> Result<()> {
        self.attempt(own, Known::ABSENT, || {
            let deleted = own.keys.store.delete(self.session, own.key)?;
            self.expect(own, deleted == own.is_there(), &format!("a delete: {deleted}"));
            Ok(Done::Acknowledged)
        })
    }

    fn delete_version(&self, own: Own<'_>) -> Result<()> {
        let Some(entry) = own.keys.store.get_entry(own.key)? else {
            self.expect(own, !own.is_there(), "a lookup gave nothing");
            return Ok(());
        };
        self.attempt(own, Known::ABSENT, || {
            let deleted = own.keys.store.delete_if(self.session, own.key, entry.version)?;
            self.expect(own, deleted == Deletion::Done, &format!("its delete: {deleted:?}"));
            Ok(if deleted == Deletion::Done { Done::Acknowledged } else { Done::Unchanged })
        })
    }

    fn take(&self, own: Own<'_>) -> Result<()> {
        self.attempt(own, Known::ABSENT, || {
            let taken = own.keys.store.take(self.session, own.key)?;
            self.expect_value(own, taken, "taken");
            Ok(Done::Acknowledged)
        })
    }

    fn exchange(&mut self, own: Own<'_>) -> Result<()> {
        let next = Known::lasting(self.fresh(own.key, false));
        self.attempt(own, next, || {
            let options = PutOptions::new();
            let before =
                own.keys.store.get_and_put(self.session, own.key, &self.value, &options)?;
            self.expect_value(own, before, "replaced");
            Ok(Done::Acknowledged)
        })
    }

    fn expect_value(&self, own: Own<'_>, value: Option<Vec<u8>>, was: &str) {
        match value.map(|value| read(own.key, &value)) {
            Some(Err(torn)) => self.complain(own.key, &torn),
            // It may be gone, but nobody else writes it.
            Some(Ok(state)) if state != own.known.state => {
                let stands = own.known.state;
                self.complain(own.key, &format!("{state:?} was {was}, though {stands:?} stands"));
            }
            Some(Ok(_)) => {}
            None => self.expect(own, !own.is_there(), &format!("nothing was {was}")),
        }
    }
}
