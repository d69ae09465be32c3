//! `usable`: how much of the arena holds live items in cache mode, once the store is full.
//!
//! A program looks keys up and puts those that are missing, for several times more keys than there
//! is room for. What lives is looked at again and again in the second half of the run.

mod traffic;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::rounded;
use store_client::{CreateOptions, Mode, Writer};

use traffic::{Traffic, Values};

/// The least part of the arena that must hold live items.
const USABLE_MIN: f64 = 0.93;
/// Looks at the store in a run, of which the second half counts.
const LOOKS: u64 = 400;

/// The index is laid out for this part of the items, and grows: one that is laid out for all of them
/// is larger than one that grew.
const LAID_OUT_PART: u64 = 4;

const MIX: Values = Values::Mixed(16, 64 << 10);

/// One workload.
struct Workload {
    name: &'static str,
    values: Values,
    /// Half of the puts are of keys that are there.
    overwrites: bool,
    judged: bool,
}

const WORKLOADS: [Workload; 5] = [
    Workload { name: "100 B", values: Values::Of(100), overwrites: false, judged: true },
    Workload { name: "1 KB", values: Values::Of(1_000), overwrites: false, judged: true },
    Workload { name: "10 KB", values: Values::Of(10_000), overwrites: false, judged: true },
    Workload { name: "mix", values: MIX, overwrites: false, judged: true },
    Workload { name: "mix, overwrites", values: MIX, overwrites: true, judged: false },
];

/// How much of the arena holds live items in cache mode, once the store is full.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// MiB of each store; 256 by default, 64 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    size_mib: Option<u64>,
    /// How many times the store's bytes are put, in each; 6 by default, 3 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..=1_000))]
    turns: Option<u64>,
    /// Smaller stores, fewer puts.
    #[arg(long)]
    quick: bool,
    /// What keys and lengths are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    size_mib: u64,
    turns: u64,
    seed: u64,
    /// The least `usable_min` of the rows that are judged.
    usable: f64,
    rows: Vec<Row>,
}

/// What one workload came to. Parts are of the bytes of the arena, on average where nothing else is
/// said.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    judged: bool,
    /// Live bytes, of what the index leaves of the arena; that has its own limit, in `overhead`.
    usable_min: f64,
    usable_mean: f64,
    dead: f64,
    free: f64,
    kept_for_cleaning: f64,
    index: f64,
    /// Live bytes, of all of the arena, the index's part included.
    usable_with_index: f64,
    /// Live bytes, of all bytes of the segment.
    usable_of_segment: f64,
    items: u64,
    puts: u64,
    overwrites: u64,
    hit_ratio: f64,
    evicted: u64,
    moved_per_put_byte: f64,
    refused: u64,
    wrong_values: u64,
    violations: u64,
}

/// Sums over looks at a store, in parts of its arena.
#[derive(Default)]
struct Looks {
    count: u64,
    live_min: Option<f64>,
    live: f64,
    live_with_index: f64,
    dead: f64,
    free: f64,
    reserve: f64,
    index: f64,
}

impl Looks {
    fn take(&mut self, writer: &Writer, arena_bytes: u64) -> Result<()> {
        let stats = writer.stats()?;
        let part = |bytes: u64| bytes as f64 / arena_bytes as f64;
        let live = stats.live_bytes as f64 / (arena_bytes - stats.index_bytes) as f64;
        self.live_min = Some(self.live_min.map_or(live, |least| least.min(live)));
        self.count += 1;
        self.live += live;
        self.live_with_index += part(stats.live_bytes);
        self.dead += part(stats.dead_bytes);
        self.free += part(stats.free_bytes);
        self.reserve += part(stats.reserve_bytes);
        self.index += part(stats.index_bytes);
        Ok(())
    }

    fn mean(&self, sum: f64) -> f64 {
        rounded(sum / self.count.max(1) as f64, 4)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("usable", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let size_mib = args.size_mib.unwrap_or(if args.quick { 64 } else { 256 });
    let turns = args.turns.unwrap_or(if args.quick { 3 } else { 6 });
    let mut rows = Vec::new();
    for workload in &WORKLOADS {
        let row = run_one(args, size_mib << 20, turns, workload);
        let row = row.with_context(|| format!("a store with values of {}", workload.name))?;
        show(&row);
        rows.push(row);
    }
    let judged = rows.iter().filter(|row| row.judged);
    Ok(judge(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        size_mib,
        turns,
        seed: args.seed,
        usable: judged.map(|row| row.usable_min).fold(1.0, f64::min),
        rows,
    }))
}

fn run_one(args: &Args, size: u64, turns: u64, workload: &Workload) -> Result<Row> {
    let items = workload.values.items_in(size);
    let laid_out = u64::from(items) / LAID_OUT_PART;
    let options = CreateOptions::new(size).mode(Mode::Cache).items(laid_out);
    let (_scratch, writer) = Scratch::create("usable", args.store, options)?;
    let info = writer.info()?;
    let mut traffic =
        Traffic::new(&writer, workload.values, workload.overwrites, items, args.seed)?;
    let mut looks = Looks::default();
    let bar = progress::bar(turns * size, format!("bytes put, {}", workload.name));
    for look in 1..=LOOKS {
        let put_bytes = turns * size * look / LOOKS;
        traffic.go_on_until(put_bytes)?;
        bar.set_position(put_bytes);
        if look > LOOKS / 2 {
            looks.take(&writer, info.max_arena_bytes)?;
        }
    }
    bar.finish_and_clear();
    let stats = writer.stats()?;
    let eviction = stats.eviction.context("a store in cache mode tells what it evicted")?;
    let counted = traffic.counted;
    let usable_with_index = looks.mean(looks.live_with_index);
    Ok(Row {
        workload: workload.name,
        judged: workload.judged,
        usable_min: rounded(looks.live_min.unwrap_or(0.0), 4),
        usable_mean: looks.mean(looks.live),
        dead: looks.mean(looks.dead),
        free: looks.mean(looks.free),
        kept_for_cleaning: looks.mean(looks.reserve),
        index: looks.mean(looks.index),
        usable_with_index,
        usable_of_segment: rounded(
            usable_with_index * info.max_arena_bytes as f64 / info.segment_bytes as f64,
            4,
        ),
        items: stats.items,
        puts: counted.puts,
        overwrites: counted.overwrites,
        hit_ratio: rounded(counted.hits as f64 / counted.lookups as f64, 4),
        evicted: eviction.evicted_small + eviction.evicted_main,
        moved_per_put_byte: rounded(stats.moved_bytes as f64 / counted.put_bytes as f64, 3),
        refused: counted.refused,
        wrong_values: counted.wrong_values,
        violations: writer.check(|_, _| {}).violations_total,
    })
}

fn show(row: &Row) {
    let percent = |part: f64| part * 100.0;
    println!(
        "{:>18}  {:>8} items  {:.1} % live (least {:.1} %)  {:.1} % dead  {:.1} % free  \
         {:.1} % kept for cleaning  {:.1} % index  {:.1} % hits{}",
        row.workload,
        row.items,
        percent(row.usable_mean),
        percent(row.usable_min),
        percent(row.dead),
        percent(row.free),
        percent(row.kept_for_cleaning),
        percent(row.index),
        percent(row.hit_ratio),
        if row.judged { "" } else { "  (not judged)" },
    );
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let mut failures = Vec::new();
    for row in &figures.rows {
        let (name, usable) = (row.workload, row.usable_min);
        if row.judged && usable < USABLE_MIN {
            failures.push(format!(
                "{name}: {usable} of what the index leaves of the arena holds live items, at least {USABLE_MIN} is \
                 asked for"
            ));
        }
        if row.evicted == 0 {
            failures.push(format!("{name}: nothing was evicted, so the store was not full"));
        }
        for (count, what) in [
            (row.refused, "puts were refused"),
            (row.wrong_values, "values are not what was put"),
            (row.violations, "invariants are broken"),
        ] {
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
