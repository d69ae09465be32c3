//! `linearize`: short histories of processes that work on the same few keys, and are killed, are
//! recorded with times, and an order is looked for that explains every answer.

mod checker;
mod client;
mod log;
mod model;
mod play;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

use store_benches::forked::ensure_one_thread;
use store_benches::mortal::leave_out;
use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::shared::zeroed;
use store_core::{GuardKind, Mutation};

use play::{Seen, Stage};

/// Histories in which one client answers with what is stale: the run does not pass if so few of them
/// are found out.
const CONTROLS: u64 = 20;
const CONTROLS_FOUND_MIN: u64 = 5;

/// Record what processes that are killed do to a few keys, and look for an order that explains it.
#[derive(Parser)]
struct Args {
    /// Histories; 10,000 by default, 200 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    histories: Option<u64>,
    /// What the guards of writers are.
    #[arg(long, default_value = "futex", value_parser = GuardKind::from_str)]
    guard: GuardKind,
    /// Fewer histories.
    #[arg(long)]
    quick: bool,
    /// What is done, and when who dies, comes from; schedules of the kernel do not.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take one rule out of the store, to see that it is found out.
    #[arg(long, value_parser = Mutation::from_str)]
    without: Option<Mutation>,
}

#[derive(Serialize)]
struct Figures {
    guard: String,
    seed: u64,
    histories: u64,
    operations: u64,
    beside_others: u64,
    unanswered: u64,
    refused: u64,
    kills: u64,
    while_holding: u64,
    histories_with_kills: u64,
    violations: u64,
    undecided: u64,
    check_violations: u64,
    controls: u64,
    controls_found: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("linearize", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    ensure_one_thread()?;
    leave_out(args.without.as_slice());
    let histories = args.histories.unwrap_or(if args.quick { 200 } else { 10_000 });
    let mut rng = SmallRng::seed_from_u64(args.seed);
    let mut controls = Stage::new(zeroed()?, &mut rng, args.seed, args.guard, true);
    controls.play(CONTROLS, |_| {})?;
    let controls = controls.seen;
    println!(
        "{CONTROLS} histories in which a client answers with what is stale: {} keys can't be explained",
        controls.violations
    );
    let bar = progress::bar(histories, "histories".into());
    let mut stage = Stage::new(zeroed()?, &mut rng, args.seed, args.guard, false);
    stage.play(histories, |done| bar.set_position(done))?;
    bar.finish_and_clear();
    Ok(judge(args, stage.seen, &controls))
}

fn judge(args: &Args, seen: Seen, controls: &Seen) -> Outcome<Figures> {
    println!(
        "{} operations in {} histories, {} of them with kills: {} keys can't be explained, {} are \
         undecided",
        seen.operations, seen.histories, seen.with_kills, seen.violations, seen.undecided
    );
    let mut outcome = Outcome::new(Figures {
        guard: args.guard.to_string(),
        seed: args.seed,
        histories: seen.histories,
        operations: seen.operations,
        beside_others: seen.beside_others,
        unanswered: seen.unanswered,
        refused: seen.refused,
        kills: seen.kills,
        while_holding: seen.while_holding,
        histories_with_kills: seen.with_kills,
        violations: seen.violations,
        undecided: seen.undecided,
        check_violations: seen.check_violations,
        controls: CONTROLS,
        controls_found: controls.violations,
    });
    let conditions = [
        (seen.violations == 0, "answers that no order explains"),
        (seen.undecided == 0, "histories that were not decided"),
        (seen.check_violations == 0, "check found violations"),
        (seen.with_kills * 2 > seen.histories, "too few histories with kills"),
        (seen.refused * 10 < seen.operations, "too many operations were refused"),
        (controls.violations >= CONTROLS_FOUND_MIN, "stale answers are not found out"),
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
