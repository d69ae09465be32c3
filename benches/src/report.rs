//! The last line: one JSON object, `program` first and `pass` last; the exit status agrees with it.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

/// What a program found, and whether it is what it had to show.
#[derive(Debug)]
pub struct Outcome<F> {
    /// The named figures of the last line.
    pub figures: F,
    /// Why the run does not pass, one sentence each; empty when it does.
    pub failures: Vec<String>,
}

impl<F> Outcome<F> {
    /// Figures that nothing speaks against so far.
    pub fn new(figures: F) -> Self {
        Self { figures, failures: Vec::new() }
    }

    /// Notes a condition of passing; `failure` says what is wrong when it does not hold.
    pub fn require(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }
}

#[derive(Serialize)]
struct LastLine<'a, F> {
    program: &'a str,
    #[serde(flatten)]
    figures: Option<F>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    failures: &'a [String],
    pass: bool,
}

/// Runs a program and writes its last line, also when it fails or panics.
pub fn conclude<F: Serialize>(program: &str, run: impl FnOnce() -> Result<Outcome<F>>) -> ExitCode {
    // Only figures that the run returned are read after a panic: none of a half-done run.
    let result = panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("panicked, see standard error")));
    let line = match &result {
        Ok(outcome) => {
            for failure in &outcome.failures {
                println!("does not hold: {failure}");
            }
            LastLine {
                program,
                figures: Some(&outcome.figures),
                error: None,
                failures: &outcome.failures,
                pass: outcome.failures.is_empty(),
            }
        }
        Err(error) => {
            let error = format!("{error:#}");
            eprintln!("{program}: {error}");
            LastLine { program, figures: None, error: Some(error), failures: &[], pass: false }
        }
    };
    match serde_json::to_string(&line) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("{program}: the figures are no JSON: {error}");
            return ExitCode::FAILURE;
        }
    }
    if line.pass { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{LastLine, Outcome};

    #[derive(serde::Serialize)]
    struct Figures {
        reads: u64,
        get_ns: f64,
    }

    #[test]
    fn last_line_names_figures_flat_and_ends_with_pass() {
        let line = LastLine {
            program: "p",
            figures: Some(Figures { reads: 3, get_ns: 1.5 }),
            error: None,
            failures: &[],
            pass: true,
        };
        let text = serde_json::to_string(&line).expect("plain figures");
        assert_eq!(text, r#"{"program":"p","reads":3,"get_ns":1.5,"pass":true}"#);
    }

    #[test]
    fn a_broken_requirement_is_kept() {
        let mut outcome = Outcome::new(());
        outcome.require(true, || unreachable!());
        outcome.require(false, || "2 torn".into());
        assert_eq!(outcome.failures, ["2 torn"]);
    }
}
