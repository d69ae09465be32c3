//! One round: lay out, start a victim, stop it inside a guard, then kill it or let it go on.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::SmallRng;

use store_benches::records::{Stamp, fill, verify};
use store_benches::stats::millis;
use store_benches::tally::Tally;
use store_benches::worker::{Crew, PATIENCE, Worker};
use store_client::WriteError;

use crate::plan::{Kind, LAYER, Plan, RESCUER, State, value_len};
use crate::{Attached, Role};

/// How often a victim is stopped to find it inside a guard, before it is taken as it is.
const ATTEMPTS: u32 = 3000;
const STOPPED_FOR: Duration = Duration::from_secs(2);
const SHORT_DEADLINE: Duration = Duration::from_millis(300);
/// The deadline that a writer has unless told otherwise.
const USUAL_DEADLINE: Duration = Duration::from_secs(5);

/// What all rounds together showed.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) kills: u32,
    pub(crate) while_holding: u32,
    /// The slowest write after each kill.
    pub(crate) recoveries_ms: Vec<f64>,
    pub(crate) stuck_rounds: u32,
    pub(crate) robbed: u32,
    pub(crate) wrong_pid: u32,
    /// The slowest write under another guard than the one that a stopped process held.
    pub(crate) bystander_max_ms: f64,
    pub(crate) violations: u64,
    pub(crate) tally: Tally,
}

pub(crate) struct Rounds<'a> {
    pub(crate) crew: Crew<Role>,
    pub(crate) plan: &'a Plan,
    pub(crate) rng: SmallRng,
    pub(crate) seen: Seen,
}

impl Rounds<'_> {
    /// Every key as the plan begins with.
    pub(crate) fn lay_out(&self) -> Result<()> {
        for (kind, key) in &self.plan.keys {
            if *kind == Kind::Roaming {
                self.crew.writer().delete(key).context("deleting before a round")?;
            } else {
                self.write(*kind, key, LAYER).context("putting before a round")?;
            }
        }
        Ok(())
    }

    fn write(&self, kind: Kind, key: &[u8], writer: u8) -> Result<(), WriteError> {
        if kind == Kind::Counter {
            return self.crew.writer().put(key, b"0").map(drop);
        }
        let mut value = Vec::new();
        let stamp = Stamp { writer, seq: 0 };
        fill(&mut value, key, stamp, value_len(stamp));
        self.crew.writer().put(key, &value).map(drop)
    }

    /// A victim that is killed while it holds a guard; whoever comes next must not notice much.
    pub(crate) fn kill(&mut self, number: u32, stays_zombie: bool) -> Result<()> {
        let (mut victim, holding) = self.stopped_victim()?;
        victim.kill()?;
        if !stays_zombie {
            victim.reap(PATIENCE)?;
        }
        self.seen.kills += 1;
        self.seen.while_holding += u32::from(holding);

        let mut found = Vec::with_capacity(self.plan.keys.len());
        let mut slowest = Duration::ZERO;
        for (kind, key) in &self.plan.keys {
            found.push(self.look(*kind, key));
            let start = Instant::now();
            let written = self.write(*kind, key, RESCUER);
            slowest = slowest.max(start.elapsed());
            self.seen.tally.acknowledged(written);
        }
        if stays_zombie {
            victim.reap(PATIENCE)?;
        }
        self.seen.recoveries_ms.push(millis(slowest));
        if let Err(why) = self.plan.explain(&found) {
            self.seen.tally.lost(format!("round {number}: {why}"));
        }
        eprintln!(
            "round {number}: killed {}, next writer on within {} ms",
            if holding { "holding a guard" } else { "anywhere" },
            millis(slowest)
        );
        self.end_round(number)?;
        Ok(())
    }

    /// A victim that is only stopped while it holds a guard: nobody may be let in.
    pub(crate) fn stop_only(&mut self, number: u32) -> Result<()> {
        let (mut victim, holding) = self.stopped_victim()?;
        let stopped = Instant::now();
        if holding {
            self.crew.writer().set_guard_deadline(SHORT_DEADLINE)?;
            let refused = self.first_refused(victim.pid());
            let refused = refused.map(|place| &self.plan.keys[place]);
            if let Some((kind, key)) = refused {
                self.seen.stuck_rounds += 1;
                while stopped.elapsed() < STOPPED_FOR {
                    self.must_be_refused(*kind, key, victim.pid());
                }
            } else {
                // The victim writes nothing but these keys, so its guard is over one of them.
                self.seen.robbed += 1;
            }
            self.crew.writer().set_guard_deadline(USUAL_DEADLINE)?;
            victim.resume()?;
            if let Some((kind, key)) = refused {
                let written = self.write(*kind, key, RESCUER);
                written.context("writing after the stopped process was let go on")?;
            }
        }
        eprintln!(
            "round {number}: stopped {} for {:.1?}",
            if holding { "holding a guard" } else { "but never found holding" },
            stopped.elapsed()
        );
        // Killed at work, so it may hold a guard once more: going over all keys takes it over.
        victim.kill()?;
        victim.reap(PATIENCE)?;
        for (kind, key) in &self.plan.keys {
            let written = self.write(*kind, key, RESCUER);
            self.seen.tally.acknowledged(written);
        }
        self.end_round(number)?;
        Ok(())
    }

    /// The first key, by its place in the plan, that can't be written while `pid` is stopped.
    fn first_refused(&mut self, pid: u32) -> Option<usize> {
        for (place, (kind, key)) in self.plan.keys.iter().enumerate() {
            let start = Instant::now();
            match self.write(*kind, key, RESCUER) {
                Ok(()) => {
                    let took = millis(start.elapsed());
                    self.seen.bystander_max_ms = self.seen.bystander_max_ms.max(took);
                }
                Err(WriteError::Stuck { pid: by, .. }) => {
                    self.seen.wrong_pid += u32::from(by != pid);
                    return Some(place);
                }
                Err(error) => self.seen.tally.error(error.to_string()),
            }
        }
        None
    }

    fn must_be_refused(&mut self, kind: Kind, key: &[u8], pid: u32) {
        match self.write(kind, key, RESCUER) {
            Err(WriteError::Stuck { pid: by, .. }) => {
                self.seen.wrong_pid += u32::from(by != pid);
            }
            Ok(()) => self.seen.robbed += 1,
            Err(error) => self.seen.tally.error(error.to_string()),
        }
    }

    /// A fresh victim, standing still; and whether it holds a guard.
    fn stopped_victim(&mut self) -> Result<(Worker, bool)> {
        self.lay_out()?;
        let mut victim = self.crew.start(&Role::Victim)?;
        victim.receive::<Attached>(PATIENCE)?;
        for attempt in 1..=ATTEMPTS {
            thread::sleep(Duration::from_micros(self.rng.random_range(20..400)));
            victim.stop()?;
            let holding =
                self.crew.writer().held_guards()?.iter().any(|held| held.pid == victim.pid());
            if holding || attempt == ATTEMPTS {
                return Ok((victim, holding));
            }
            victim.resume()?;
        }
        unreachable!("the last attempt returns")
    }

    /// The state of a key, unless the lookup found no quiet moment.
    fn look(&mut self, kind: Kind, key: &[u8]) -> Option<State> {
        let found = self.seen.tally.answer(self.crew.writer().get(key))?;
        self.seen.tally.reads += 1;
        let Some(value) = found else {
            if kind != Kind::Roaming {
                self.seen.tally.missed(key);
            }
            return Some(State::Absent);
        };
        if kind == Kind::Counter {
            let number = str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            if number.is_none() {
                self.seen.tally.torn(format!("a counter reads {value:?}"));
            }
            return number.map(State::Number);
        }
        match verify(key, &value) {
            Ok(stamp) => Some(State::Value(stamp)),
            Err(torn) => {
                self.seen.tally.torn(torn.to_string());
                None
            }
        }
    }

    fn end_round(&mut self, number: u32) -> Result<()> {
        let checked = self.crew.writer().check(|_, _| {});
        self.seen.violations += checked.violations_total;
        for violation in &checked.violations {
            eprintln!("round {number}, check: {violation}");
        }
        for held in self.crew.writer().held_guards()? {
            let (pid, stripe) = (held.pid, held.stripe);
            self.seen.tally.error(format!("after round {number}, {pid} holds stripe {stripe}"));
        }
        Ok(())
    }
}
