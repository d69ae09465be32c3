//! Running this program under callgrind, which counts what its processor would do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The caches that are simulated: the same on every machine.
const CACHES: [&str; 2] = ["--D1=32768,8,64", "--LL=1048576,16,64"];

/// What a run did, as callgrind counts it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) instructions: i64,
    /// Lines of 64 bytes that were read and not in the first cache, or written and not there.
    pub(crate) lines: i64,
    /// Lines that were not in the last cache of 1 MiB either.
    pub(crate) cold_lines: i64,
}

impl Counts {
    /// What one of `times` operations did, if `base` is everything else.
    pub(crate) fn of_one(self, base: Self, times: u64) -> [f64; 3] {
        let of_one = |all: i64, base: i64| (all - base) as f64 / times as f64;
        [
            of_one(self.instructions, base.instructions),
            of_one(self.lines, base.lines),
            of_one(self.cold_lines, base.cold_lines),
        ]
    }
}

/// Whether valgrind is there.
pub(crate) fn is_there() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Runs this program with arguments under callgrind.
pub(crate) fn run(arguments: &[&str], folder: &Path) -> Result<Counts> {
    let out = folder.join(format!("callgrind.{}", arguments.len() + arguments.join("").len()));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--cache-sim=yes", "--quiet"])
        .args(CACHES)
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(arguments);
    let output = command.output().context("starting valgrind")?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "under callgrind {arguments:?} ended with {}: {}",
        output.status,
        said()
    );
    let text = std::fs::read_to_string(&out)?;
    std::fs::remove_file(&out)?;
    counts_of(&text)
}

/// The sums that callgrind writes at the end.
fn counts_of(text: &str) -> Result<Counts> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("callgrind wrote no {name} line"))
    };
    let names: Vec<_> = line("events:")?.split_whitespace().collect();
    let sums = line("summary:").or_else(|_| line("totals:"))?;
    let sums: Vec<i64> = sums.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let of = |name: &str| {
        let at = names.iter().position(|it| *it == name);
        at.and_then(|at| sums.get(at).copied())
            .with_context(|| format!("callgrind counted no {name}"))
    };
    Ok(Counts {
        instructions: of("Ir")?,
        lines: of("D1mr")? + of("D1mw")?,
        cold_lines: of("DLmr")? + of("DLmw")?,
    })
}

#[cfg(test)]
mod tests {
    use super::counts_of;

    #[test]
    fn sums_are_found_by_the_names_of_their_events() {
        let text = "version: 1\nevents: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nfn=x\n\
                    summary: 1000 1 2 3 40 5 6 70 8\n";
        let counts = counts_of(text).expect("all are there");
        assert_eq!((counts.instructions, counts.lines, counts.cold_lines), (1000, 45, 78));
        assert!(counts_of("events: Ir\nsummary: 5\n").is_err());
    }
}
