//! `expiry`: items with times to live, put at a steady rate for longer than any of them lives.
//!
//! One thread puts, one looks random keys up and knows what each answer must be, one does what
//! `store-server` does: it sweeps, and cleans while room is short. Nothing is served after its time,
//! nothing is lost before it, no put is refused, and what the store takes does not grow.

mod course;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::rounded;
use store_client::CreateOptions;

use course::{Course, Seen};

/// How exact a time to live is, by the store's own promise.
const TOLERANCE: Duration = Duration::from_millis(10);
/// Bytes of the store for each item that lives, of which 160 are live.
const STORE_BYTES_PER_ITEM: u64 = 256;
/// How much more the store may take in the second half of its steady time than in the first.
const GROWTH_MAX: f64 = 1.05;

/// Items with times to live, put at a steady rate for longer than any of them lives.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Items that live at a time; 1,000,000 by default, 50,000 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    items: Option<u32>,
    /// The longest time to live in seconds, the shortest being one; 60 by default, 4 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=3600))]
    longest: Option<u32>,
    /// Fewer items, for a shorter time.
    #[arg(long)]
    quick: bool,
    /// What times and lookups come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    seed: u64,
    items: u32,
    longest_s: u32,
    seconds: f64,
    puts: u64,
    puts_refused: u64,
    lookups: u64,
    hits: u64,
    /// Served after their time and the tolerance, and by how much at most.
    late: u64,
    latest_ms: f64,
    /// Missed before their time, less the tolerance.
    lost: u64,
    items_steady_max: u64,
    occupied_bytes_first: u64,
    occupied_bytes_second: u64,
    growth: f64,
    expired: u64,
    violations: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("expiry", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let items = args.items.unwrap_or(if args.quick { 50_000 } else { 1_000_000 });
    let longest = args.longest.unwrap_or(if args.quick { 4 } else { 60 });
    let options = CreateOptions::new(u64::from(items) * STORE_BYTES_PER_ITEM);
    let (_scratch, writer) = Scratch::create("expiry", args.store, options)?;
    let course = Course::new(&writer, items, longest, args.seed);
    let Seen { put, looked, samples, seconds } = course.run()?;
    let half = samples.len() / 2;
    let most = |samples: &[course::Sample]| {
        samples.iter().map(|sample| sample.occupied_bytes).max().unwrap_or(0)
    };
    let (first, second) = (most(&samples[..half]), most(&samples[half..]));
    Ok(judge(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        seed: args.seed,
        items,
        longest_s: longest,
        seconds: rounded(seconds, 1),
        puts: put.done,
        puts_refused: put.refused,
        lookups: looked.lookups,
        hits: looked.hits,
        late: looked.late,
        latest_ms: rounded(looked.latest.as_secs_f64() * 1e3, 2),
        lost: looked.lost,
        items_steady_max: samples.iter().map(|sample| sample.items).max().unwrap_or(0),
        occupied_bytes_first: first,
        occupied_bytes_second: second,
        growth: rounded(second as f64 / first.max(1) as f64, 3),
        expired: writer.stats()?.expired,
        violations: writer.check(|_, _| {}).violations_total,
    }))
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let none = [
        (figures.puts_refused, "puts were refused"),
        (figures.late, "lookups were served an item after its time"),
        (figures.lost, "lookups missed an item before its time"),
        (figures.violations, "invariants are broken"),
        (u64::from(figures.hits == 0), "no lookup hit anything"),
        (u64::from(figures.hits == figures.lookups), "no lookup missed anything"),
        (u64::from(figures.expired == 0), "no item was dropped"),
    ];
    let growth = figures.growth;
    let mut outcome = Outcome::new(figures);
    for (count, what) in none {
        outcome.require(count == 0, || format!("{count}: {what}"));
    }
    outcome.require(growth <= GROWTH_MAX, || {
        format!("the store takes {growth} times what it took, at most {GROWTH_MAX} is asked for")
    });
    outcome
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        Args::command().debug_assert();
    }
}
