//! `check`: verifies every invariant of a live store without stopping anybody, and mends it on demand.

use serde::Serialize;
use store_client::{CheckReport, Reader, RepairReport, WriteError};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;
use crate::progress;

/// Verify every invariant of a store, while others use it
///
/// Exits 6 when one is broken, or when a repair had to drop something. Notes are harmless: what
/// dead processes left is put right by the next one that needs it.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Mend what is broken before the check, while others use the store: tags, links, counts and
    /// live bytes follow from the slots; slots that lead to no sound item are dropped, and counted.
    /// Their memory is used again: save what matters before, with kv-cli salvage
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Serialize)]
struct JsonRepair<'a> {
    items: u64,
    dropped: u64,
    dropped_slots: &'a [String],
    put_back: u64,
    tags: u64,
    slots: u64,
    links: u64,
    lines: u64,
    counts: u64,
    namespaces: u64,
    directory: u64,
    extents: u64,
    stamps: u64,
    recounted: u64,
    recounted_bytes: u64,
    suspects: u64,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<JsonRepair<'a>>,
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

pub(crate) fn run(args: CheckArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let (repair, report) = if args.repair {
        let writer = context.writer()?;
        let bar = progress::things(0, "mended");
        let repair = writer.repair(|done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        (Some(repair.map_err(not_mended)?), checked(&writer))
    } else {
        (None, checked(&context.reader()?))
    };

    match format.is_json() {
        true => context.output.json(&json(repair.as_ref(), &report))?,
        false => {
            if let Some(repair) = &repair {
                show_repair(repair, context)?;
            }
            show(&report, context)?;
        }
    }
    match violations(&report) {
        0 => match repair.map_or(0, |repair| repair.dropped) {
            0 => Ok(Exit::Done),
            dropped => Err(Failure::new(
                Exit::Corrupt,
                format!(
                    "{} is sound again, but {} lost",
                    context.store,
                    human::plural(dropped, "item was", "items were"),
                ),
            )),
        },
        number => Err(Failure::new(
            Exit::Corrupt,
            format!(
                "{} is corrupt: {} broken; {}",
                context.store,
                human::plural(number, "invariant is", "invariants are"),
                if args.repair {
                    "kv-cli salvage saves what can be read into a new store"
                } else {
                    "kv-cli check --repair mends it; what it drops is lost, so let kv-cli salvage save it \
                     into a new store before, if it matters"
                }
            ),
        )),
    }
}

fn checked(reader: &Reader) -> CheckReport {
    let bar = progress::things(0, "checked");
    let report = reader.check(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    report
}

/// What slots do not tell can't be mended.
fn not_mended(error: WriteError) -> Failure {
    match error {
        WriteError::Corruption(error) => Failure::new(
            Exit::Corrupt,
            format!(
                "{error}: this can't be mended; nothing was dropped, and kv-cli salvage saves what \
                 can be read into a new store"
            ),
        ),
        other => other.into(),
    }
}

/// The total counts more than the sentences kept; neither alone may hide a violation.
fn violations(report: &CheckReport) -> u64 {
    report.violations_total.max(report.violations.len() as u64)
}

fn show_repair(report: &RepairReport, context: &mut Context) -> Result<(), Failure> {
    let output = &mut context.output;
    let rows = [
        ("slots dropped", report.dropped),
        ("items put back", report.put_back),
        ("tag words mended", report.tags),
        ("slots mended", report.slots),
        ("links cut", report.links),
        ("overflow lines mended", report.lines),
        ("stripes counted anew", report.counts),
        ("namespaces counted anew", report.namespaces),
        ("directory entries mended", report.directory),
        ("extents mended", report.extents),
        ("stamps raised", report.stamps),
        ("extents counted anew", report.recounted),
        ("extents still suspect", report.suspects),
    ];
    let done = rows.iter().filter(|(_, number)| *number > 0);
    let mut done: Vec<_> = done.map(|(what, number)| (*what, human::count(*number))).collect();
    if report.recounted_bytes > 0 {
        done.push(("bytes counted wrong", human::exact_size(report.recounted_bytes)));
    }
    if done.is_empty() {
        output.line("nothing had to be mended")?;
    }
    output.pairs(&done)?;
    for dropped in &report.dropped_slots {
        output.text(&format!("dropped: {dropped}"))?;
    }
    let more = report.dropped - report.dropped_slots.len() as u64;
    if more > 0 {
        output.line(&format!("and {} more", human::count(more)))?;
    }
    output.line("")
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

fn json<'a>(repair: Option<&'a RepairReport>, report: &'a CheckReport) -> JsonReport<'a> {
    JsonReport {
        repair: repair.map(json_of_repair),
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

fn json_of_repair(report: &RepairReport) -> JsonRepair<'_> {
    JsonRepair {
        items: report.items,
        dropped: report.dropped,
        dropped_slots: &report.dropped_slots,
        put_back: report.put_back,
        tags: report.tags,
        slots: report.slots,
        links: report.links,
        lines: report.lines,
        counts: report.counts,
        namespaces: report.namespaces,
        directory: report.directory,
        extents: report.extents,
        stamps: report.stamps,
        recounted: report.recounted,
        recounted_bytes: report.recounted_bytes,
        suspects: report.suspects,
    }
}
