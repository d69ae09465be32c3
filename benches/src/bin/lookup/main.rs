//! `lookup`: lookups in one process against `hashbrown`, both copying the value out.
//!
//! The same random keys for every engine of a round, laid out before the clock starts; rounds
//! interleaved, the order of the engines rotated. Issue 2 asks at 1,000,000 items of 100 bytes for
//! `get` in at most 0.9 and `get_many` of 32 in at most 0.25 of the map's time.

mod engines;
mod fixture;
mod latency;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

use store_benches::report::{self, Outcome};
use store_benches::stats::{median, median_ratio, rounded};

use engines::{BATCH, ENGINES};
use fixture::{Fixture, Probes};

const JUDGED_ITEMS: u32 = 1_000_000;
const GET_RATIO_MAX: f64 = 0.9;
const GET_MANY_RATIO_MAX: f64 = 0.25;

/// Lookups in one process against a hashbrown map of boxed slices.
#[derive(Parser)]
struct Args {
    /// Items in the store; 10000 and 10000000 are worth a look, only 1000000 is judged.
    #[arg(long, default_value_t = JUDGED_ITEMS, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    items: u32,
    /// Fewer rounds of fewer lookups, times not judged.
    #[arg(long)]
    quick: bool,
    /// What the random keys come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Figures {
    items: u32,
    value_bytes: usize,
    rounds: usize,
    lookups_per_round: usize,
    seed: u64,
    huge_page_bytes: u64,
    get_ns: f64,
    hashbrown_ns: f64,
    get_ratio: f64,
    get_many_ns: f64,
    get_many_ratio: f64,
    get_alloc_ns: f64,
    miss_ns: f64,
    hashbrown_miss_ns: f64,
    miss_ratio: f64,
    get_overlapped_ns: f64,
    hashbrown_overlapped_ns: f64,
    get_overlapped_ratio: f64,
    #[serde(flatten)]
    latency: latency::Figures,
    judged: bool,
}

/// Where each engine stands in [`ENGINES`].
#[derive(Clone, Copy)]
enum Engine {
    Get,
    Hashbrown,
    GetMany,
    GetAlloc,
    Miss,
    HashbrownMiss,
    GetOverlapped,
    HashbrownOverlapped,
}

/// Nanoseconds for each lookup, by engine and round.
struct Timings([Vec<f64>; ENGINES.len()]);

impl Timings {
    fn of(&self, engine: Engine) -> &[f64] {
        &self.0[engine as usize]
    }

    fn median_ns(&self, engine: Engine) -> f64 {
        rounded(median(self.of(engine)), 2)
    }

    fn ratio(&self, ours: Engine, peer: Engine) -> f64 {
        rounded(median_ratio(self.of(ours), self.of(peer)), 4)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::conclude("lookup", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let (rounds, lookups) = if args.quick { (5, 512 * 1024) } else { (11, 2 * 1024 * 1024) };
    assert_eq!(lookups % BATCH, 0, "whole batches only, so that all engines do the same lookups");

    let loading = Instant::now();
    let fixture = Fixture::build(args.items)?;
    eprintln!("{} items loaded twice in {:.1?}", args.items, loading.elapsed());
    fixture.verify_all()?;
    eprintln!("every item is there in both, byte for byte; that also touched every page");

    let mut rng = SmallRng::seed_from_u64(args.seed);
    let timings = time_rounds(&fixture, rounds, lookups, &mut rng)?;
    let latency = latency::measure(&fixture, &Probes::draw(&fixture, lookups / 2, &mut rng))?;

    let figures = Figures {
        items: args.items,
        value_bytes: fixture::VALUE_BYTES,
        rounds,
        lookups_per_round: lookups,
        seed: args.seed,
        huge_page_bytes: fixture.huge_page_bytes()?,
        get_ns: timings.median_ns(Engine::Get),
        hashbrown_ns: timings.median_ns(Engine::Hashbrown),
        get_ratio: timings.ratio(Engine::Get, Engine::Hashbrown),
        get_many_ns: timings.median_ns(Engine::GetMany),
        get_many_ratio: timings.ratio(Engine::GetMany, Engine::Hashbrown),
        get_alloc_ns: timings.median_ns(Engine::GetAlloc),
        miss_ns: timings.median_ns(Engine::Miss),
        hashbrown_miss_ns: timings.median_ns(Engine::HashbrownMiss),
        miss_ratio: timings.ratio(Engine::Miss, Engine::HashbrownMiss),
        get_overlapped_ns: timings.median_ns(Engine::GetOverlapped),
        hashbrown_overlapped_ns: timings.median_ns(Engine::HashbrownOverlapped),
        get_overlapped_ratio: timings.ratio(Engine::GetOverlapped, Engine::HashbrownOverlapped),
        latency,
        // A short run is for seeing that it works; its times are no judgement.
        judged: args.items == JUDGED_ITEMS && !args.quick,
    };
    Ok(judge(figures))
}

fn time_rounds(
    fixture: &Fixture,
    rounds: usize,
    lookups: usize,
    rng: &mut SmallRng,
) -> Result<Timings> {
    let mut timings = Timings(Default::default());
    for round in 0..=rounds {
        let probes = Probes::draw(fixture, lookups, rng);
        for turn in 0..ENGINES.len() {
            let index = (round + turn) % ENGINES.len();
            let engine = &ENGINES[index];
            let ns = engine.time(fixture, &probes)?;
            // Round 0 warms caches and branch predictors, and is not counted.
            if round > 0 {
                timings.0[index].push(ns);
                eprintln!("round {round:2}  {:20} {ns:8.1} ns", engine.name);
            }
        }
    }
    Ok(timings)
}

fn judge(figures: Figures) -> Outcome<Figures> {
    let (get, many, judged) = (figures.get_ratio, figures.get_many_ratio, figures.judged);
    println!(
        "get {} ns, hashbrown {} ns ({get} x); get_many of {BATCH} {} ns ({many} x); miss {} ns, \
         hashbrown {} ns ({} x); independent lookups {} ns, hashbrown {} ns ({} x)",
        figures.get_ns,
        figures.hashbrown_ns,
        figures.get_many_ns,
        figures.miss_ns,
        figures.hashbrown_miss_ns,
        figures.miss_ratio,
        figures.get_overlapped_ns,
        figures.hashbrown_overlapped_ns,
        figures.get_overlapped_ratio,
    );
    let mut outcome = Outcome::new(figures);
    if judged {
        outcome.require(get <= GET_RATIO_MAX, || {
            format!("get takes {get} of hashbrown's time, at most {GET_RATIO_MAX} is asked for")
        });
        outcome.require(many <= GET_MANY_RATIO_MAX, || {
            format!("get_many takes {many} of it, at most {GET_MANY_RATIO_MAX} is asked for")
        });
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::{Args, ENGINES, Engine};
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn engines_stand_where_their_names_say() {
        for (engine, name) in [
            (Engine::Get, "get"),
            (Engine::Hashbrown, "hashbrown"),
            (Engine::GetMany, "get_many"),
            (Engine::GetAlloc, "get_alloc"),
            (Engine::Miss, "miss"),
            (Engine::HashbrownMiss, "hashbrown_miss"),
            (Engine::GetOverlapped, "get_overlapped"),
            (Engine::HashbrownOverlapped, "hashbrown_overlapped"),
        ] {
            assert_eq!(ENGINES[engine as usize].name, name);
        }
    }
}
