//! `overlap`: two writer and two reader processes on the same keys.
//!
//! No torn value, no acknowledged write lost, no miss of a key that always stands, nothing read
//! that is older than what was read before. In the end the store's content is held against what
//! the writers say was acknowledged, and `check` goes over the store.

mod keyset;
mod reader;
mod verdict;
mod writer;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use serde::{Deserialize, Serialize};

use store_benches::records::{Stamp, fill};
use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::rounded;
use store_benches::tally::Tally;
use store_benches::worker::{self, Crew, Handle, PATIENCE, Parent};
use store_client::{CreateOptions, Writer};

use keyset::{Acknowledged, Class, FIRST_SEQ, Keyset, PARENT, Shape, WRITERS};

const READERS: u64 = 2;
const MIB: u64 = 1024 * 1024;

/// Two writer and two reader processes on the same keys.
#[derive(Parser)]
struct Args {
    /// How long they run; 60 by default, 5 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: Option<u64>,
    #[command(flatten)]
    store: StoreArgs,
    /// Five seconds.
    #[arg(long)]
    quick: bool,
    /// What the random choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// What a worker process is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Role {
    Writer(u8),
    Reader,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    role: Role,
    shape: Shape,
    seconds: u64,
    seed: u64,
}

impl Job {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// What a worker tells its parent first.
#[derive(Debug, Serialize, Deserialize)]
struct Attached;

/// What it tells in the end.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    tally: Tally,
    /// A writer's ledger.
    acknowledged: Option<Acknowledged>,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    seconds: f64,
    seed: u64,
    keys: usize,
    reads: u64,
    writes: u64,
    torn: u64,
    lost: u64,
    missed: u64,
    backwards: u64,
    contended: u64,
    errors: u64,
    violations: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve(job, work),
        None => report::conclude("overlap", || run(&args)),
    }
}

fn work(job: Job, store: Handle, parent: &mut Parent) -> Result<()> {
    match job.role {
        Role::Writer(id) => writer::run(&job, id, store, parent),
        Role::Reader => reader::run(&job, store, parent),
    }
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let seconds = args.seconds.unwrap_or(if args.quick { 5 } else { 60 });
    let shape = Shape::default();
    let keyset = Keyset::new(shape);
    // About 13 MiB are live. Whole extents become free only when the last of their items was
    // overwritten, which takes some times as much; cleaning is not needed with this much room.
    let options = CreateOptions::new(512 * MIB);
    let (scratch, writer) = Scratch::create("overlap", args.store, options)?;
    load(&writer, &keyset)?;
    let mut crew = Crew::new(writer, scratch.spec(), work);

    let job = |role, number: u64| Job {
        role,
        shape,
        seconds,
        seed: args.seed.wrapping_mul(1000) + number,
    };
    let mut jobs: Vec<Job> = WRITERS.map(|id| job(Role::Writer(id), id.into())).to_vec();
    jobs.extend((0..READERS).map(|number| job(Role::Reader, 100 + number)));

    let start = Instant::now();
    let (mut tally, acknowledged) = run_workers(&mut crew, &jobs)?;
    let elapsed = start.elapsed();

    let writer = crew.writer();
    verdict::hold_to(writer, &keyset, &acknowledged, &mut tally);
    let checked = writer.check(|_, _| {});
    for violation in &checked.violations {
        eprintln!("check: {violation}");
    }
    let figures = Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        seconds: rounded(elapsed.as_secs_f64(), 2),
        seed: args.seed,
        keys: keyset.len(),
        reads: tally.reads,
        writes: tally.writes,
        torn: tally.torn,
        lost: tally.lost,
        missed: tally.missed,
        backwards: tally.backwards,
        contended: tally.contended,
        errors: tally.errors,
        violations: checked.violations_total,
    };
    Ok(judge(figures, &tally))
}

/// Starts all, lets them loose at once, and gathers what they saw.
fn run_workers(crew: &mut Crew<Job>, jobs: &[Job]) -> Result<(Tally, Vec<Acknowledged>)> {
    let mut workers = jobs.iter().map(|job| crew.start(job)).collect::<Result<Vec<_>>>()?;
    for worker in &mut workers {
        worker.receive::<Attached>(PATIENCE)?;
    }
    for worker in &mut workers {
        worker.go()?;
    }
    let (mut sum, mut all) = (Tally::default(), Vec::new());
    for (worker, job) in workers.iter_mut().zip(jobs) {
        let Done { tally, acknowledged } = worker.receive(job.duration() + PATIENCE)?;
        eprintln!("{:?}: {} reads, {} writes", job.role, tally.reads, tally.writes);
        sum.absorb(tally);
        all.extend(acknowledged);
        worker.finish()?;
    }
    Ok((sum, all))
}

/// Every key that always stands gets its first value before anybody else looks.
fn load(writer: &Writer, keyset: &Keyset) -> Result<()> {
    let mut value = Vec::new();
    let stamp = Stamp { writer: PARENT, seq: FIRST_SEQ };
    for class in [Class::Always, Class::Private(WRITERS[0]), Class::Private(WRITERS[1])] {
        for key in keyset.of(class) {
            fill(&mut value, key, stamp, keyset::value_len(key, stamp));
            writer.put(key, &value).context("putting the keys that always stand")?;
        }
    }
    for class in [Class::Counter, Class::Ballot] {
        for key in keyset.of(class) {
            writer.put(key, b"0").context("putting the counters")?;
        }
    }
    Ok(())
}

fn judge(figures: Figures, tally: &Tally) -> Outcome<Figures> {
    println!(
        "{} reads and {} writes in {} s on {}: {} torn, {} lost, {} missed, {} backwards, \
         {} contended, {} errors; check: {} violations",
        figures.reads,
        figures.writes,
        figures.seconds,
        figures.backing,
        figures.torn,
        figures.lost,
        figures.missed,
        figures.backwards,
        figures.contended,
        figures.errors,
        figures.violations,
    );
    let wrong = tally.torn + tally.lost + tally.missed + tally.backwards + tally.errors;
    let violations = figures.violations;
    let mut outcome = Outcome::new(figures);
    outcome.require(tally.reads > 0 && tally.writes > 0, || "nothing was read or written".into());
    outcome.require(wrong == 0, || format!("{wrong} wrong: {}", tally.examples.join("; ")));
    outcome.require(violations == 0, || format!("check found {violations} violations"));
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
