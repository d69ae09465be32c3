//! Races of threads over a store that may lack a rule, each in a process of its own.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use store_benches::mortal::{Mortal, leave_out};
use store_benches::report::{self, Outcome};
use store_core::Mutation;
use store_testing::races::{chains, loads, pins, readers};

use crate::hostile;

/// Which race.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Race {
    /// Readers, and a writer that recycles extents.
    Readers,
    /// Readers, and a writer that overwrites short values where they stand.
    Overwrites,
    /// Readers, and a writer that splits buckets and unlinks lines.
    Chains,
    /// Who pins, and a writer that recycles extents.
    Pins,
    /// Callers that meet at a key that is missing.
    Loads,
    /// A reader on damaged bytes, with a limit on its processor time.
    Hostile,
}

#[derive(Serialize)]
struct Figures {
    without: Option<&'static str>,
    wrong: u64,
}

impl Race {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Readers, Self::Overwrites, Self::Chains, Self::Pins, Self::Loads, Self::Hostile];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Readers => "readers",
            Self::Overwrites => "overwrites",
            Self::Chains => "chains",
            Self::Pins => "pins",
            Self::Loads => "loads",
            Self::Hostile => "hostile",
        }
    }

    /// Runs it in this process.
    pub(crate) fn run(self, without: Option<Mutation>, seconds: u64) -> ExitCode {
        match without {
            // What the generation shows the stamp shows too, nearly always.
            Some(rule) if self == Self::Readers => leave_out(&[rule, Mutation::SkipStampCheck]),
            _ => leave_out(without.as_slice()),
        }
        report::conclude(self.name(), || {
            let wrong = self.wrong(Duration::from_secs(seconds))?;
            let without = without.map(Mutation::name);
            let mut outcome = Outcome::new(Figures { without, wrong });
            outcome.require(wrong == 0, || format!("{wrong} times something wrong was seen"));
            Ok(outcome)
        })
    }

    /// How often something was seen that must not be.
    fn wrong(self, limit: Duration) -> Result<u64> {
        Ok(match self {
            Self::Readers => readers::race::<Mortal>(limit).wrong(),
            Self::Overwrites => readers::overwrites::<Mortal>(limit).wrong(),
            Self::Chains => {
                // Both ways, each for half the time.
                chains::missed::<Mortal>(limit / 2, true)
                    + chains::missed::<Mortal>(limit / 2, false)
            }
            Self::Pins => pins::race::<Mortal>(limit).changed,
            Self::Loads => loads::computed_again::<Mortal>(limit).into(),
            Self::Hostile => hostile::read_damaged()?,
        })
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mutants race {}", self.name())
    }
}
