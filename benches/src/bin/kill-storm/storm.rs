//! Rounds: a store, processes that write to it and die, and those that follow them.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use rand::RngExt;
use rand::rngs::SmallRng;

use store_core::WriteError;

use store_benches::forked::{Child, wait_for_end};
use store_benches::mortal::{Doom, Fate, Role, registered};
use store_benches::shared::zeroed;
use store_benches::stats::Latencies;

use crate::StoreArgs;
use crate::audit::{audit, lay_ballast, refill};
use crate::ledger::{Ledger, SLOTS};
use crate::settings::Setting;
use crate::stores::Stores;
use crate::worker::Worker;

/// Kills between two audits.
const AUDIT_EVERY: u32 = 250;
/// A process that lives for so long stands still.
const LIFE_MAX: Duration = Duration::from_secs(60);
const GUARD_DEADLINE: Duration = Duration::from_secs(30);
/// What a keeper sweeps and cleans each time, as `store-server` does, and how long it then waits.
const BUCKETS_SWEPT: u64 = 16_384;
const EXTENTS_CLEANED: u32 = 64;
const FREE_PART: u32 = 16;
const KEEPER_PAUSE: Duration = Duration::from_micros(100);

/// What was seen in all rounds.
pub(crate) struct Seen {
    pub(crate) kills: u32,
    pub(crate) while_holding: u32,
    /// Of these, by their own hand.
    pub(crate) self_inflicted: u32,
    pub(crate) by_peers: u64,
    pub(crate) by_upkeep: u64,
    /// Rounds of cleaning that somebody's guard ended.
    pub(crate) upkeep_stuck: u64,
    /// From when the guard was needed, and from the death.
    pub(crate) recovery: Latencies,
    pub(crate) since_death: Latencies,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Extents that cleaning emptied, items that were evicted, buckets that were split.
    pub(crate) emptied: u64,
    pub(crate) evicted: u64,
    pub(crate) split: u64,
    pub(crate) audits: u32,
    pub(crate) violations: u64,
    pub(crate) wrong: u64,
    pub(crate) refill_percent: f64,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            kills: 0,
            while_holding: 0,
            self_inflicted: 0,
            by_peers: 0,
            by_upkeep: 0,
            upkeep_stuck: 0,
            recovery: Latencies::new(),
            since_death: Latencies::new(),
            acknowledged: 0,
            refused: 0,
            emptied: 0,
            evicted: 0,
            split: 0,
            audits: 0,
            violations: 0,
            wrong: 0,
            refill_percent: 100.0,
        }
    }

    /// What each round is told of by: kills, recoveries of both kinds, and what the store did.
    pub(crate) fn counts(&self) -> [u64; 6] {
        let kills = self.kills.into();
        [kills, self.by_peers, self.by_upkeep, self.emptied, self.evicted, self.split]
    }
}

/// A process in a slot.
struct Victim {
    child: Child,
    started: Instant,
    /// When it is killed from outside, if it is not to die by itself.
    kill_at: Option<Instant>,
    killed: bool,
}

/// One round.
pub(crate) struct Round<'a> {
    pub(crate) setting: &'static Setting,
    pub(crate) stores: Stores,
    pub(crate) ledger: &'static Ledger,
    ballast: u32,
    /// Of the index, at the beginning.
    buckets: u64,
    /// Recovery so far.
    slowest: Duration,
    rng: &'a mut SmallRng,
    seen: &'a mut Seen,
    victims: [Option<Victim>; SLOTS],
    keeper: Option<Child>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(
        setting: &'static Setting,
        args: StoreArgs,
        rng: &'a mut SmallRng,
        seen: &'a mut Seen,
    ) -> Result<Self> {
        let stores = Stores::create(setting, args)?;
        let ballast = lay_ballast(setting, &stores)?;
        let buckets = stores.base.stats()?.buckets;
        let ledger = zeroed()?;
        let victims = [const { None }; SLOTS];
        Ok(Self {
            setting,
            stores,
            ledger,
            ballast,
            buckets,
            slowest: Duration::ZERO,
            rng,
            seen,
            victims,
            keeper: None,
        })
    }

    /// Kills so many processes, with audits in between.
    pub(crate) fn kill(&mut self, kills: u32, with_keeper: bool, bar: &ProgressBar) -> Result<()> {
        let end = self.seen.kills + kills;
        while self.seen.kills < end {
            if with_keeper {
                self.start_keeper()?;
            }
            let next_audit = end.min(self.seen.kills + AUDIT_EVERY - SLOTS as u32);
            while self.seen.kills < next_audit {
                self.turn()?;
                bar.set_position(self.seen.kills.into());
            }
            self.kill_all()?;
            self.audit()?;
        }
        Ok(())
    }

    /// Fills empty slots, waits for an end, and kills whose time has come.
    fn turn(&mut self) -> Result<()> {
        for number in 0..SLOTS {
            if self.victims[number].is_none() {
                self.victims[number] = Some(self.start(number as u8)?);
            }
        }
        let now = Instant::now();
        let due = self.victims.iter().flatten().filter(|victim| !victim.killed);
        let due = due.map(|victim| victim.kill_at.unwrap_or(victim.started + LIFE_MAX)).min();
        let within = due.map_or(LIFE_MAX, |due| due.saturating_duration_since(now));
        self.bury_within(within)?;
        let now = Instant::now();
        for (victim, slot) in self.victims.iter_mut().zip(&self.ledger.slots) {
            let Some(victim) = victim.as_mut().filter(|victim| !victim.killed) else { continue };
            if victim.kill_at.is_some_and(|due| due <= now) {
                self.ledger.graves.bury(&slot.life);
                victim.child.signal(Signal::SIGKILL)?;
                victim.killed = true;
            } else if now - victim.started > LIFE_MAX {
                let held = self.stores.base.held_guards();
                bail!("process {} does not go on; held: {held:?}", victim.child.pid());
            }
        }
        Ok(())
    }

    /// Waits for ends for so long, and counts those that came.
    fn bury_within(&mut self, within: Duration) -> Result<()> {
        let living = self.victims.iter().flatten().map(|victim| &victim.child);
        let ended = wait_for_end(living, within)?;
        let living = self.victims.iter_mut().zip(&self.ledger.slots);
        let living = living.filter(|(victim, _)| victim.is_some());
        for ((victim, slot), ended) in living.zip(ended) {
            if let Some(victim) = victim.take_if(|_| ended) {
                let status = victim.child.reap()?;
                ensure!(
                    matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
                    "a process ended otherwise than it was to: {status:?}"
                );
                self.seen.kills += 1;
                let held = slot.life.holds_a_guard();
                self.seen.while_holding += u32::from(held);
                self.seen.self_inflicted += u32::from(held && !victim.killed);
            }
        }
        Ok(())
    }

    fn start(&mut self, number: u8) -> Result<Victim> {
        let doom = match self.rng.random_range(0..100) {
            // Now and then early, so that those who mend die too.
            0..20 => Doom::AtGuardedStore(self.rng.random_range(1..=12)),
            20..70 => Doom::AtGuardedStore(self.rng.random_range(1..=600)),
            70..80 => Doom::AtStore(self.rng.random_range(1..=1500)),
            _ => Doom::Never,
        };
        let started = Instant::now();
        let kill_at = (doom == Doom::Never)
            .then(|| started + Duration::from_micros(self.rng.random_range(300..4000)));
        let child = self.fork(number, doom, Signal::SIGKILL, GUARD_DEADLINE)?;
        Ok(Victim { child, started, kill_at, killed: false })
    }

    /// Forks a process that writes.
    pub(crate) fn fork(
        &mut self,
        number: u8,
        doom: Doom,
        signal: Signal,
        guard_deadline: Duration,
    ) -> Result<Child> {
        let (ledger, seed) = (self.ledger, self.rng.random());
        let life = &ledger.slots[usize::from(number)].life;
        life.begin();
        let (setting, stores) = (self.setting, &self.stores);
        let worker = Worker { setting, stores, ledger, number, seed, guard_deadline };
        Child::start(|| {
            Fate::new(life, &ledger.graves, Role::Peer).doom(doom, signal).begin();
            worker.live()
        })
    }

    fn start_keeper(&mut self) -> Result<()> {
        let (stores, ledger) = (&self.stores, self.ledger);
        ledger.keeper.begin();
        self.keeper = Some(Child::start(|| keep(stores, ledger))?);
        Ok(())
    }

    /// Ends all processes of the round.
    pub(crate) fn kill_all(&mut self) -> Result<()> {
        for (victim, slot) in self.victims.iter_mut().zip(&self.ledger.slots) {
            if let Some(victim) = victim {
                self.ledger.graves.bury(&slot.life);
                victim.child.signal(Signal::SIGKILL)?;
                victim.killed = true;
            }
        }
        while self.victims.iter().any(Option::is_some) {
            self.bury_within(LIFE_MAX)?;
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.signal(Signal::SIGKILL)?;
            let status = keeper.reap()?;
            let killed = matches!(status, WaitStatus::Signaled(..));
            ensure!(killed, "the keeper ended otherwise than it was to: {status:?}");
        }
        Ok(())
    }

    /// Looks at everything. Nobody may be writing.
    pub(crate) fn audit(&mut self) -> Result<()> {
        let found = audit(&self.stores, self.ledger, self.ballast)?;
        if found > 0 {
            eprintln!("after {} kills, in the setting {:?}", self.seen.kills, self.setting.name);
        }
        self.seen.violations += found;
        self.seen.audits += 1;
        for recovery in self.ledger.graves.drain() {
            self.seen.recovery.record(recovery.since_needed);
            self.seen.since_death.record(recovery.since_death);
            self.slowest = self.slowest.max(recovery.since_needed);
        }
        Ok(())
    }

    /// Adds what was counted in the round, and sees whether the store can be filled again. Gives the
    /// slowest recovery.
    pub(crate) fn conclude(self) -> Result<Duration> {
        let graves = &self.ledger.graves;
        self.seen.by_peers += graves.taken_over(Role::Peer);
        self.seen.by_upkeep += graves.taken_over(Role::Upkeep);
        self.seen.wrong += self.ledger.wrong();
        self.seen.upkeep_stuck += self.ledger.upkeep_stuck.load(Ordering::Relaxed);
        for slot in &self.ledger.slots {
            self.seen.acknowledged += slot.acknowledged.load(Ordering::Relaxed);
            self.seen.refused += slot.refused.load(Ordering::Relaxed);
        }
        let stats = self.stores.base.stats()?;
        self.seen.emptied += stats.emptied;
        self.seen.evicted +=
            stats.eviction.map_or(0, |gone| gone.evicted_small + gone.evicted_main);
        self.seen.split += stats.buckets - self.buckets;
        if !self.setting.evicts() {
            let percent = refill(&self.stores)?;
            self.seen.refill_percent = self.seen.refill_percent.min(percent);
        }
        Ok(self.slowest)
    }
}

/// Does what the upkeep of `store-server` does, more often.
fn keep(stores: &Stores, ledger: &'static Ledger) -> Result<()> {
    Fate::new(&ledger.keeper, &ledger.graves, Role::Upkeep).begin();
    let store = &stores.base;
    let session = store.open_session().context("registering")?;
    registered(&ledger.keeper, &ledger.graves, session.client());
    for turn in 0_u64.. {
        store.reap(&session).context("reaping")?;
        if turn.is_multiple_of(64) {
            store.sweep(&session, BUCKETS_SWEPT).context("sweeping")?;
            let stats = store.stats()?;
            if stats.extents_uncommissioned == 0 && stats.extents_free < stats.extents / FREE_PART {
                match store.clean(&session, EXTENTS_CLEANED) {
                    Ok(_) => {}
                    // `store-server` says so in its log, and goes on.
                    Err(WriteError::Stuck { .. }) => {
                        ledger.upkeep_stuck.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error).context("cleaning"),
                }
            }
        }
        thread::sleep(KEEPER_PAUSE);
    }
    Ok(())
}
