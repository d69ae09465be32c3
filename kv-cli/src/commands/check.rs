//! `check`: verifies every invariant of a live store without stopping anybody, and mends it on demand.

use serde::Serialize;
use store_client::{CheckReport, Reader, RepairError, RepairOptions, RepairReport, WriteError};

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
    /// live bytes follow from the slots, and so do words that many slots rest on. Slots that lead to no
    /// sound item can only be dropped: if there are any, nothing is, unless --max-loss allows it
    #[arg(long)]
    pub(crate) repair: bool,

    /// Slots that a repair may drop. Their memory is used again: save what matters before, with kv-cli
    /// salvage
    #[arg(long, value_name = "SLOTS", default_value_t = 0, requires = "repair")]
    pub(crate) max_loss: u64,

    /// Say what a repair would restore and drop, and do neither. As any writer does, it finishes what dead
    /// processes left
    #[arg(long, requires = "repair")]
    pub(crate) dry_run: bool,
}

/// Slots that are named in an error.
const SHOWN_MAX: usize = 5;

#[derive(Serialize)]
struct JsonRepair<'a> {
    items: u64,
    dropped: u64,
    dropped_slots: &'a [String],
    missing: u64,
    restored: &'a [String],
    put_back: u64,
    tags: u64,
    filters: u64,
    slots: u64,
    links: u64,
    lines: u64,
    counts: u64,
    namespaces: u64,
    directory: u64,
    extents: u64,
    overwrites: u64,
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
        let bar = progress::things(0, if args.dry_run { "looked at" } else { "mended" });
        let options = RepairOptions::new().max_loss(args.max_loss).dry_run(args.dry_run);
        let repair = writer.repair(&options, |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        (Some(repair.map_err(|error| not_mended(error, &context.store))?), checked(&writer))
    } else {
        (None, checked(&context.reader()?))
    };

    match format.is_json() {
        true => context.output.json(&json(repair.as_ref(), &report))?,
        false => {
            if let Some(repair) = &repair {
                show_repair(repair, args.dry_run, context)?;
            }
            show(&report, context)?;
        }
    }
    match violations(&report) {
        0 => match repair.map_or(0, |repair| repair.dropped + repair.missing) {
            0 => Ok(Exit::Done),
            lost => Err(Failure::new(
                Exit::Corrupt,
                format!(
                    "{} is sound again, but {} lost",
                    context.store,
                    human::plural(lost, "item was", "items were"),
                ),
            )),
        },
        number => Err(Failure::new(
            Exit::Corrupt,
            format!(
                "{} is corrupt: {} broken; {}",
                context.store,
                human::plural(number, "invariant is", "invariants are"),
                if args.dry_run {
                    "without --dry-run what follows from the slots is mended"
                } else if args.repair {
                    "kv-cli salvage saves what can be read into a new store"
                } else {
                    "kv-cli check --repair mends what it can, and drops nothing unless told to"
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
fn not_mended(error: RepairError, store: &str) -> Failure {
    match error {
        RepairError::WouldLose { slots, why, .. } => {
            let shown = why[..why.len().min(SHOWN_MAX)].join("; ");
            let what = human::plural(slots, "slot leads", "slots lead");
            Failure::new(
                Exit::Corrupt,
                format!(
                    "{store}: {what} to no sound item, and none was dropped ({shown}): kv-cli salvage \
                     saves what can be read into a new store, --max-loss {slots} drops them"
                ),
            )
        }
        RepairError::Write(WriteError::Corruption(error)) => Failure::new(
            Exit::Corrupt,
            format!(
                "{error}: this can't be mended; nothing was dropped, and kv-cli salvage saves what \
                 can be read into a new store"
            ),
        ),
        RepairError::Write(other) => other.into(),
        other => Failure::new(Exit::System, other.to_string()),
    }
}

/// The total counts more than the sentences kept; neither alone may hide a violation.
fn violations(report: &CheckReport) -> u64 {
    report.violations_total.max(report.violations.len() as u64)
}

fn show_repair(report: &RepairReport, dry_run: bool, context: &mut Context) -> Result<(), Failure> {
    let output = &mut context.output;
    let rows = [
        (if dry_run { "slots to be dropped" } else { "slots dropped" }, report.dropped),
        ("items counted and not found", report.missing),
        (
            if dry_run { "words to be restored" } else { "words restored" },
            report.restored.len() as u64,
        ),
        ("items put back", report.put_back),
        ("tag words mended", report.tags),
        ("filter words mended", report.filters),
        ("slots mended", report.slots),
        ("links cut", report.links),
        ("overflow lines mended", report.lines),
        ("stripes counted anew", report.counts),
        ("namespaces counted anew", report.namespaces),
        ("directory entries mended", report.directory),
        ("extents mended", report.extents),
        ("overwrites finished", report.overwrites),
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
        let nothing = match dry_run {
            true => "no slot would be dropped, and no word restored from what slots say",
            false => "nothing had to be mended",
        };
        output.line(nothing)?;
    }
    output.pairs(&done)?;
    for restored in &report.restored {
        output.text(&format!("restored: {restored}"))?;
    }
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
        missing: report.missing,
        restored: &report.restored,
        put_back: report.put_back,
        tags: report.tags,
        filters: report.filters,
        slots: report.slots,
        links: report.links,
        lines: report.lines,
        counts: report.counts,
        namespaces: report.namespaces,
        directory: report.directory,
        extents: report.extents,
        overwrites: report.overwrites,
        stamps: report.stamps,
        recounted: report.recounted,
        recounted_bytes: report.recounted_bytes,
        suspects: report.suspects,
    }
}
