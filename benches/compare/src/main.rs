//! `store-bench-compare`: this store, others, and the machine itself at the same work, in one run.
//!
//! Each engine has a process of its own and loads the same items. Then all take turns, round by round; what
//! is told is the median of the rounds, and a quotient is the median of the rounds' quotients. Rows with
//! goals are such quotients. The report says what was measured how, and what was left out.

mod attach;
mod beside;
mod clock;
mod engine;
mod engines;
mod limit;
mod lines;
mod machine;
mod markdown;
mod place;
mod plan;
mod plots;
mod process;
mod results;
mod rounds;
mod rows;
mod run;
mod scaling;
mod served;
mod side;
mod silent;
mod verdict;
mod work;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::ProgressBar;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::worker;

use beside::Scene;
use clock::Clock;
use engine::{Room, Setting};
use engines::Kind;
use machine::Machine;
use place::Place;
use plan::Plan;
use process::EngineProcess;
use results::{Results, Size};
use rounds::Course;
use verdict::Figures;
use workload::Distribution;

/// This store beside others, and beside what the machine can do, at the same work in one run.
#[derive(Parser)]
struct Args {
    /// Engines; all that this machine has if not given. Cistern and hashbrown are what most rows need.
    #[arg(long = "engine", value_enum, value_delimiter = ',')]
    engines: Vec<Kind>,
    /// Numbers of items; 10,000, 100,000, 1,000,000 and 10,000,000 if not given.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    items: Option<Vec<u32>>,
    /// Bytes of a value. Rows with goals are about 100.
    #[arg(long, default_value_t = 100, value_parser = parse_value_bytes)]
    value_bytes: usize,
    /// Which items are asked for how often. Rows with goals are about uniform.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    distribution: Distribution,
    /// Numbers of processes that work at once.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u16).range(1..=64))]
    processes: Vec<u16>,
    /// Rounds; 7 if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Also 100 million items of 8 bytes: some minutes, and 18 GiB of memory.
    #[arg(long)]
    large: bool,
    /// Fewer items and fewer rounds: shows that it works and that answers are right, times are not judged.
    #[arg(long)]
    quick: bool,
    /// What a turn of an engine takes: on a machine that is busy with something else, `processor` leaves out
    /// when it had to wait. Of servers always the wall clock, so rows about them are left out then.
    #[arg(long, value_enum, default_value_t = Clock::Wall)]
    clock: Clock,
    /// What all random numbers come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the report is written.
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

fn parse_value_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 8..=1_000_000) => Ok(bytes),
        _ => Err("from 8 to 1000000".into()),
    }
}

impl Args {
    /// What is measured: asked for, and on this machine.
    fn kinds(&self) -> Vec<Kind> {
        let asked = |kind: &Kind| self.engines.is_empty() || self.engines.contains(kind);
        Kind::ALL.into_iter().filter(asked).filter(|kind| kind.missing().is_none()).collect()
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve_alone(job, run::work),
        None => report::conclude("compare", || compare(&args)),
    }
}

fn compare(args: &Args) -> Result<Outcome<Figures>> {
    let plan = Plan::of(args);
    let mut machine = Machine::look();
    let place = Place::make()?;
    let results = measure(args, &plan, &place)?;
    machine.load_after = machine::load();
    drop(place);
    verdict::conclude(args, &plan, &machine, &results)
}

fn measure(args: &Args, plan: &Plan, place: &Place) -> Result<Results> {
    let mut results = Results { clock_ns: side::clock_ns(), ..Results::default() };
    let courses = plan.courses();
    let others = [vec![plan.large_value_course()], plan.tiny_value_courses()].concat();
    let steps: u64 = courses.iter().chain(&others).map(Course::steps).sum();
    let (windows, windows_of_tails) = (plan.windows(), plan.windows_of_tails());
    let kinds = args.kinds();
    let in_windows = u64::from(windows.rounds) * (kinds.len() * args.processes.len()) as u64
        + u64::from(windows_of_tails.rounds) * 2 * Scene::ALL.len() as u64;
    let bar = progress::bar(steps + in_windows, "turns".into());
    for course in &courses {
        let (size, scaling) = at_size(args, plan, course, place, &bar)?;
        results.sizes.push(size);
        results.scaling = scaling.or(results.scaling);
        place.clear()?;
    }
    for course in others.iter().filter(|course| !course.kinds.is_empty()) {
        let mut field = course.prepare(place, &bar)?;
        field.run(course, &bar)?;
        results.sizes.push(field.finish(course)?);
        place.clear()?;
    }
    if kinds.contains(&Kind::Cistern) {
        for scene in Scene::ALL {
            results.beside.push(beside::measure(
                scene,
                place,
                plan.medium,
                &windows_of_tails,
                &bar,
            )?);
        }
        bar.set_message("puts without system calls");
        let setting = Setting { room: Room::Live(70), ..own(plan, place, "silent") };
        results.silent = Some(silent::measure(&setting, plan.silent_puts, args.seed)?);
        bar.set_message("attaching");
        results.attached = Some(attach::measure(place, plan.attaches)?);
    }
    bar.finish_and_clear();
    Ok(results)
}

/// A store of this run's beside the rounds.
fn own(plan: &Plan, place: &Place, of: &str) -> Setting {
    Setting {
        name: place.name(of),
        folder: place.folder().to_owned(),
        items: plan.medium,
        value_bytes: 100,
        room: plan.grown(),
        huge_pages: false,
    }
}

/// Rounds at one size; at one of them also several processes, and what a store takes that has grown.
fn at_size(
    args: &Args,
    plan: &Plan,
    course: &Course,
    place: &Place,
    bar: &ProgressBar,
) -> Result<(Size, Option<scaling::Scaling>)> {
    let mut field =
        course.prepare(place, bar).with_context(|| format!("{} items", course.items))?;
    field.run(course, bar)?;
    let scaling = if course.items == plan.medium {
        let counts: Vec<_> = args.processes.iter().map(|count| usize::from(*count)).collect();
        Some(scaling::measure(&mut field, &counts, &plan.windows(), bar)?)
    } else {
        None
    };
    let mut size = field.finish(course)?;
    if let Some(side) = size.engines.get_mut(&Kind::Cistern)
        && course.items == plan.medium
    {
        // The store of the rounds has room to spare, as it was asked to be so full and not fuller.
        let setting = Setting { value_bytes: course.value_bytes, ..own(plan, place, "grown") };
        let mut grown = EngineProcess::load(Kind::Cistern, &setting)?;
        let mut memory = grown.memory()?;
        memory.counted += ", of a store that was made with 16 MiB and grew";
        side.memory = Some(memory);
        grown.quit()?;
    }
    Ok((size, scaling))
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
