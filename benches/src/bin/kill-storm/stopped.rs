//! A process that is stopped while it holds a guard is not robbed of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use store_core::{Condition, HeldGuard, PutOptions, Session, WriteError};

use store_benches::forked::Child;
use store_benches::mortal::Doom;

use crate::content::ballast_key;
use crate::ledger::SLOTS;
use crate::storm::Round;

/// How long writes wait for a guard meanwhile: longer than a busy machine keeps another holder off
/// its processors, who would be named, and rightly.
const DEADLINE: Duration = Duration::from_millis(250);
/// Keys enough to need every guard.
const PROBES: u32 = 500;
/// The guarded store before which it stops, the first time that it is tried.
const STOPS_AT: u64 = 30;
const ATTEMPTS: u64 = 100;

/// What was seen of those who needed the guard.
#[derive(Default)]
pub(crate) struct Stopped {
    /// Writes that were told `Stuck` with the pid of the stopped one.
    pub(crate) stuck: u64,
    /// With another.
    pub(crate) wrong_pid: u64,
    /// Looks at the guard that found it free, or another's.
    pub(crate) robbed: u64,
}

/// Stops one of the writers while it holds a guard, for so long, and lets it go on.
pub(crate) fn stop_one(round: &mut Round<'_>, length: Duration) -> Result<Stopped> {
    let (stopped, held) = stop_holding(round)?;
    let ledger = round.ledger;
    ledger.stopped_pid.store(stopped.pid().into(), Ordering::Release);
    let mut others = Vec::new();
    for number in 1..SLOTS as u8 {
        others.push(round.fork(number, Doom::Never, Signal::SIGKILL, DEADLINE)?);
    }
    let store = &round.stores.base;
    let session = store.open_session()?;
    session.set_guard_deadline(DEADLINE);
    let mut seen = Stopped::default();
    let end = Instant::now() + length;
    for number in (0..PROBES).cycle() {
        if Instant::now() >= end {
            break;
        }
        probe(round, &session, &stopped, number, &mut seen)?;
        seen.robbed += u64::from(store.reap(&session)?.guards);
        seen.robbed += u64::from(!is_held(&store.held_guards()?, &held));
    }
    stopped.signal(Signal::SIGCONT)?;
    session.set_guard_deadline(Duration::from_secs(5));
    let mut after = Stopped::default();
    for number in 0..PROBES {
        probe(round, &session, &stopped, number, &mut after)?;
    }
    ensure!(after.stuck + after.wrong_pid == 0, "a write was stuck after SIGCONT");
    store.close_session(&session)?;
    seen.stuck += ledger.stuck.load(Ordering::Acquire);
    seen.wrong_pid += ledger.wrong_pid.load(Ordering::Acquire);
    ledger.stopped_pid.store(0, Ordering::Release);
    for child in others.into_iter().chain([stopped]) {
        child.signal(Signal::SIGKILL)?;
        child.reap()?;
    }
    Ok(seen)
}

/// Starts a writer that stops while it holds the guard of a stripe.
fn stop_holding(round: &mut Round<'_>) -> Result<(Child, HeldGuard)> {
    for attempt in 0..ATTEMPTS {
        let doom = Doom::AtGuardedStore(STOPS_AT + attempt);
        let stopped = round.fork(0, doom, Signal::SIGSTOP, DEADLINE)?;
        stopped.await_stop()?;
        let held = round.stores.base.held_guards()?;
        if let Some(held) = held.into_iter().find(|held| held.pid == stopped.pid()) {
            return Ok((stopped, held));
        }
        // Another kind of guard: a cleaner's.
        stopped.signal(Signal::SIGKILL)?;
        stopped.reap()?;
    }
    bail!("no writer stopped with the guard of a stripe in {ATTEMPTS} attempts")
}

/// Puts and deletes a key; [`PROBES`] of them are of every stripe.
fn probe(
    round: &Round<'_>,
    session: &Session,
    stopped: &Child,
    number: u32,
    seen: &mut Stopped,
) -> Result<()> {
    let store = &round.stores.base;
    // Behind those that stand for good.
    let key = ballast_key(1_000_000 + number);
    let put = store.put(session, &key, b"probe", &PutOptions::new(), Condition::Always);
    match put.and_then(|_| store.delete(session, &key)) {
        Ok(_) => {}
        Err(WriteError::Stuck { pid, .. }) if pid == stopped.pid() => seen.stuck += 1,
        Err(WriteError::Stuck { pid, waited }) => {
            println!("told that {pid} holds a guard after {waited:?}");
            seen.wrong_pid += 1;
        }
        Err(error) => return Err(error).context("a write beside a stopped process"),
    }
    Ok(())
}

fn is_held(held: &[HeldGuard], by: &HeldGuard) -> bool {
    held.iter().any(|held| (held.stripe, held.client, held.pid) == (by.stripe, by.client, by.pid))
}
