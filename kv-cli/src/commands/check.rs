//! `check`: verifies every invariant of a live store without stopping anybody.

use serde::Serialize;
use store_client::CheckReport;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;
use crate::progress;

/// Verify every invariant of a store, while others use it
///
/// Exits 6 when one is broken. Notes are harmless: what dead processes left is put right by the
/// next one that needs it.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {}

#[derive(Serialize)]
struct JsonReport<'a> {
    clean: bool,
    items: u64,
    buckets: u64,
    overflow_lines: u64,
    checksums: u64,
    extents: u64,
    stripes: u64,
    leases: u64,
    clients: u64,
    violations_total: u64,
    violations: &'a [String],
    notes: &'a [String],
}

pub(crate) fn run(_: CheckArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let reader = context.reader()?;
    let bar = progress::things(0, "checked");
    let report = reader.check(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();

    match format.is_json() {
        true => context.output.json(&json(&report))?,
        false => show(&report, context)?,
    }
    match violations(&report) {
        0 => Ok(Exit::Done),
        number => Err(Failure::new(
            Exit::Corrupt,
            format!(
                "{} is corrupt: {} broken; dump what can be read and load it into a new store",
                context.store,
                human::plural(number, "invariant is", "invariants are")
            ),
        )),
    }
}

/// The total counts more than the sentences kept; neither alone may hide a violation.
fn violations(report: &CheckReport) -> u64 {
    report.violations_total.max(report.violations.len() as u64)
}

fn show(report: &CheckReport, context: &mut Context) -> Result<(), Failure> {
    let output = &mut context.output;
    output.pairs(&[
        ("items", human::count(report.items)),
        ("checksums", human::count(report.checksums)),
        ("buckets", human::count(report.buckets)),
        ("overflow lines", human::count(report.overflow_lines)),
        ("extents", human::count(report.extents)),
        ("stripes", human::count(report.stripes)),
        ("loader leases", human::count(report.leases)),
        ("clients", human::count(report.clients)),
        ("violations", human::count(violations(report))),
    ])?;
    for note in &report.notes {
        output.text(&format!("note: {note}"))?;
    }
    for violation in &report.violations {
        output.text(&format!("violation: {violation}"))?;
    }
    let more = violations(report) - report.violations.len() as u64;
    if more > 0 {
        output.line(&format!("and {} more", human::count(more)))?;
    }
    if violations(report) == 0 {
        output.line("clean")?;
    }
    Ok(())
}

fn json(report: &CheckReport) -> JsonReport<'_> {
    JsonReport {
        clean: violations(report) == 0,
        items: report.items,
        buckets: report.buckets,
        overflow_lines: report.overflow_lines,
        checksums: report.checksums,
        extents: report.extents,
        stripes: report.stripes,
        leases: report.leases,
        clients: report.clients,
        violations_total: violations(report),
        violations: &report.violations,
        notes: &report.notes,
    }
}
