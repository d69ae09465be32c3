//! `kill-storm`: processes that write to one small store are killed by the thousand, most of them
//! while they hold a guard.
//!
//! Whatever was acknowledged stands, what was in flight is wholly there or wholly absent, no invariant
//! is broken, and the next one goes on within milliseconds. One that is only stopped is not robbed.

mod audit;
mod common;
mod content;
mod ledger;
mod own;
mod settings;
mod stopped;
mod stores;
mod storm;
mod worker;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

use store_benches::forked::ensure_one_thread;
use store_benches::mortal::leave_out;
use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::stats::{Latencies, rounded};
use store_core::{GuardKind, Mutation};

use settings::SETTINGS;
use stopped::{Stopped, stop_one};
use storm::{Round, Seen};

const RECOVERY_P99_MAX_MS: f64 = 10.0;
const REFILL_MIN_PERCENT: f64 = 80.0;

/// Kill processes that write to one store, by the thousand.
#[derive(Parser)]
struct Args {
    /// Processes that are killed; 100,000 by default, 2,000 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=100_000_000))]
    kills: Option<u32>,
    /// Kills on one store, before the next one is made; 1,000 by default, 140 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    kills_per_store: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
    /// Fewer kills, and one is stopped for 2 s instead of 10 s.
    #[arg(long)]
    quick: bool,
    /// What is written, and when who dies, comes from; schedules of the kernel do not.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take one rule out of the store, to see that it is found out.
    #[arg(long, value_parser = Mutation::from_str)]
    without: Option<Mutation>,
}

/// Stores that only forked processes share: nothing has to be removed after them.
#[derive(Clone, Copy, Debug, clap::Args)]
struct StoreArgs {
    /// What holds the store.
    #[arg(long, value_enum, default_value_t = Backing::Memfd)]
    backing: Backing,
    /// What the guards of writers are.
    #[arg(long, default_value = "futex", value_parser = GuardKind::from_str)]
    guard: GuardKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backing {
    /// A memfd: whether a process lives is told by a lock of it too, as with every object.
    Memfd,
    /// Shared anonymous memory.
    Anon,
}

#[derive(Serialize)]
struct Figures {
    backing: &'static str,
    guard: String,
    seed: u64,
    kills: u32,
    while_holding: u32,
    self_inflicted: u32,
    kills_per_s: f64,
    by_peers: u64,
    by_upkeep: u64,
    upkeep_stuck: u64,
    recovery_p50_ms: f64,
    recovery_p99_ms: f64,
    recovery_max_ms: f64,
    since_death_p50_ms: f64,
    since_death_p99_ms: f64,
    acknowledged: u64,
    refused: u64,
    emptied: u64,
    evicted: u64,
    split: u64,
    audits: u32,
    refill_percent: f64,
    stopped_s: u64,
    stuck: u64,
    wrong_pid: u64,
    robbed: u64,
    wrong: u64,
    violations: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("kill-storm", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    ensure_one_thread()?;
    leave_out(args.without.as_slice());
    let kills = args.kills.unwrap_or(if args.quick { 2_000 } else { 100_000 });
    let per_store = args.kills_per_store.unwrap_or(if args.quick { 140 } else { 1_000 });
    let mut rng = SmallRng::seed_from_u64(args.seed);
    let mut seen = Seen::new();

    let stopped_s = if args.quick { 2 } else { 10 };
    println!("a writer is stopped for {stopped_s} s while it holds a guard");
    let mut round = Round::new(&SETTINGS[0], args.store, &mut rng, &mut seen)?;
    let stopped = stop_one(&mut round, Duration::from_secs(stopped_s))?;
    round.audit()?;
    round.conclude()?;

    let bar = progress::bar(kills.into(), "kills".into());
    let start = Instant::now();
    // Each setting without and with a process that reaps.
    let rounds = SETTINGS.iter().flat_map(|setting| [(setting, false), (setting, true)]).cycle();
    for (setting, with_keeper) in rounds {
        let Some(left) = kills.checked_sub(seen.kills).filter(|left| *left > 0) else { break };
        let (before, began) = (seen.counts(), Instant::now());
        let mut round = Round::new(setting, args.store, &mut rng, &mut seen)?;
        round.kill(per_store.min(left), with_keeper, &bar)?;
        let slowest = round.conclude()?;
        let counts: Vec<_> =
            seen.counts().iter().zip(before).map(|(now, then)| now - then).collect();
        let name = format!("{}{}", setting.name, if with_keeper { " and a keeper" } else { "" });
        bar.suspend(|| {
            println!(
                "{name:<38} {:>6} kills in {:>5.1} s, {:>5} guards recovered by peers, {:>5} by \
                 upkeep, {:>5.1} ms at most; {:>6} extents emptied, {:>6} items evicted, {:>5} \
                 buckets split",
                counts[0],
                began.elapsed().as_secs_f64(),
                counts[1],
                counts[2],
                slowest.as_secs_f64() * 1e3,
                counts[3],
                counts[4],
                counts[5],
            );
        });
    }
    bar.finish_and_clear();
    Ok(judge(args, seen, stopped, stopped_s, start.elapsed()))
}

fn judge(
    args: &Args,
    seen: Seen,
    stopped: Stopped,
    stopped_s: u64,
    elapsed: Duration,
) -> Outcome<Figures> {
    let quantile = |of: &Latencies, fraction| rounded(of.quantile_ns(fraction) as f64 / 1e6, 3);
    let recovery_ms = |fraction| quantile(&seen.recovery, fraction);
    let mut outcome = Outcome::new(Figures {
        backing: match args.store.backing {
            Backing::Memfd => "memfd",
            Backing::Anon => "anon",
        },
        guard: args.store.guard.to_string(),
        seed: args.seed,
        kills: seen.kills,
        while_holding: seen.while_holding,
        self_inflicted: seen.self_inflicted,
        kills_per_s: rounded(f64::from(seen.kills) / elapsed.as_secs_f64(), 1),
        by_peers: seen.by_peers,
        by_upkeep: seen.by_upkeep,
        upkeep_stuck: seen.upkeep_stuck,
        recovery_p50_ms: recovery_ms(0.5),
        recovery_p99_ms: recovery_ms(0.99),
        recovery_max_ms: recovery_ms(1.0),
        since_death_p50_ms: quantile(&seen.since_death, 0.5),
        since_death_p99_ms: quantile(&seen.since_death, 0.99),
        acknowledged: seen.acknowledged,
        refused: seen.refused,
        emptied: seen.emptied,
        evicted: seen.evicted,
        split: seen.split,
        audits: seen.audits,
        refill_percent: rounded(seen.refill_percent, 1),
        stopped_s,
        stuck: stopped.stuck,
        wrong_pid: stopped.wrong_pid,
        robbed: stopped.robbed,
        wrong: seen.wrong,
        violations: seen.violations,
    });
    let figures = &outcome.figures;
    let conditions = [
        (figures.self_inflicted * 2 >= figures.kills, "too few killed themselves holding a guard"),
        (figures.by_peers > 0, "no guard of the dead was taken over by a peer"),
        (figures.by_upkeep > 0, "no guard of the dead was taken over by upkeep"),
        (figures.acknowledged > figures.refused, "most writes were refused"),
        (figures.wrong == 0, "what stands is not what was acknowledged"),
        (figures.violations == 0, "check found violations"),
        (figures.recovery_p99_ms <= RECOVERY_P99_MAX_MS, "recovery takes too long"),
        (figures.refill_percent >= REFILL_MIN_PERCENT, "the dead took room with them"),
        (figures.stuck > 0, "nobody was told who holds the guard of a stopped process"),
        (figures.wrong_pid == 0, "Stuck named another process than the one that was stopped"),
        (figures.robbed == 0, "a stopped process was robbed of its guard"),
    ];
    let failures = conditions.iter().filter(|(holds, _)| !holds);
    let failures: Vec<_> = failures.map(|(_, failure)| (*failure).to_owned()).collect();
    outcome.failures = failures;
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
