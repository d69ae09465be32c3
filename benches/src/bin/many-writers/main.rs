//! `many-writers`: 200 writer processes at once on 64 MiB, then a thousand short-lived ones.
//!
//! None is told `Full`, everything acknowledged can be read, also what was put by those that were
//! killed, and nothing of the dead or gone stays taken: no client entry, and no extent, for in the
//! end the emptied store takes one writer's items up to the brim again.

mod herd;
mod leaks;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::worker;
use store_client::{CreateOptions, Reader};

use herd::Herd;
use leaks::Leaks;

const MIB: u64 = 1024 * 1024;
const STORE_BYTES: u64 = 64 * MIB;
/// How much of the arena one writer must be able to fill once everybody else is gone.
const REFILL_PERCENT_MIN: f64 = 80.0;

/// 200 writer processes at once on a store of 64 MiB, then many short-lived ones.
#[derive(Parser)]
struct Args {
    /// Writers that are attached at the same time.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=400))]
    writers: u32,
    /// Short-lived writers after them; 1000 by default, 200 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1500))]
    short_lived: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
    /// 200 short-lived writers.
    #[arg(long)]
    quick: bool,
    /// What decides who is killed, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    store_bytes: u64,
    seed: u64,
    writers: u32,
    short_lived: u32,
    killed: u32,
    acknowledged: u64,
    full: u32,
    errors: u32,
    lost: u64,
    torn: u64,
    clients_at_peak: usize,
    extents_open_at_peak: u32,
    violations: u64,
    #[serde(flatten)]
    leaks: Leaks,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve(job, herd::work),
        None => report::conclude("many-writers", || run(&args)),
    }
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let short_lived = args.short_lived.unwrap_or(if args.quick { 200 } else { 1000 });
    let scratch =
        Scratch::create_empty("many-writers", args.store, CreateOptions::new(STORE_BYTES))?;
    // Only reading, so that every entry of the client table is one of theirs.
    let spec = scratch.spec().context("a store to attach")?;
    let reader = Reader::attach(spec).context("attaching to read")?;

    let mut herd = Herd::new(spec, SmallRng::seed_from_u64(args.seed));
    let peak = herd.all_at_once(args.writers, &reader)?;
    eprintln!("{} writers at once: {} full, {} errors", args.writers, herd.full, herd.errors);
    herd.one_after_another(short_lived)?;
    eprintln!("{short_lived} more, {} of them killed", herd.killed);

    let (lost, torn) = herd.hold_to(&reader)?;
    let checked = reader.check(|_, _| {});
    for violation in &checked.violations {
        eprintln!("check: {violation}");
    }
    let leaks = leaks::look_for(spec, &reader)?;
    let figures = Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        store_bytes: STORE_BYTES,
        seed: args.seed,
        writers: args.writers,
        short_lived,
        killed: herd.killed,
        acknowledged: herd.acknowledged(),
        full: herd.full,
        errors: herd.errors,
        lost,
        torn,
        clients_at_peak: peak.clients,
        extents_open_at_peak: peak.extents_open,
        violations: checked.violations_total + leaks.violations,
        leaks,
    };
    Ok(judge(figures, herd.first_error))
}

fn judge(figures: Figures, first_error: Option<String>) -> Outcome<Figures> {
    println!(
        "{} writers at once and {} after them ({} killed) put {} items: {} full, {} errors, {} \
         lost; {} clients left, and one writer filled {} % of the arena again",
        figures.writers,
        figures.short_lived,
        figures.killed,
        figures.acknowledged,
        figures.full,
        figures.errors,
        figures.lost,
        figures.leaks.clients_left,
        figures.leaks.refill_percent,
    );
    let mut outcome = Outcome::new(figures);
    let figures = &outcome.figures;
    let why = first_error.map(|error| format!(", first: {error}")).unwrap_or_default();
    let conditions = [
        (figures.acknowledged > 0, "nothing was put".to_owned()),
        (figures.full == 0, format!("{} were told the store is full{why}", figures.full)),
        (figures.errors == 0, format!("{} failed{why}", figures.errors)),
        (figures.lost == 0, format!("{} acknowledged items are lost", figures.lost)),
        (figures.torn == 0, format!("{} items are torn", figures.torn)),
        (figures.violations == 0, format!("check found {} violations", figures.violations)),
        (
            figures.leaks.clients_left == 0 && figures.leaks.extents_owned_left == 0,
            format!(
                "{} clients with {} extents stay in the table",
                figures.leaks.clients_left, figures.leaks.extents_owned_left
            ),
        ),
        (
            figures.leaks.refill_percent >= REFILL_PERCENT_MIN,
            format!("only {} % of the arena could be used again", figures.leaks.refill_percent),
        ),
    ];
    for (holds, failure) in conditions {
        outcome.require(holds, || failure);
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
