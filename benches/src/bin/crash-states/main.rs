//! `crash-states`: each prefix of the stores of each operation, from many start states, is a state that
//! a crash can leave; each is recovered from, also by recoveries that die too, and judged.

mod ended;
mod starts;

use std::collections::BTreeMap;
use std::panic;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;
use clap::Parser;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::ProgressBar;
use parking_lot::Mutex;
use serde::Serialize;

use store_benches::progress;
use store_benches::records::mix;
use store_benches::report::{self, Outcome};
use store_core::Mutation;
use store_testing::crash::Seen;
use store_testing::trace::leave_out;

/// Recover from every state that a crash can leave, from many start states.
#[derive(Parser)]
struct Args {
    /// Distinct states to look at, at the least; 1,000,000 by default, 100,000 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    states: Option<u64>,
    /// Fewer states.
    #[arg(long)]
    quick: bool,
    /// Start states, operations and which recoveries die come from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take one rule out of the store, to see that it is found out.
    #[arg(long, value_parser = Mutation::from_str)]
    without: Option<Mutation>,
}

#[derive(Serialize)]
struct Figures {
    seed: u64,
    states: u64,
    violations: u64,
    rounds: u64,
    by_start: BTreeMap<String, u64>,
    by_operation: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("crash-states", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let wanted = args.states.unwrap_or(if args.quick { 100_000 } else { 1_000_000 });
    let bar = progress::bar(wanted, "states".into());
    let mut all = Seen::default();
    let mut rounds = 0;
    // What panics is a violation, told in its own words.
    panic::set_hook(Box::new(|_| {}));
    while all.states() < wanted && all.violations == 0 {
        all.absorb(round(args, rounds, &bar)?);
        rounds += 1;
    }
    drop(panic::take_hook());
    bar.finish_and_clear();
    println!("{}", table(&all).trim_fmt());
    for text in &all.texts {
        println!("{text}");
    }
    Ok(judge(args, &all, rounds))
}

/// From each start once, on all processors.
fn round(args: &Args, round: u64, bar: &ProgressBar) -> Result<Seen> {
    let starts = starts::all();
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Seen::default());
    let work = || -> Result<()> {
        leave_out(args.without);
        while let Some(start) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seen = start.walk(mix(mix(args.seed) ^ round))?;
            bar.inc(seen.states());
            let mut all = all.lock();
            all.absorb(seen);
            if all.violations > 0 {
                break;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        })
    })?;
    Ok(all.into_inner())
}

/// How many states each operation left, by start.
fn table(all: &Seen) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["start", "operation", "states"]);
    for ((start, operation), count) in &all.counts {
        table.add_row([start.clone(), operation.clone(), count.to_string()]);
    }
    if let Some(states) = table.column_mut(2) {
        states.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn judge(args: &Args, all: &Seen, rounds: u64) -> Outcome<Figures> {
    let (mut by_start, mut by_operation) = (BTreeMap::new(), BTreeMap::new());
    for ((start, operation), count) in &all.counts {
        *by_start.entry(start.clone()).or_default() += count;
        // What happened besides is in the table.
        let operation = operation.split(',').next().unwrap_or_default();
        *by_operation.entry(operation.to_owned()).or_default() += count;
    }
    let beside: Vec<&str> = ["a split", "a link", "an unlink", "growth", "relocation", "eviction"]
        .into_iter()
        .filter(|what| !all.counts.keys().any(|(_, operation)| operation.contains(what)))
        .collect();
    let mut outcome = Outcome::new(Figures {
        seed: args.seed,
        states: all.states(),
        violations: all.violations,
        rounds,
        by_start,
        by_operation,
        without: args.without.map(|rule| rule.name().to_owned()),
    });
    outcome.require(all.violations == 0, || format!("{} states are wrong", all.violations));
    outcome.require(all.violations > 0 || beside.is_empty(), || {
        format!("no operation came with {}", beside.join(", "))
    });
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
