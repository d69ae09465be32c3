//! `structure`: a constant number of items whose keys are all replaced, again and again.
//!
//! The index and the tables are as large in the end as after the first turnover, and so is the
//! number of overflow lines: nothing of a key that has gone stays behind.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use store_benches::progress;
use store_benches::records::{Stamp, fill, key_of, verify};
use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::rounded;
use store_client::{CreateOptions, Stats, Writer};

/// Bytes of a value, both ends included.
const VALUE_BYTES: (usize, usize) = (8, 128);
/// Bytes of the store for each item, of which about 110 are live.
const STORE_BYTES_PER_ITEM: u64 = 256;
/// How much more there may be in the end than after the first turnover.
const RATIO_MAX: f64 = 1.2;

/// A constant number of items whose keys are all replaced, again and again.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Items in the store; 1,000,000 by default, 50,000 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    items: Option<u32>,
    /// How often all keys are replaced; 100 by default, 10 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200))]
    turnovers: Option<u32>,
    /// Fewer items and turnovers.
    #[arg(long)]
    quick: bool,
    /// What the lengths and the order of replacement come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    items: u32,
    turnovers: u32,
    seed: u64,
    buckets_first: u64,
    buckets_last: u64,
    overflow_lines_first: u64,
    overflow_lines_last: u64,
    overflow_per_bucket_first: f64,
    overflow_per_bucket_last: f64,
    ratio: f64,
    structure_bytes_first: u64,
    structure_bytes_last: u64,
    structure_ratio: f64,
    /// A key's delete and another's put, on average.
    replace_ns: f64,
    wrong_values: u64,
    violations: u64,
}

/// The keys that stand, by number, in the order they will be replaced.
struct Population<'a> {
    writer: &'a Writer,
    standing: Vec<u32>,
    next: u32,
    rng: SmallRng,
    value: Vec<u8>,
}

impl Population<'_> {
    fn put_next(&mut self) -> Result<u32> {
        let (number, key) = (self.next, key_of(self.next));
        let len = self.rng.random_range(VALUE_BYTES.0..=VALUE_BYTES.1);
        // Sequence numbers go round; the key tells the rest.
        let stamp = Stamp { writer: 0, seq: number % (1 << 28) };
        fill(&mut self.value, &key, stamp, len);
        self.writer.put(&key, &self.value)?;
        self.next = self.next.checked_add(1).expect("fewer turnovers than key numbers");
        Ok(number)
    }

    /// Replaces every key by a new one, in random order.
    fn turn_over(&mut self) -> Result<()> {
        self.standing.shuffle(&mut self.rng);
        for at in 0..self.standing.len() {
            let gone = self.standing[at];
            ensure!(self.writer.delete(&key_of(gone))?, "key {gone} was lost");
            self.standing[at] = self.put_next()?;
        }
        Ok(())
    }

    /// How many keys don't have the value that was put.
    fn wrong_values(&self) -> Result<u64> {
        let mut wrong = 0;
        for number in &self.standing {
            let key = key_of(*number);
            let found = self.writer.get(&key)?;
            let right = found.is_some_and(|value| {
                verify(&key, &value).is_ok_and(|stamp| stamp.seq == number % (1 << 28))
            });
            wrong += u64::from(!right);
        }
        Ok(wrong)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("structure", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let items = args.items.unwrap_or(if args.quick { 50_000 } else { 1_000_000 });
    let turnovers = args.turnovers.unwrap_or(if args.quick { 10 } else { 100 });
    let options = CreateOptions::new(u64::from(items) * STORE_BYTES_PER_ITEM);
    let (_scratch, writer) = Scratch::create("structure", args.store, options)?;
    let rng = SmallRng::seed_from_u64(args.seed);
    let mut population =
        Population { writer: &writer, standing: Vec::new(), next: 0, rng, value: Vec::new() };
    for _ in 0..items {
        let number = population.put_next()?;
        population.standing.push(number);
    }
    show("loaded", &writer.stats()?);

    let start = Instant::now();
    let bar = progress::bar(turnovers.into(), "turnovers".into());
    let mut first = None;
    for turn in 1..=turnovers {
        population.turn_over()?;
        let stats = writer.stats()?;
        if turn.is_power_of_two() || turn.is_multiple_of(10) {
            bar.suspend(|| show(&format!("turn {turn:>3}"), &stats));
        }
        first.get_or_insert(stats);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let elapsed = start.elapsed();
    let last = writer.stats()?;
    let first = first.unwrap_or_else(|| last.clone());
    ensure!(last.items == u64::from(items), "{} items instead of {items}", last.items);
    let replaced = f64::from(items) * f64::from(turnovers);
    Ok(judge(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        items,
        turnovers,
        seed: args.seed,
        buckets_first: first.buckets,
        buckets_last: last.buckets,
        overflow_lines_first: first.overflow_lines_used,
        overflow_lines_last: last.overflow_lines_used,
        overflow_per_bucket_first: rounded(overflow_per_bucket(&first), 4),
        overflow_per_bucket_last: rounded(overflow_per_bucket(&last), 4),
        ratio: rounded(overflow_per_bucket(&last) / overflow_per_bucket(&first), 4),
        structure_bytes_first: first.structure_bytes,
        structure_bytes_last: last.structure_bytes,
        structure_ratio: rounded(last.structure_bytes as f64 / first.structure_bytes as f64, 4),
        replace_ns: rounded(elapsed.as_nanos() as f64 / replaced, 1),
        wrong_values: population.wrong_values()?,
        violations: writer.check(|_, _| {}).violations_total,
    }))
}

fn overflow_per_bucket(stats: &Stats) -> f64 {
    stats.overflow_lines_used as f64 / stats.buckets as f64
}

fn show(when: &str, stats: &Stats) {
    println!(
        "{when:>8}  {} items  {} buckets  {} overflow lines  {} KiB of structures  {:.1} % live",
        stats.items,
        stats.buckets,
        stats.overflow_lines_used,
        stats.structure_bytes >> 10,
        stats.live_bytes as f64 / stats.arena_bytes as f64 * 100.0,
    );
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let (lines, bytes) = (figures.ratio, figures.structure_ratio);
    let (wrong, violations) = (figures.wrong_values, figures.violations);
    let mut outcome = Outcome::new(figures);
    outcome.require(lines <= RATIO_MAX, || {
        format!("{lines} times the overflow lines per bucket, at most {RATIO_MAX} is asked for")
    });
    outcome.require(bytes <= RATIO_MAX, || {
        format!("{bytes} times the bytes of structures, at most {RATIO_MAX} is asked for")
    });
    outcome.require(wrong == 0, || format!("{wrong} values are not what was put"));
    outcome.require(violations == 0, || format!("{violations} invariants are broken"));
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
