//! `instructions`: what each operation costs a processor, counted by callgrind: instructions and cache
//! lines, which are the same whatever else a machine does. Kept in `benches/INSTRUCTIONS.md`, so that
//! whoever reviews a change sees what it costs.

mod callgrind;
mod operations;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use serde::Serialize;

use store_benches::progress;
use store_benches::report::{self, Outcome};
use store_benches::stats::rounded;

use operations::{KEY_BYTES, Operation, TIMES, VALUE_BYTES, perform};

/// How far a count may be from the one in the file: another compiler, another standard library.
const TOLERANCE: f64 = 0.03;
/// Counts this near are the same, however small they are.
const SLACK: f64 = 2.0;

/// Instructions and cache lines of each operation, counted by callgrind.
#[derive(Parser)]
struct Args {
    /// Write the counts to `benches/INSTRUCTIONS.md` rather than compare them with it.
    #[arg(long)]
    write: bool,
    /// The same: there is nothing that takes long.
    #[arg(long)]
    quick: bool,
    /// Does this operation, for callgrind to watch.
    #[arg(long, hide = true)]
    perform: Option<String>,
}

/// What one operation does, on one key.
#[derive(Debug, Clone, Serialize)]
struct Row {
    operation: &'static str,
    instructions: f64,
    lines: f64,
    cold_lines: f64,
}

#[derive(Serialize)]
struct Figures {
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<&'static str>,
    times: u64,
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(name) = &args.perform {
        return match Operation::of_name(name).and_then(perform) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("instructions: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    report::conclude("instructions", || run(&args))
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    if !callgrind::is_there() {
        if args.write {
            bail!("valgrind is not there: apt-get install valgrind");
        }
        let left_out = Some("valgrind is not there");
        return Ok(Outcome::new(Figures { left_out, times: 0, rows: Vec::new() }));
    }
    let folder = tempfile::tempdir()?;
    let bar = progress::bar(Operation::COUNTED.len() as u64 + 1, "counted".to_owned());
    let count = |operation: Operation| {
        let counts = callgrind::run(&["--perform", operation.name()], folder.path());
        bar.inc(1);
        counts
    };
    let base = count(Operation::Keys)?;
    let mut rows = Vec::new();
    for operation in Operation::COUNTED {
        let [instructions, lines, cold_lines] = count(operation)?.of_one(base, TIMES);
        rows.push(Row {
            operation: operation.name(),
            instructions: rounded(instructions, 1),
            lines: rounded(lines, 2),
            cold_lines: rounded(cold_lines, 2),
        });
    }
    bar.finish_and_clear();
    let table = table(&rows);
    print!("{table}");
    let mut outcome = Outcome::new(Figures { left_out: None, times: TIMES, rows });
    if args.write {
        std::fs::write(file(), document(&table))?;
    } else {
        compare(&std::fs::read_to_string(file())?, &mut outcome);
    }
    Ok(outcome)
}

/// The file that is kept.
fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("INSTRUCTIONS.md")
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| operation | instructions | lines beyond 32 KiB | lines beyond 1 MiB |\n| --- | --- | --- | --- |\n",
    );
    for Row { operation, instructions, lines, cold_lines } in rows {
        let _ =
            writeln!(table, "| {operation} | {instructions:.1} | {lines:.2} | {cold_lines:.2} |");
    }
    table
}

fn document(table: &str) -> String {
    format!(
        "# What each operation costs a processor

Counted by callgrind, so the same whatever else the machine does, on x86-64 with the compiler of the workspace: the mean of {TIMES}
operations on as many keys, in no order, of 100,000 in a store of 24 MiB in the memory of one process; keys of {KEY_BYTES} bytes, values
of {VALUE_BYTES}. Making the keys is not counted. A line has 64 bytes; *beyond 32 KiB* are those that the simulated first cache did not
have, read or written; a prefetch counts as a read when its line is used. Written by

```
cargo run --release -p store-benches --bin instructions -- --write
```

which without `--write` says where the counts differ from these by more than 3%. CI asks for it: whoever changes what an operation
costs writes the file anew, and says why.

{table}"
    )
}

/// Says where counts differ from those of the file.
fn compare(document: &str, outcome: &mut Outcome<Figures>) {
    let known = |operation: &str| {
        let line = document.lines().find(|line| line.starts_with(&format!("| {operation} |")))?;
        let mut numbers = line.split('|').skip(2).map(|cell| cell.trim().parse::<f64>());
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
    };
    for row in outcome.figures.rows.clone() {
        let found = [row.instructions, row.lines, row.cold_lines];
        let known = known(row.operation);
        let is_near = known.is_some_and(|known| {
            let [instructions, lines, cold_lines] =
                [0, 1, 2].map(|at| (found[at] - known[at]).abs());
            instructions <= (known[0] * TOLERANCE).max(SLACK)
                && lines <= (known[1] * TOLERANCE).max(0.1)
                && cold_lines <= (known[2] * TOLERANCE).max(0.1)
        });
        outcome.require(is_near, || {
            let known = known.map_or("nothing".to_owned(), |known| format!("{known:?}"));
            format!(
                "{}: {found:?} (instructions, lines), and benches/INSTRUCTIONS.md says {known}: if that \
                 is meant, write it anew (--write)",
                row.operation
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Outcome, Row, compare, document, table};

    #[test]
    fn a_count_that_moved_is_told() {
        let row =
            |instructions| Row { operation: "get", instructions, lines: 4.0, cold_lines: 3.5 };
        let document = document(&table(&[row(150.0)]));
        for (instructions, holds) in [(150.0, true), (153.0, true), (156.0, false), (140.0, false)]
        {
            let figures = Figures { left_out: None, times: 1, rows: vec![row(instructions)] };
            let mut outcome = Outcome::new(figures);
            compare(&document, &mut outcome);
            assert_eq!(outcome.failures.is_empty(), holds, "{instructions}");
        }
    }
}
