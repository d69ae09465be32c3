//! What happens in the demo, act by act, each with its measurements and its verdict.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;
use store_client::{HeldGuard, WriteError};

use super::records::{self, Package};
use super::worker::Activity;
use super::{PATIENCE, Stage};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Format, Output};
use crate::process::Worker;

/// How long readers and writer work side by side.
const SIDE_BY_SIDE: Duration = Duration::from_secs(2);

/// How long the readers go on with a guard in a dead hand before anyone repairs it.
const WITH_DEAD_HOLDER: Duration = Duration::from_millis(500);

/// How long a writer waits for a holder that is only stopped.
const SHORT_DEADLINE: Duration = Duration::from_millis(50);

/// The promise: a writer goes on within this time after another died in a guard.
const REPAIR_LIMIT: Duration = Duration::from_millis(100);

/// A reader without a lookup for so long has stopped; the scheduler alone takes some ms now and then.
const GAP_LIMIT: Duration = Duration::from_secs(1);

/// How long the demo tries to catch a writer with a guard in its hand.
const CATCH_LIMIT: Duration = Duration::from_secs(20);

/// Updates of the parent carry numbers from here on, those of the victim from `VICTIM_ROUND` on.
const OWN_ROUND: u64 = 1_000_000;
const VICTIM_ROUND: &str = "1000";

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    store: String,
    cores: usize,
    records: usize,
    record_bytes: u64,
    load_ns: u64,
    readers: usize,
    side_by_side_ns: u64,
    lookups: u64,
    lookups_contended: u64,
    updates: u64,
    longest_reader_gap_ns: u64,
    looks_until_caught: u32,
    catch_ns: u64,
    stopped_holder_named: bool,
    lookups_with_dead_holder: u64,
    lookup_behind_dead_guard_ns: u64,
    longest_reader_gap_with_dead_holder_ns: u64,
    repair_ns: u64,
    sweep_ns: u64,
    longest_put_ns: u64,
    items_checked: u64,
    total_ns: u64,
}

/// Tells the story in paragraphs, or at the end as JSON.
struct Telling<'a> {
    output: &'a mut Output,
    json: bool,
}

impl Telling<'_> {
    /// Says it at once: the story takes seconds.
    fn say(&mut self, act: &str, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.output.paragraph(act, text)?;
        self.output.flush()
    }
}

/// The writer that stands still with a guard in its hand.
struct Caught<'a> {
    victim: Worker,
    guard: HeldGuard,
    /// A record whose writers need this guard.
    behind: Option<&'a Package>,
}

pub(super) fn tell(mut stage: Stage, format: Format, output: &mut Output) -> Result<(), Failure> {
    let started = Instant::now();
    let mut telling = Telling { json: format.is_json(), output };
    let packages = records::packages()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut measured = Measured { store: stage.name.clone(), cores, ..Measured::default() };

    load(&stage, &packages, &mut measured, &mut telling)?;
    side_by_side(&mut stage, &mut measured, &mut telling)?;
    let mut caught = catch(&stage, &mut measured, &mut telling)?;
    not_robbed(&stage, &packages, &mut caught, &mut measured, &mut telling)?;
    kill(&mut stage, &mut caught, &mut measured, &mut telling)?;
    go_on(&mut stage, &packages, &caught, &mut measured, &mut telling)?;
    verify(&stage, &packages, &mut measured, &mut telling)?;

    let name = std::mem::take(&mut stage.name);
    drop(stage);
    measured.total_ns = started.elapsed().as_nanos() as u64;
    let text = format!(
        "Removed {name}. All of it took {}. Your turn: kv-cli\u{a0}--help",
        nanos(measured.total_ns)
    );
    telling.say("Done", &text)?;
    if telling.json {
        telling.output.json(&measured)?;
    }
    Ok(())
}

fn load(
    stage: &Stage,
    packages: &[Package],
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<(), Failure> {
    let started = Instant::now();
    for package in packages {
        stage.writer.put(package.key.as_bytes(), package.value.as_bytes())?;
    }
    measured.load_ns = started.elapsed().as_nanos() as u64;
    measured.records = packages.len();
    measured.record_bytes =
        packages.iter().map(|package| (package.key.len() + package.value.len()) as u64).sum();
    let text = format!(
        "Made {} in shared memory and put {} records of Debian's package index into it: {} in {}.",
        stage.name,
        packages.len(),
        human::size(measured.record_bytes).replace(' ', "\u{a0}"),
        nanos(measured.load_ns)
    );
    telling.say("Load", &text)
}

fn side_by_side(
    stage: &mut Stage,
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<(), Failure> {
    let readers = measured.cores.clamp(3, 4);
    for number in 1..=readers {
        let reader = stage.start(&format!("reader {number}"), &["reader"])?;
        stage.readers.push(reader);
    }
    let mut updater = stage.start("the writer", &["writer"])?;
    stage.readers_since_last()?;
    updater.tell("report")?;
    updater.hear::<Activity>(PATIENCE)?;
    let started = Instant::now();
    stage.pause(SIDE_BY_SIDE)?;
    let reading = stage.readers_since_last()?;
    updater.tell("report")?;
    let writing: Activity = updater.hear(PATIENCE)?;
    let time = started.elapsed();
    updater.finish(PATIENCE)?;
    judge(&reading)?;

    measured.readers = readers;
    measured.side_by_side_ns = time.as_nanos() as u64;
    measured.lookups = reading.lookups();
    measured.lookups_contended = reading.contended;
    measured.updates = writing.ops;
    measured.longest_reader_gap_ns = reading.longest_gap_ns;
    let mut text = format!(
        "For {} {readers} processes with read-only mappings made {} lookups ({} a second) and \
         checked every byte of what they got, while one process overwrote the same records {} \
         times ({} a second), all on {}. Every value was whole, none was missing.",
        nanos(measured.side_by_side_ns),
        human::count(measured.lookups),
        human::rounded(human::per_second(measured.lookups, time)),
        human::count(writing.ops),
        human::rounded(human::per_second(writing.ops, time)),
        human::plural(measured.cores as u64, "core", "cores"),
    );
    if reading.contended > 0 {
        text.push_str(&format!(
            " {} had to be asked again, since the record changed under each attempt.",
            human::plural(reading.contended, "lookup", "lookups")
        ));
    }
    telling.say("Share", &text)
}

/// Stops a writer again and again until it stands still with a guard in its hand.
fn catch<'a>(
    stage: &Stage,
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<Caught<'a>, Failure> {
    let victim = stage.start("the writer to be killed", &["writer", VICTIM_ROUND])?;
    let started = Instant::now();
    for look in 1.. {
        // Uneven times, so that the looks don't fall into step with the writer's loop.
        stage.pause(Duration::from_micros(200 + 137 * u64::from(look % 7)))?;
        victim.stop()?;
        let held = stage.writer.held_guards()?;
        if let Some(guard) = held.into_iter().find(|guard| guard.pid == victim.pid()) {
            measured.looks_until_caught = look;
            measured.catch_ns = started.elapsed().as_nanos() as u64;
            let text = format!(
                "Stopped another writer (process {}, SIGSTOP) in the middle of a put, with guard \
                 {} in its hand; to catch it there took {}.",
                victim.pid(),
                guard.stripe,
                human::plural(look.into(), "attempt", "attempts")
            );
            telling.say("Stop", &text)?;
            return Ok(Caught { victim, guard, behind: None });
        }
        victim.signal(Signal::SIGCONT)?;
        if started.elapsed() > CATCH_LIMIT {
            break;
        }
    }
    let text = "no writer could be caught with a guard in its hand; the machine may be too busy";
    Err(Failure::new(Exit::TimedOut, text))
}

/// A holder that is only stopped keeps its guard, and whoever needs it is told its name.
fn not_robbed<'a>(
    stage: &Stage,
    packages: &'a [Package],
    caught: &mut Caught<'a>,
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<(), Failure> {
    let holder = caught.guard.pid;
    stage.writer.set_guard_deadline(SHORT_DEADLINE)?;
    for package in packages {
        let value = package.updated(OWN_ROUND);
        match stage.writer.put(package.key.as_bytes(), value.as_bytes()) {
            Ok(_) => {}
            Err(WriteError::Stuck { pid, .. }) if pid == holder => {
                caught.behind = Some(package);
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !holds(stage, caught.guard)? {
        let text = format!("process {holder} was stopped, and its guard was taken from it");
        return Err(Failure::new(Exit::Corrupt, text));
    }
    let Some(behind) = caught.behind else {
        let text = "a stopped process held a guard, and nobody who needed it was told";
        return Err(Failure::new(Exit::Corrupt, text));
    };
    measured.stopped_holder_named = true;
    let text = format!(
        "A stopped process is not robbed: a put of {} needs that guard, and was refused after {} \
         with the name of the process that holds it.",
        human::key(behind.key.as_bytes()),
        millis(SHORT_DEADLINE),
    );
    telling.say("Wait", &text)
}

fn kill(
    stage: &mut Stage,
    caught: &mut Caught<'_>,
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<(), Failure> {
    stage.readers_since_last()?;
    caught.victim.kill();
    stage.pause(WITH_DEAD_HOLDER)?;
    let mut behind = String::new();
    if let Some(package) = caught.behind {
        let started = Instant::now();
        let found = stage.writer.get(package.key.as_bytes())?;
        let took = started.elapsed();
        if !found.is_some_and(|value| package.is_whole(&value)) {
            let key = human::key(package.key.as_bytes());
            let text = format!("the record {key} behind the dead writer's guard is not whole");
            return Err(Failure::new(Exit::Corrupt, text));
        }
        measured.lookup_behind_dead_guard_ns = took.as_nanos() as u64;
        let key = human::key(package.key.as_bytes());
        behind = format!(
            " A lookup of {key} itself took {}.",
            nanos(measured.lookup_behind_dead_guard_ns)
        );
    }
    let reading = stage.readers_since_last()?;
    if !holds(stage, caught.guard)? {
        let text = "the guard of the dead writer was given back before anybody needed it";
        return Err(Failure::new(Exit::Corrupt, text));
    }
    judge(&reading)?;
    measured.lookups_with_dead_holder = reading.lookups();
    measured.longest_reader_gap_with_dead_holder_ns = reading.longest_gap_ns;
    let mut text = format!(
        "Killed it (SIGKILL), so that the guard stayed in a dead hand. In the next {} the readers \
         made {} lookups.{behind} The longest pause of a reader was {}",
        millis(WITH_DEAD_HOLDER),
        human::count(measured.lookups_with_dead_holder),
        nanos(reading.longest_gap_ns),
    );
    if measured.readers > measured.cores {
        let cores = human::plural(measured.cores as u64, "core", "cores");
        text.push_str(&format!(": {} readers take turns on {cores}", measured.readers));
    }
    text.push('.');
    telling.say("Kill", &text)
}

/// The next writer begins with a record behind the dead one's guard, and goes over all others.
fn go_on(
    stage: &mut Stage,
    packages: &[Package],
    caught: &Caught<'_>,
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<(), Failure> {
    stage.writer.set_guard_deadline(PATIENCE)?;
    let values: Vec<String> =
        packages.iter().map(|package| package.updated(OWN_ROUND + 1)).collect();
    let first = caught
        .behind
        .and_then(|behind| packages.iter().position(|package| package.key == behind.key))
        .unwrap_or(0);
    let mut longest = Duration::ZERO;
    let started = Instant::now();
    for turn in (first..packages.len()).chain(0..first) {
        let before = Instant::now();
        stage.writer.put(packages[turn].key.as_bytes(), values[turn].as_bytes())?;
        let took = before.elapsed();
        longest = longest.max(took);
        if turn == first {
            measured.repair_ns = took.as_nanos() as u64;
        }
    }
    let sweep = started.elapsed();
    let reading = stage.readers_since_last()?;
    judge(&reading)?;
    measured.sweep_ns = sweep.as_nanos() as u64;
    measured.longest_put_ns = longest.as_nanos() as u64;
    if longest > REPAIR_LIMIT {
        let text = format!(
            "the next writer took {} for one put, {} are promised",
            human::elapsed(longest),
            millis(REPAIR_LIMIT)
        );
        return Err(Failure::new(Exit::TimedOut, text));
    }
    if holds(stage, caught.guard)? {
        let text = "the guard of the dead writer is still in its hand";
        return Err(Failure::new(Exit::Corrupt, text));
    }
    let text = format!(
        "The next writer put {} again: it found the holder dead, took the guard over, repaired \
         what was left and was done after {} (promised: {}). All {} records took it {}.",
        human::key(packages[first].key.as_bytes()),
        nanos(measured.repair_ns),
        millis(REPAIR_LIMIT),
        packages.len(),
        nanos(measured.sweep_ns),
    );
    telling.say("Go on", &text)
}

fn verify(
    stage: &Stage,
    packages: &[Package],
    measured: &mut Measured,
    telling: &mut Telling<'_>,
) -> Result<(), Failure> {
    for package in packages {
        let found = stage.writer.get(package.key.as_bytes())?;
        let expected = package.updated(OWN_ROUND + 1);
        if found.as_deref() != Some(expected.as_bytes()) {
            let key = human::key(package.key.as_bytes());
            let text = format!("the record {key} is not what was written last");
            return Err(Failure::new(Exit::Corrupt, text));
        }
    }
    let report = stage.writer.check(|_, _| {});
    if let Some(violation) = report.violations.first() {
        return Err(Failure::new(Exit::Corrupt, format!("check: {violation}")));
    }
    measured.items_checked = report.items;
    let text = format!(
        "All {} records are what was written last, byte for byte, and check finds no broken \
         invariant in the store.",
        packages.len(),
    );
    telling.say("Check", &text)
}

/// A measured time, with a space that no line is broken at.
fn nanos(nanos: u64) -> String {
    human::nanos(nanos as f64).replace(' ', "\u{a0}")
}

/// A time that was chosen, a whole number of milliseconds.
fn millis(time: Duration) -> String {
    format!("{}\u{a0}ms", time.as_millis())
}

fn holds(stage: &Stage, guard: HeldGuard) -> Result<bool, Failure> {
    let held = stage.writer.held_guards()?;
    Ok(held.iter().any(|other| other.pid == guard.pid && other.stripe == guard.stripe))
}

/// Whether readers may have seen what they saw.
fn judge(reading: &Activity) -> Result<(), Failure> {
    let wrong = |text: String| Err(Failure::new(Exit::Corrupt, text));
    if reading.torn > 0 {
        return wrong(format!("readers saw {} that were not whole", human::count(reading.torn)));
    }
    if reading.missing > 0 {
        return wrong(format!("readers missed {} keys", human::count(reading.missing)));
    }
    if reading.ops == 0 || reading.longest_gap() > GAP_LIMIT {
        let gap = human::elapsed(reading.longest_gap());
        return Err(Failure::new(Exit::TimedOut, format!("a reader stood still for {gap}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_judged_by_what_they_saw() {
        let fine = Activity { ops: 10, longest_gap_ns: 5_000_000, ..Activity::default() };
        assert!(judge(&fine).is_ok());
        let exit = |activity: Activity| judge(&activity).expect_err("refused").exit;
        assert_eq!(exit(Activity { torn: 1, ..fine }), Exit::Corrupt);
        assert_eq!(exit(Activity { missing: 1, ..fine }), Exit::Corrupt);
        assert_eq!(exit(Activity { ops: 0, ..fine }), Exit::TimedOut);
        assert_eq!(exit(Activity { longest_gap_ns: 2_000_000_000, ..fine }), Exit::TimedOut);
        let both = Activity::together(&[fine, Activity { longest_gap_ns: 9, torn: 2, ..fine }]);
        assert_eq!((both.ops, both.longest_gap_ns, both.torn), (20, 5_000_000, 2));
    }
}
