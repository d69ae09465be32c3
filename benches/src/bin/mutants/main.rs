//! `mutants`: the store with one rule taken out at a time, before the programs and races that are there
//! to see it. Each must be found out; and none of the races may find anything where nothing is taken out.

mod harness;
mod hostile;
mod race;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_core::Mutation;

use harness::{Harness, Verdict};
use race::Race;

/// Take rules out of the store, one at a time, and see that each is missed.
#[derive(Parser)]
struct Args {
    /// Shorter runs of what is to find them.
    #[arg(long)]
    quick: bool,
    /// Show every rule to everything that might find it, not only until it is found.
    #[arg(long)]
    all: bool,
    /// Only this rule.
    #[arg(long, value_parser = Mutation::from_str)]
    rule: Option<Mutation>,
    /// What the programs do comes from it; schedules of the kernel do not.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// One race over the store, with or without a rule; this program starts it for itself.
    Race {
        /// Which one.
        race: Race,
        /// The rule that is taken out.
        #[arg(long, value_parser = Mutation::from_str)]
        without: Option<Mutation>,
        /// How long it goes on if nothing is found, at the most, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

#[derive(Serialize)]
struct Figures {
    seed: u64,
    mutants: usize,
    caught: usize,
    survivors: Vec<&'static str>,
    controls: usize,
    false_alarms: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.part {
        Some(Part::Race { race, without, seconds }) => race.run(without, seconds),
        None => report::conclude("mutants", || run(&args)),
    }
}

/// What is not to be found: the first is no rule, but another way to do the same; the second asks for a
/// processor that lets a store wait for long.
const NOT_SHOWN: [Mutation; 2] = [Mutation::RewriteUnderGuard, Mutation::SkipReuseFence];

/// A rule, and what is to find it, the likeliest first.
fn mutants(rule: Option<Mutation>) -> Vec<(Mutation, Vec<Harness>)> {
    let is_meant = |known: &Mutation| match rule {
        Some(rule) => *known == rule,
        None => !NOT_SHOWN.contains(known),
    };
    let chosen = Mutation::ALL.into_iter().filter(is_meant);
    chosen.map(|rule| (rule, Harness::for_rule(rule))).collect()
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let mutants = mutants(args.rule);
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "taken out",
        "shown to",
        "found",
        "seconds",
    ]);
    let bar = progress::bar((mutants.len() + Race::ALL.len()) as u64, "mutants".into());
    let mut survivors = Vec::new();
    for (rule, harnesses) in &mutants {
        let mut found = false;
        for harness in harnesses {
            let began = Instant::now();
            let verdict = harness.run(Some(*rule), args.quick, args.seed)?;
            found |= verdict != Verdict::Nothing;
            let seconds = format!("{:.1}", began.elapsed().as_secs_f64());
            table.add_row([rule.name(), &harness.to_string(), verdict.text(), &seconds]);
            if found && !args.all {
                break;
            }
        }
        if !found {
            survivors.push(rule.name());
        }
        bar.inc(1);
    }
    let mut false_alarms = 0;
    for race in Race::ALL {
        let verdict = Harness::Race(race).run(None, true, args.seed)?;
        false_alarms += usize::from(verdict != Verdict::Nothing);
        table.add_row(["nothing", &race.to_string(), verdict.text(), ""]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{}", table.trim_fmt());
    let mut outcome = Outcome::new(Figures {
        seed: args.seed,
        mutants: mutants.len(),
        caught: mutants.len() - survivors.len(),
        survivors: survivors.clone(),
        controls: Race::ALL.len(),
        false_alarms,
    });
    outcome.require(survivors.is_empty(), || format!("nothing finds {}", survivors.join(", ")));
    outcome.require(false_alarms == 0, || "a race finds what is not there".to_owned());
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::mutants;

    #[test]
    fn arguments_are_well_formed() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn there_are_ten_and_each_is_shown_to_something() {
        let mutants = mutants(None);
        assert!(mutants.len() >= 10);
        assert!(mutants.iter().all(|(_, harnesses)| !harnesses.is_empty()));
    }
}
