//! `full`: stores filled until the first refusal, with values of one size and with a mix.
//!
//! A refused put changes nothing, room that was given back can be used at once, whichever key it
//! came from, and hardly any of the arena can't be used.

mod brim;
mod content;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::rounded;
use store_client::{CreateOptions, Reader};

use brim::{Brim, Findings, Values};

/// The least part of the arena that must hold items when a put is refused.
const USABLE_MIN: f64 = 0.85;

const CLASSES: [(&str, Values); 5] = [
    ("100 B", Values::Of(100)),
    ("1 KB", Values::Of(1_000)),
    ("10 KB", Values::Of(10_000)),
    ("100 KB", Values::Of(100_000)),
    ("a mix", Values::Mixed(16, 256 << 10)),
];

/// Fill stores until they refuse, with values of each size, and see what they still do.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// MiB of each store; 256 by default.
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    size_mib: Option<u64>,
    /// How often a key is deleted and another one put, in each; 1,000 by default, 100 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: Option<u32>,
    /// Smaller stores, fewer rounds.
    #[arg(long)]
    quick: bool,
    /// What lengths and keys are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    size_mib: u64,
    rounds: u32,
    seed: u64,
    /// Bytes of live items for each byte of the arena, at the first refusal: the least.
    usable: f64,
    usable_100b: f64,
    usable_1kb: f64,
    usable_10kb: f64,
    usable_100kb: f64,
    usable_mix: f64,
    refused: u64,
    refused_changed: u64,
    accepted_after_refusal: u64,
    delete_then_put_failed: u64,
    wrong_values: u64,
    violations: u64,
}

/// What one class came to.
struct Filled {
    usable: f64,
    findings: Findings,
    wrong_values: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("full", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    args.store.ensure_attachable("full")?;
    let size_mib = args.size_mib.unwrap_or(256);
    let rounds = args.rounds.unwrap_or(if args.quick { 100 } else { 1000 });
    let mut filled = Vec::new();
    for (name, values) in CLASSES {
        let class = fill_one(args, size_mib << 20, rounds, (name, values));
        filled.push(class.with_context(|| format!("filling a store with values of {name}"))?);
    }
    let sum = |of: fn(&Filled) -> u64| filled.iter().map(of).sum();
    let usable: Vec<f64> = filled.iter().map(|class| rounded(class.usable, 4)).collect();
    Ok(judge(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        size_mib,
        rounds,
        seed: args.seed,
        usable: usable.iter().copied().fold(1.0, f64::min),
        usable_100b: usable[0],
        usable_1kb: usable[1],
        usable_10kb: usable[2],
        usable_100kb: usable[3],
        usable_mix: usable[4],
        refused: sum(|class| class.findings.refused),
        refused_changed: sum(|class| class.findings.refused_changed),
        accepted_after_refusal: sum(|class| class.findings.accepted_after_refusal),
        delete_then_put_failed: sum(|class| class.findings.delete_then_put_failed),
        wrong_values: sum(|class| class.wrong_values),
        violations: sum(|class| class.findings.violations),
    }))
}

fn fill_one(
    args: &Args,
    size: u64,
    rounds: u32,
    (name, values): (&'static str, Values),
) -> Result<Filled> {
    let (scratch, writer) = Scratch::create("full", args.store, CreateOptions::new(size))?;
    let reader = Reader::attach(scratch.spec().context("a store to attach")?)?;
    let arena_bytes = reader.info()?.max_arena_bytes;
    let mut brim = Brim::new(&writer, &reader, values, args.seed);
    let refused_len = brim.fill()?;
    let stats = reader.stats()?;
    let usable = stats.live_bytes as f64 / arena_bytes as f64;
    let percent = |bytes: u64| bytes as f64 / arena_bytes as f64 * 100.0;
    println!(
        "{name:>6}  {:>8} items  {:.1} % live  {:.1} % index  {:.1} % kept for cleaning  \
         {:.1} % dead  {:.1} % free",
        brim.items(),
        percent(stats.live_bytes),
        percent(stats.index_bytes),
        percent(stats.reserve_bytes),
        percent(stats.dead_bytes),
        percent(stats.free_bytes),
    );
    let mut wrong_values = brim.wrong_values()?;
    brim.compare_refusals(refused_len)?;
    // The attempts may have been taken, or have given room back.
    brim.fill()?;
    let bar = progress::bar(rounds.into(), format!("keys replaced, {name}"));
    brim.delete_then_put(rounds, &bar)?;
    bar.finish_and_clear();
    wrong_values += brim.wrong_values()?;
    let Findings { refused, delete_then_put_failed, .. } = brim.findings;
    println!(
        "{:>6}  {rounds} keys replaced, of which {delete_then_put_failed} were refused; \
         {refused} refusals in all",
        ""
    );
    brim.findings.violations += reader.check(|_, _| {}).violations_total;
    Ok(Filled { usable, findings: brim.findings, wrong_values })
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let usable = figures.usable;
    let none = [
        (figures.refused_changed, "refused puts changed something"),
        (figures.delete_then_put_failed, "puts into room that was given back were refused"),
        (figures.wrong_values, "values are not what was put"),
        (figures.violations, "invariants are broken"),
    ];
    let mut outcome = Outcome::new(figures);
    outcome.require(usable >= USABLE_MIN, || {
        format!("{usable} of the arena can be used, at least {USABLE_MIN} is asked for")
    });
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
