//! `growth`: a store that starts small and grows to 20 million items while a process reads it.
//!
//! Puts are held against those into a store that has its size and its index from the start, lookups
//! against those of the same reader in the same store while nobody writes.

mod items;
mod phases;
mod reader;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use serde::Serialize;

use store_benches::report::{self, Outcome};
use store_benches::scratch::{Backing, Scratch, StoreArgs};
use store_benches::stats::{Latencies, rounded};
use store_benches::worker::{self, Crew, PATIENCE};
use store_client::CreateOptions;

use phases::Written;
use reader::{Attached, Job, Seen};

const MIB: u64 = 1 << 20;
/// The store that grows, at first.
const SIZE: u64 = 16 * MIB;
/// What both may take in the end: an item has 56 bytes on average, and its part of the index.
const MAX_SIZE_PER_ITEM: u64 = 96;
/// A put may take so long once in 10,000 times, or twice as long as one of the control.
const P9999_NS_MAX: u64 = 1_000_000;
const P9999_RATIO_MAX: u64 = 2;
/// The least speed of lookups while the store grows, of that while nobody writes.
const LOOKUP_RATIO_MIN: f64 = 0.5;

/// A store that starts small and grows to many items while a process reads it.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Items of 16-byte keys and values of 8 to 32 bytes; 20,000,000 by default, 1,000,000 with
    /// --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000_000..=200_000_000))]
    items: Option<u32>,
    /// Fewer items, times not judged.
    #[arg(long)]
    quick: bool,
    /// What the keys that are looked up come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    items: u32,
    seed: u64,
    size_first: u64,
    size_last: u64,
    resident_bytes: u64,
    buckets_first: u64,
    buckets_last: u64,
    overflow_lines_used: u64,
    index_bytes: u64,
    put_p50_ns: u64,
    put_p99_ns: u64,
    put_p999_ns: u64,
    put_p9999_ns: u64,
    put_max_ns: u64,
    control_p50_ns: u64,
    control_p99_ns: u64,
    control_p999_ns: u64,
    control_p9999_ns: u64,
    control_max_ns: u64,
    lookups: u64,
    lookups_per_s_growing: f64,
    lookups_per_s_idle: f64,
    lookup_ratio: f64,
    lookup_ratio_control: f64,
    missed: u64,
    wrong: u64,
    errors: u64,
    violations: u64,
    judged: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve(job, reader::run),
        None => report::conclude("growth", || run(&args)),
    }
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let items = args.items.unwrap_or(if args.quick { 1_000_000 } else { 20_000_000 });
    let max_size = 64 * MIB + u64::from(items) * MAX_SIZE_PER_ITEM;
    let options = CreateOptions::new(SIZE).max_size(max_size);
    let (scratch, writer) = Scratch::create("growth", args.store, options)?;
    let laid_out = CreateOptions::new(max_size).items(items.into());
    let (_control, control) = Scratch::create("growth-control", beside(args.store), laid_out)?;
    let mut crew = Crew::new(writer, scratch.spec(), reader::run);
    let mut reader = crew.start(&Job { seed: args.seed })?;
    let Attached = reader.receive(PATIENCE)?;

    let writer = crew.writer();
    let (first, size_first) = (writer.stats()?, writer.info()?.segment_bytes);
    let written = Written::write(items, writer, &control)?;
    reader.go()?;
    let seen: Seen = reader.receive(PATIENCE)?;
    reader.finish()?;

    let (last, info) = (writer.stats()?, writer.info()?);
    ensure!(last.items == u64::from(items), "the store has {} items", last.items);
    let lookups = written.lookups(&seen.windows);
    show("growing", &written.growing);
    show("control", &written.control);
    let ([p50, p99, p999, p9999, max], [c50, c99, c999, c9999, cmax]) =
        (quantiles(&written.growing), quantiles(&written.control));
    Ok(judge(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        items,
        seed: args.seed,
        size_first,
        size_last: info.segment_bytes,
        resident_bytes: info.resident_bytes,
        buckets_first: first.buckets,
        buckets_last: last.buckets,
        overflow_lines_used: last.overflow_lines_used,
        index_bytes: last.index_bytes,
        put_p50_ns: p50,
        put_p99_ns: p99,
        put_p999_ns: p999,
        put_p9999_ns: p9999,
        put_max_ns: max,
        control_p50_ns: c50,
        control_p99_ns: c99,
        control_p999_ns: c999,
        control_p9999_ns: c9999,
        control_max_ns: cmax,
        lookups: seen.windows.len() as u64 * u64::from(reader::WINDOW),
        lookups_per_s_growing: rounded(lookups.growing, 0),
        lookups_per_s_idle: rounded(lookups.idle, 0),
        lookup_ratio: rounded(lookups.growing_ratio, 3),
        lookup_ratio_control: rounded(lookups.control_ratio, 3),
        missed: seen.missed,
        wrong: seen.wrong,
        errors: seen.errors,
        violations: writer.check(|_, _| {}).violations_total,
        // A short run is for seeing that it works; its times are no judgement.
        judged: !args.quick,
    }))
}

/// Where the control is: a process has one key only.
fn beside(args: StoreArgs) -> StoreArgs {
    let backing = match args.backing {
        Backing::SysvKey => Backing::Sysv,
        other => other,
    };
    StoreArgs { backing, ..args }
}

fn quantiles(puts: &Latencies) -> [u64; 5] {
    [0.5, 0.99, 0.999, 0.9999, 1.0].map(|fraction| puts.quantile_ns(fraction))
}

fn show(store: &str, puts: &Latencies) {
    let [p50, p99, p999, p9999, max] = quantiles(puts).map(|ns| ns as f64 / 1e3);
    println!(
        "puts, {store}: p50 {p50:.2} µs, p99 {p99:.2} µs, p99.9 {p999:.1} µs, p99.99 {p9999:.1} µs, \
         longest {max:.0} µs"
    );
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let (p9999, control) = (figures.put_p9999_ns, figures.control_p9999_ns);
    let limit = P9999_NS_MAX.max(control * P9999_RATIO_MAX);
    let ratio = figures.lookup_ratio;
    let grown = (figures.buckets_first, figures.buckets_last);
    let none = [
        (figures.missed, "lookups missed a key that was there"),
        (figures.wrong, "lookups gave another value"),
        (figures.errors, "lookups failed"),
        (figures.violations, "invariants are broken"),
    ];
    let judged = figures.judged;
    let mut outcome = Outcome::new(figures);
    if judged {
        outcome.require(p9999 <= limit, || {
            format!("p99.99 of a put is {p9999} ns, at most {limit} ns is asked for")
        });
        outcome.require(ratio >= LOOKUP_RATIO_MIN, || {
            format!("lookups have {ratio} of their speed, at least {LOOKUP_RATIO_MIN} is asked for")
        });
    }
    outcome.require(grown.0 < grown.1, || "the index did not grow".into());
    for (count, what) in none {
        outcome.require(count == 0, || format!("{count} {what}"));
    }
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
