//! What the run comes to: the last line, and the report's files.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use store_benches::report::Outcome;
use store_benches::stats::rounded;

use crate::clock::Clock;
use crate::engines::Kind;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::results::Results;
use crate::rows::{Row, rows};
use crate::{Args, markdown, plots};

/// The last line.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    seed: u64,
    rounds: u32,
    clock: Clock,
    /// What of the time a thread that was measured had a processor: less than 0.98 is a busy machine.
    on_processor: Option<f64>,
    engines: Vec<&'static str>,
    rows: Vec<Row>,
    /// Engines that this machine does not have, and why.
    left_out: Vec<String>,
    report: String,
    /// Whether rows are asked to hold.
    judged: bool,
}

/// Writes the report, and judges.
pub(crate) fn conclude(
    args: &Args,
    plan: &Plan,
    machine: &Machine,
    results: &Results,
) -> Result<Outcome<Figures>> {
    let rows = rows(results, plan);
    let left_out: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| args.engines.is_empty() || args.engines.contains(kind))
        .filter_map(|kind| Some(format!("{}: {}", kind.name(), kind.missing()?)))
        .collect();
    let folder = &args.out;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let page = markdown::Page { args, plan, machine, results, rows: &rows, left_out: &left_out };
    let text = page.text();
    println!("{text}");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("compare.md", &text)?;
    let all = json!({ "machine": machine, "results": results, "rows": rows, "left_out": left_out });
    write("compare.json", &serde_json::to_string_pretty(&all)?)?;
    plots::draw(folder, results, plan)?;
    let judged = plan.is_judged();
    let failures = rows.iter().filter(|row| judged && row.holds == Some(false)).map(|row| {
        let (figure, goal) = (row.figure.unwrap_or_default(), row.goal);
        let asked = if row.at_least { "at least" } else { "at most" };
        let floor = row.floor();
        format!("{}: {figure} of {}, {asked} {goal} is asked for{floor}", row.work, row.of)
    });
    let failures = failures.collect();
    let figures = Figures {
        seed: args.seed,
        rounds: plan.rounds,
        clock: args.clock,
        on_processor: results.share().map(|share| rounded(share, 3)),
        engines: args.kinds().into_iter().map(Kind::name).collect(),
        left_out,
        report: folder.join("compare.md").display().to_string(),
        judged,
        rows,
    };
    Ok(Outcome { figures, failures })
}
