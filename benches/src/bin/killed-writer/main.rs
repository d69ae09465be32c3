//! `killed-writer`: a writer is stopped while it holds a guard, then killed, or let go on.
//!
//! Killed: the next writer goes on within 100 ms over *all* keys, what the dead one had done is a
//! prefix of its writes, and a reader process never stops. Only stopped: whoever needs that guard is
//! told `Stuck` and by whom, and nobody is let in; continued, all goes on.

mod plan;
mod reader;
mod round;
mod victim;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::{median, rounded};
use store_benches::tally::Tally;
use store_benches::worker::{self, Crew, Handle, PATIENCE, Parent};
use store_client::CreateOptions;

use plan::Plan;
use round::{Rounds, Seen};

const RECOVERY_MAX_MS: f64 = 100.0;
const READER_GAP_MAX_MS: f64 = 100.0;
/// Every how many rounds the writer is only stopped.
const STUCK_EVERY: u32 = 5;
const MIB: u64 = 1024 * 1024;

/// A writer that is killed, or stopped, while it holds a guard.
#[derive(Parser)]
struct Args {
    /// How many writers are stopped; 50 by default, 10 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
    /// Ten rounds.
    #[arg(long)]
    quick: bool,
    /// What the random pauses come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// What a worker process is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Role {
    /// Writes until it is killed.
    Victim,
    /// Reads until it is told to go on.
    Reader,
}

/// What a worker tells its parent once it is at it.
#[derive(Debug, Serialize, Deserialize)]
struct Attached;

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    rounds: u32,
    seed: u64,
    kills: u32,
    while_holding: u32,
    recovery_max_ms: f64,
    recovery_p50_ms: f64,
    reader_gap_max_ms: f64,
    reads: u64,
    stuck_rounds: u32,
    robbed: u32,
    wrong_pid: u32,
    bystander_max_ms: f64,
    lost: u64,
    torn: u64,
    missed: u64,
    contended: u64,
    errors: u64,
    violations: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve(job, work),
        None => report::conclude("killed-writer", || run(&args)),
    }
}

fn work(role: Role, store: Handle, parent: &mut Parent) -> Result<()> {
    match role {
        Role::Victim => victim::run(store, parent),
        Role::Reader => reader::run(store, parent),
    }
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let rounds = args.rounds.unwrap_or(if args.quick { 10 } else { 50 });
    let options = CreateOptions::new(64 * MIB);
    let (scratch, writer) = Scratch::create("killed-writer", args.store, options)?;
    let plan = Plan::new();
    let mut sequence = Rounds {
        crew: Crew::new(writer, scratch.spec(), work),
        plan: &plan,
        rng: SmallRng::seed_from_u64(args.seed),
        seen: Seen::default(),
    };
    sequence.lay_out()?;

    let mut reader = sequence.crew.start(&Role::Reader)?;
    reader.receive::<Attached>(PATIENCE)?;
    for number in 1..=rounds {
        if number % STUCK_EVERY == 0 {
            sequence.stop_only(number)?;
        } else {
            // Half of the dead stay zombies until they were recovered from.
            sequence.kill(number, number % 2 == 0)?;
        }
    }
    reader.go()?;
    let read: reader::Done = reader.receive(PATIENCE)?;
    reader.finish()?;
    Ok(judge(args, rounds, sequence.seen, read))
}

fn judge(args: &Args, rounds: u32, seen: Seen, read: reader::Done) -> Outcome<Figures> {
    let mut tally = seen.tally;
    tally.absorb(read.tally);
    let figures = Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        rounds,
        seed: args.seed,
        kills: seen.kills,
        while_holding: seen.while_holding,
        recovery_max_ms: seen.recoveries_ms.iter().copied().fold(0.0, f64::max),
        recovery_p50_ms: rounded(median(&seen.recoveries_ms), 3),
        reader_gap_max_ms: read.gap_max_ms,
        reads: tally.reads,
        stuck_rounds: seen.stuck_rounds,
        robbed: seen.robbed,
        wrong_pid: seen.wrong_pid,
        bystander_max_ms: seen.bystander_max_ms,
        lost: tally.lost,
        torn: tally.torn,
        missed: tally.missed,
        contended: tally.contended,
        errors: tally.errors,
        violations: seen.violations,
    };
    println!(
        "{} kills, {} while holding a guard: the next writer went on within {} ms, the reader's \
         longest pause was {} ms in {} lookups; {} rounds only stopped, {} robbed",
        figures.kills,
        figures.while_holding,
        figures.recovery_max_ms,
        figures.reader_gap_max_ms,
        figures.reads,
        figures.stuck_rounds,
        figures.robbed,
    );
    hold_to(figures, &tally)
}

fn hold_to(figures: Figures, tally: &Tally) -> Outcome<Figures> {
    let mut outcome = Outcome::new(figures);
    let wrong = tally.torn + tally.lost + tally.missed + tally.backwards + tally.errors;
    outcome.require(wrong == 0, || format!("{wrong} wrong: {}", tally.examples.join("; ")));
    let figures = &outcome.figures;
    let conditions = [
        (tally.reads > 0, "nothing was read"),
        (figures.while_holding * 2 >= figures.kills, "too few were killed while holding a guard"),
        (figures.recovery_max_ms < RECOVERY_MAX_MS, "the next writer had to wait too long"),
        (figures.reader_gap_max_ms < READER_GAP_MAX_MS, "the reader stood still too long"),
        (figures.robbed == 0, "a stopped writer was robbed of its guard"),
        (figures.wrong_pid == 0, "Stuck named another process than the one that was stopped"),
        (figures.rounds < STUCK_EVERY || figures.stuck_rounds > 0, "none was stopped holding"),
        (figures.violations == 0, "check found violations"),
    ];
    for (holds, failure) in conditions {
        outcome.require(holds, || failure.to_owned());
    }
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        super::Args::command().debug_assert();
    }
}
