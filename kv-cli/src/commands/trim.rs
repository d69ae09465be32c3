//! `trim`: gives memory that holds nothing back to the kernel.

use serde::Serialize;
use store_client::Writer;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;
use crate::progress;

/// What stays free with its memory unless told otherwise: this part of what lives.
const KEEP_PART: u64 = 16;

/// Give memory that holds nothing back to the kernel
///
/// First cleans, so that what was overwritten and deleted becomes free; then gives free extents back,
/// those at the end first. The store works on, and takes memory again as it grows. Run it when a
/// store has become smaller for long: a reader that is stopped for all that time between finding an
/// item and reading it takes a page again, and on a full /dev/shm or disk that ends it (SIGBUS).
#[derive(Debug, clap::Args)]
pub(crate) struct TrimArgs {
    /// How much stays free with its memory [default: a sixteenth of what lives]
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    keep: Option<u64>,
}

#[derive(Serialize)]
struct JsonTrimmed {
    trimmed_bytes: u64,
    trimmed_extents: u32,
    cleaned_extents: u64,
    resident_bytes_before: u64,
    resident_bytes: u64,
    segment_bytes: u64,
}

pub(crate) fn run(args: TrimArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let writer = context.writer()?;
    let before = writer.info()?;
    let cleaned_extents = clean(&writer, before.extent_bytes)?;
    let keep = args.keep.unwrap_or(writer.stats()?.live_bytes / KEEP_PART);
    let bar = progress::things(0, "extents");
    let trimmed = writer.trim(keep, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let trimmed = trimmed?;
    let now = writer.info()?;
    if format.is_json() {
        context.output.json(&JsonTrimmed {
            trimmed_bytes: trimmed.bytes,
            trimmed_extents: trimmed.extents,
            cleaned_extents,
            resident_bytes_before: before.resident_bytes,
            resident_bytes: now.resident_bytes,
            segment_bytes: now.segment_bytes,
        })?;
        return Ok(Exit::Done);
    }
    context.output.pairs(&[
        ("given back", human::exact_size(trimmed.bytes)),
        ("cleaned", human::plural(cleaned_extents, "extent", "extents")),
        (
            "resident",
            format!(
                "{}, {} before",
                human::size(now.resident_bytes),
                human::size(before.resident_bytes)
            ),
        ),
        ("size", human::exact_size(now.segment_bytes)),
    ])?;
    Ok(Exit::Done)
}

/// Empties extents as long as that makes one free; how many it did.
fn clean(writer: &Writer, extent_bytes: u64) -> Result<u64, Failure> {
    let stats = writer.stats()?;
    let bar = progress::things(stats.dead_bytes / extent_bytes.max(1), "extents cleaned");
    let mut cleaned = 0;
    // Others write meanwhile, so there may always be something to gain.
    while cleaned < u64::from(stats.extents) && writer.clean(1)? > 0 {
        cleaned += 1;
        bar.set_position(cleaned);
    }
    bar.finish_and_clear();
    Ok(cleaned)
}
