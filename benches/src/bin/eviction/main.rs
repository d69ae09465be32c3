//! `eviction`: what a put takes that makes room by eviction.
//!
//! Keys that never were are put into a cache that is full, and as many into one of the same size and
//! with the same index that has room; and into a store of store mode that has room.

mod rounds;
mod side;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::scratch::StoreArgs;

use rounds::Row;

/// Bytes of the values, each a row.
const VALUE_BYTES: [usize; 2] = [100, 1_000];
/// A put may take so many times the median, once in 1000.
const P999_OVER_MEDIAN_MAX: f64 = 10.0;
/// All puts together may take so many times those into a cache that has room.
const COST_RATIO_MAX: f64 = 2.0;
/// Items that must have gone for each that was put, or the store was not full.
const EVICTED_PER_PUT_MIN: f64 = 0.9;

/// What a put takes that makes room by eviction.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// MiB of each store; 256 by default, 64 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..=4_096))]
    size_mib: Option<u64>,
    /// Rounds, of which medians are taken; 11 by default, 3 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Smaller stores, fewer rounds, times not judged.
    #[arg(long)]
    quick: bool,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    size_mib: u64,
    rounds: u32,
    /// The most of the rows.
    p999_over_median: f64,
    cost_ratio: f64,
    rows: Vec<Row>,
    judged: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("eviction", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let size_mib = args.size_mib.unwrap_or(if args.quick { 64 } else { 256 });
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 11 });
    let mut rows = Vec::new();
    for value_bytes in VALUE_BYTES {
        let bar = progress::bar(rounds.into(), format!("rounds, {value_bytes} bytes"));
        let row = rounds::run(args.store, size_mib << 20, value_bytes, rounds, &bar);
        bar.finish_and_clear();
        let row = row.with_context(|| format!("stores with values of {value_bytes} bytes"))?;
        show(&row);
        rows.push(row);
    }
    let most = |of: fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    Ok(judge(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        size_mib,
        rounds,
        p999_over_median: most(|row| row.p999_over_median),
        cost_ratio: most(|row| row.cost_ratio),
        rows,
        // A short run is for seeing that it works; its times are no judgement.
        judged: !args.quick,
    }))
}

fn show(row: &Row) {
    println!(
        "values of {} bytes: {:.0} ns a put under eviction, {:.0} ns with room, ratio {}; {:.0} ns \
         in store mode, ratio {}; p50 {:.2} µs, p99 {:.2} µs, p99.9 {:.1} µs, p99.99 {:.1} µs, longest {:.0} µs",
        row.value_bytes,
        row.put_ns,
        row.with_room_ns,
        row.cost_ratio,
        row.store_mode_ns,
        row.store_mode_ratio,
        row.p50_ns / 1e3,
        row.p99_ns / 1e3,
        row.p999_ns / 1e3,
        row.p9999_ns / 1e3,
        row.max_ns / 1e3,
    );
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let mut failures = Vec::new();
    for row in &figures.rows {
        let name = format!("values of {} bytes", row.value_bytes);
        let (spikes, cost, evicted) = (row.p999_over_median, row.cost_ratio, row.evicted_per_put);
        if figures.judged && spikes > P999_OVER_MEDIAN_MAX {
            failures.push(format!(
                "{name}: p99.9 of a put is {spikes} times the median, at most \
                 {P999_OVER_MEDIAN_MAX} is asked for"
            ));
        }
        if figures.judged && cost > COST_RATIO_MAX {
            failures.push(format!(
                "{name}: puts take {cost} times those into a cache with room, at most \
                 {COST_RATIO_MAX} is asked for"
            ));
        }
        if evicted < EVICTED_PER_PUT_MIN {
            failures.push(format!(
                "{name}: {evicted} items went for each that was put, so the store was not full"
            ));
        }
        for (count, what) in
            [(row.lost, "keys just put are not there"), (row.violations, "invariants are broken")]
        {
            if count > 0 {
                failures.push(format!("{name}: {count} {what}"));
            }
        }
    }
    Outcome { figures, failures }
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
