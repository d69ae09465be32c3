//! `hit-ratio`: Cistern's cache mode on recorded traces, beside exact policies and other caches.
//!
//! Each trace is played at several capacities. An item counts as one; what is missed is put. FIFO,
//! LRU and S3-FIFO are simulated exactly in the same run, and are what Cistern is held against;
//! the crates `moka` and `quick_cache` are played the same and not judged.

#[cfg(test)]
mod exact_figures;
mod fifo;
mod lru;
mod rows;
mod s3_fifo;
mod subject;
mod subject_cistern;
mod subject_moka;
mod subject_quick_cache;
mod table;
mod traces;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::scratch::StoreArgs;

use rows::{Course, PLAYERS};
use traces::{RECORDINGS, Recording};
use verdict::Figures;

/// The hit ratio of Cistern's cache mode on recorded traces, beside exact policies and other caches.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Where the traces are; benches/traces of the sources by default.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Without the longest trace.
    #[arg(long)]
    quick: bool,
    /// What the hash functions of the caches come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("hit-ratio", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let folder = args.traces.clone().unwrap_or_else(traces::folder);
    let played = || RECORDINGS.iter().filter(|recording| recording.short || !args.quick);
    let requests = played().map(Recording::plays).sum::<u64>() * PLAYERS;
    let bar = progress::bar(requests, "requests".into());
    let course = Course { store: args.store, seed: args.seed, bar: &bar };
    let mut rows = Vec::new();
    for recording in played() {
        let trace = recording.read(&folder)?;
        for percent in recording.percents {
            rows.push(course.row(recording.name, &trace, recording.capacity(*percent))?);
        }
    }
    bar.finish_and_clear();
    table::show(&rows);
    let (backing, guard) = (args.store.backing_name(), args.store.guard.to_string());
    Ok(verdict::judge(backing, guard, args.seed, rows))
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
