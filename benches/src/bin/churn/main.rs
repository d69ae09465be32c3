//! Writes a store many times over, with sizes that drift from small to large and back, and shows
//! that it never fills up, that its structures don't grow, and what a put costs at worst.

mod load;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use store_benches::report::{Outcome, conclude};
use store_benches::scratch::{Scratch, StoreArgs};
use store_client::CreateOptions;

use load::{Class, Load};

/// Overwrite a store that stays 80% live, values of 16 B to 256 KB, and watch its memory
#[derive(Debug, Parser)]
#[command(name = "churn")]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// MiB of the store
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(32..))]
    size_mib: u64,
    /// How often the arena is written; sizes drift to large and back in each turn
    #[arg(long, default_value_t = 50)]
    turns: u32,
    /// KiB of an extent [default: by size]
    #[arg(long)]
    extent_kib: Option<u64>,
    /// Percent of the arena, without the index, that stays live
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..100))]
    live: u64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A short run
    #[arg(long)]
    quick: bool,
}

/// The last line.
#[derive(Debug, Serialize)]
struct Figures {
    arena_bytes: u64,
    arena_turns: u32,
    live_percent: u64,
    seed: u64,
    puts: u64,
    deletes: u64,
    /// Puts that were refused.
    full: u64,
    /// Overflow lines in use, and bytes of structure, after the first turn and at the end.
    overflow_lines_first: u64,
    overflow_lines_last: u64,
    structure_first: u64,
    structure_last: u64,
    overhead_growth: i64,
    /// Bytes that cleaning moved for each byte that was put.
    moved_per_byte: f64,
    mib_per_s: f64,
    wrong_values: u64,
    violations: u64,
    /// Put by size class.
    classes: Vec<Class>,
    /// The largest quotient of a class's p99.9 and its median.
    worst_p999_to_median: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    conclude("churn", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let (size, turns) = match args.quick {
        true => (64 << 20, args.turns.min(5)),
        false => (args.size_mib << 20, args.turns),
    };
    let mut options = CreateOptions::new(size);
    if let Some(kib) = args.extent_kib {
        options = options.extent_size(kib << 10);
    }
    let (_scratch, writer) = Scratch::create("churn", args.store, options)?;
    let mut load = Load::new(&writer, args.seed);
    let arena_bytes = load.fill(args.live)?;
    let mut first = None;
    for turn in 1..=turns {
        load.turn(arena_bytes)?;
        let stats = writer.stats()?;
        println!(
            "turn {turn:>3}  {:>9} items  {:>5.1}% live  {:>5.1}% dead  {:>6} overflow lines  {} full",
            stats.items,
            stats.live_bytes as f64 / arena_bytes as f64 * 100.0,
            stats.dead_bytes as f64 / arena_bytes as f64 * 100.0,
            stats.overflow_lines_used,
            load.full,
        );
        first.get_or_insert(stats);
    }
    let last = writer.stats()?;
    let first = first.unwrap_or_else(|| last.clone());
    let wrong_values = load.verify()?;
    let report = writer.check(|_, _| {});
    let classes = load.classes();
    let overhead = |lines: u64, structure: u64| (lines * 64 + structure) as i64;
    let growth = overhead(last.overflow_lines_used, last.structure_bytes)
        - overhead(first.overflow_lines_used, first.structure_bytes);
    let worst = classes.iter().map(|class| class.p999_to_median).fold(0.0, f64::max);
    let mut outcome = Outcome::new(Figures {
        arena_bytes,
        arena_turns: turns,
        live_percent: args.live,
        seed: args.seed,
        puts: load.puts,
        deletes: load.deletes,
        full: load.full,
        overflow_lines_first: first.overflow_lines_used,
        overflow_lines_last: last.overflow_lines_used,
        structure_first: first.structure_bytes,
        structure_last: last.structure_bytes,
        overhead_growth: growth,
        moved_per_byte: store_benches::stats::rounded(
            last.moved_bytes as f64 / load.bytes.max(1) as f64,
            3,
        ),
        mib_per_s: load.mib_per_s(),
        wrong_values,
        violations: report.violations_total,
        worst_p999_to_median: worst,
        classes,
    });
    let figures = &outcome.figures;
    let (full, wrong, violations) = (figures.full, figures.wrong_values, figures.violations);
    outcome.require(full == 0, || format!("{full} puts were refused"));
    outcome.require(wrong == 0, || format!("{wrong} values are not what was put"));
    outcome.require(violations == 0, || format!("{violations} invariants are broken"));
    // A page of lines is chance: which keys share a bucket differs from turn to turn.
    let chance = 64 * (first.items as i64 / 200).max(64);
    outcome.require(growth <= chance, || format!("structures grew by {growth} bytes"));
    if !args.quick {
        outcome.require(worst < 100.0, || format!("p99.9 is {worst} times the median in a class"));
    }
    Ok(outcome)
}
