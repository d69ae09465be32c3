//! What must hold when all who wrote are dead.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};

use store_core::{Condition, PutOptions, Session, WriteError};

use store_benches::mortal::{self, Fate, Role};

use crate::common::SHARED_KEYS;
use crate::content::{ballast_key, read, read_number, rolling_key, shared_counter, shared_key};
use crate::ledger::{COUNTERS, Ledger, SLOTS, State};
use crate::settings::Setting;
use crate::stores::Stores;
use crate::worker::{rolling_value, settle};

/// Of the rolling keys of a slot, those that are looked at where some may be gone.
const ROLLING_LOOKED_AT: u64 = 500;
const BALLAST_BYTES: usize = 700;
/// Several to an extent, so that little of each stays unused.
const REFILL_BYTES: usize = 440;
/// Passes until the dead must be reaped.
const PASSES_MAX: u32 = 20;

/// Puts what stands from beginning to end; how many keys.
pub(crate) fn lay_ballast(setting: &Setting, stores: &Stores) -> Result<u32> {
    let session = stores.base.open_session()?;
    let arena = stores.base.stats()?.arena_bytes;
    let keys = arena / 100 * setting.ballast_percent / BALLAST_BYTES as u64;
    let keys = u32::try_from(keys)?;
    for number in 0..keys {
        let key = ballast_key(number);
        let value = rolling_value(&key, BALLAST_BYTES);
        stores.base.put(&session, &key, &value, &PutOptions::new(), Condition::Always)?;
    }
    stores.base.close_session(&session)?;
    Ok(keys)
}

/// Reaps the dead, then looks at everything; violations that `check` found.
pub(crate) fn audit(stores: &Stores, ledger: &'static Ledger, ballast: u32) -> Result<u64> {
    Fate::new(&ledger.keeper, &ledger.graves, Role::Upkeep).begin();
    let session = stores.base.open_session()?;
    reap_all(stores, ledger, &session)?;
    mortal::forget();
    for number in 0..SLOTS as u8 {
        settle(stores, ledger, number)?;
        look_at_rolling(stores, ledger, number)?;
    }
    look_at_shared(stores, ledger)?;
    for number in 0..ballast {
        let key = ballast_key(number);
        if stores.base.get(&key)? != Some(rolling_value(&key, BALLAST_BYTES)) {
            ledger.complain(&format!("ballast key {number} is not what it was"));
        }
    }
    let checked = stores.base.check(|_, _| {});
    for violation in &checked.violations {
        eprintln!("check: {violation}");
    }
    stores.base.close_session(&session)?;
    Ok(checked.violations_total)
}

fn reap_all(stores: &Stores, ledger: &Ledger, session: &Session) -> Result<()> {
    for _ in 0..PASSES_MAX {
        stores.base.reap(session)?;
        // Guards of a client whose entry another one took, and died too soon to release them, are
        // left for those who need them.
        if stores.base.clients()?.len() == 1 {
            return Ok(());
        }
    }
    ledger.complain(&format!("dead clients are there after {PASSES_MAX} passes of a reaper"));
    Ok(())
}

fn look_at_rolling(stores: &Stores, ledger: &Ledger, number: u8) -> Result<()> {
    let slot = &ledger.slots[usize::from(number)];
    let keys = stores.rolling();
    let (head, tail) = (slot.head.load(Ordering::Acquire), slot.tail.load(Ordering::Acquire));
    let from =
        if keys.may_vanish { tail.max(head.saturating_sub(ROLLING_LOOKED_AT)) } else { tail };
    for at in from..head {
        let key = rolling_key(number, at);
        match keys.store.get(&key)? {
            Some(value) if value == rolling_value(&key, value.len()) => {}
            Some(_) => ledger.complain(&format!("rolling key {at} of slot {number} is torn")),
            None if keys.may_vanish => {}
            None => ledger.complain(&format!(
                "rolling key {at} of slot {number} is lost, of {tail} to {head}"
            )),
        }
    }
    // What was deleted does not come back.
    for at in tail.saturating_sub(ROLLING_LOOKED_AT)..tail {
        if keys.store.contains(&rolling_key(number, at))? {
            ledger.complain(&format!("rolling key {at} of slot {number} was deleted and is there"));
        }
    }
    Ok(())
}

fn look_at_shared(stores: &Stores, ledger: &Ledger) -> Result<()> {
    for index in 0..SHARED_KEYS {
        let key = shared_key(index);
        if let Some(value) = stores.of(index).store.get(&key)?
            && let Err(torn) = read(&key, &value)
        {
            ledger.complain(&torn);
        }
    }
    for index in 0..COUNTERS {
        let (key, keys) = (shared_counter(index), stores.of(index));
        let number = match keys.store.get(&key)? {
            Some(value) => read_number(&key, &value),
            None => Ok(State::Number(0)),
        };
        let added = ledger.slots.iter().map(|slot| slot.added(index));
        let (least, more) = added.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        match number {
            Ok(State::Number(number)) if !keys.may_vanish => {
                let range = least as i64..=(least + more) as i64;
                if !range.contains(&number) {
                    ledger.complain(&format!("sum {index} is {number}, not within {range:?}"));
                }
            }
            Ok(_) => {}
            Err(wrong) => ledger.complain(&wrong),
        }
    }
    Ok(())
}

/// Empties a store and fills it again; how much of the arena's bytes the keys and values took, in
/// percent: what the dead had is to be had again.
pub(crate) fn refill(stores: &Stores) -> Result<f64> {
    let store = &stores.base;
    let session = store.open_session()?;
    store.clear(&session).context("emptying the store")?;
    let mut bytes = 0;
    for number in 0.. {
        let key = ballast_key(number);
        let value = rolling_value(&key, REFILL_BYTES);
        match store.put(&session, &key, &value, &PutOptions::new(), Condition::Always) {
            Ok(_) => bytes += key.len() + value.len(),
            Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => break,
            Err(error) => bail!("filling the store again: {error}"),
        }
    }
    let arena = store.stats()?.arena_bytes;
    store.close_session(&session)?;
    Ok(bytes as f64 * 100.0 / arena as f64)
}
