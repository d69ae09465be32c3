//! What is to find out that a rule is taken out: the endurance programs, and races of this one.

use std::env;
use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use store_core::Mutation;

use crate::race::Race;

/// Seconds that a race goes on where nothing is found.
const RACE_S: u64 = 120;
const RACE_QUICK_S: u64 = 60;
/// The same where nothing is there to be found.
const CONTROL_S: u64 = 3;

/// Something that can find a rule missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harness {
    /// Every prefix of the stores of each operation.
    CrashStates,
    /// Processes that are killed.
    KillStorm,
    /// Answers that no order explains.
    Linearize,
    /// Threads that race.
    Race(Race),
}

/// What it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passed.
    Nothing,
    /// It did not pass.
    Found,
    /// A signal ended it, as it ends one that does not come to an end.
    Ended,
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Found => "a violation",
            Self::Ended => "no end",
        }
    }
}

/// The last line of a program.
#[derive(Deserialize)]
struct LastLine {
    pass: bool,
}

impl Harness {
    /// All that may find `rule` missing, the likeliest first.
    pub(crate) fn for_rule(rule: Mutation) -> Vec<Self> {
        let first = match rule {
            Mutation::SkipGenerationCheck | Mutation::SkipGenerationBump => {
                Self::Race(Race::Readers)
            }
            Mutation::SkipStampCheck => Self::Race(Race::Overwrites),
            Mutation::SkipEpochBump => Self::Race(Race::Chains),
            Mutation::SkipPins | Mutation::SkipReuseFence => Self::Race(Race::Pins),
            Mutation::SkipSecondLook => Self::Race(Race::Loads),
            Mutation::SkipAttemptsBound => Self::Race(Race::Hostile),
            Mutation::SkipInFlight => Self::KillStorm,
            _ => Self::CrashStates,
        };
        let others = [Self::CrashStates, Self::KillStorm, Self::Linearize];
        let others = others.into_iter().chain(Race::ALL.map(Self::Race));
        [first].into_iter().chain(others.filter(|other| *other != first)).collect()
    }

    /// Runs it over a store without `rule`.
    pub(crate) fn run(self, rule: Option<Mutation>, quick: bool, seed: u64) -> Result<Verdict> {
        let own = env::current_exe().context("the programs beside this one")?;
        let beside = |name: &str| own.with_file_name(name);
        let seed = seed.to_string();
        let mut command = match self {
            Self::CrashStates => Command::new(beside("crash-states")),
            Self::KillStorm => Command::new(beside("kill-storm")),
            Self::Linearize => Command::new(beside("linearize")),
            Self::Race(_) => Command::new(&own),
        };
        match self {
            // Of one round, which finds what it finds.
            Self::CrashStates => command.args(["--states", "1", "--seed", &seed]),
            Self::KillStorm | Self::Linearize => command.args(["--quick", "--seed", &seed]),
            Self::Race(race) => {
                let seconds = match (rule, quick) {
                    (None, _) => CONTROL_S,
                    (Some(_), true) => RACE_QUICK_S,
                    (Some(_), false) => RACE_S,
                };
                command.args(["race", race.name(), "--seconds", &seconds.to_string()])
            }
        };
        if let Some(rule) = rule {
            command.args(["--without", rule.name()]);
        }
        let output = command.stdin(Stdio::null()).output();
        let output =
            output.with_context(|| format!("starting {self}: build all programs first"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().last().and_then(|line| serde_json::from_str::<LastLine>(line).ok()) {
            Some(line) if line.pass => Ok(Verdict::Nothing),
            Some(_) => Ok(Verdict::Found),
            None if output.status.code().is_none() => Ok(Verdict::Ended),
            None => bail!("{self}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

impl fmt::Display for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashStates => f.write_str("crash-states"),
            Self::KillStorm => f.write_str("kill-storm"),
            Self::Linearize => f.write_str("linearize"),
            Self::Race(race) => race.fmt(f),
        }
    }
}
