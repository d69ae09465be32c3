//! `salvage`: what is whole in a damaged store goes into a new one.

use serde::Serialize;
use store_client::{CreateOptions, Mode, Salvaged, Spec, Survey, Wreck, WriteError};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::{human, names, progress};

const AFTER_HELP: &str = "\
Examples:
  kv-cli salvage file:/var/lib/app/data.kv file:/var/lib/app/saved.kv
  kv-cli salvage posix:broken posix:saved --size 2GiB --source-extent-size 1MiB

Lossy: the memory of a store does not tell which keys were deleted, which of several versions of a key
was the last, or which puts were refused. So deleted keys, old versions and values that were never
stored may come back. Of several versions the one that the index leads to is taken, as far as it can
be read, else the one with the latest stamp.
The source is only read, and need not be one that can be opened; no process may write to it meanwhile,
or values of two keys are mixed. A salvage that is killed leaves a part of a store: remove it.

Exits 1 when the new store exists already, 6 when nothing was found, 8 when the new store refused an
item.";

/// The memory that a store takes besides its items.
const BYTES_BESIDES: u64 = 4 << 20;
/// What the index takes for an item, at most.
const INDEX_BYTES_PER_ITEM: u64 = 32;

/// Save what can be read of a damaged store into a new one; lossy, see below
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SalvageArgs {
    /// The damaged store
    source: String,

    /// The store to be made
    #[arg(value_name = "NEW-STORE")]
    target: String,

    /// Size of the new store [default: that of the source, or more if what is found needs it]
    #[arg(long, value_parser = human::parse_size)]
    size: Option<u64>,

    /// Size up to which it may grow [default: it does not grow]
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    max_size: Option<u64>,

    /// What it does when it is full [default: as the source]
    #[arg(long, value_parser = ["store", "cache"])]
    mode: Option<String>,

    /// Its unix permissions, in octal, with 0600 for the owner
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = names::permissions)]
    permissions: u32,

    /// Size of the extents of the source, if its superblock does not tell: that of a store which
    /// was made with the same sizes (`kv-cli info`)
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    source_extent_size: Option<u64>,
}

#[derive(Serialize)]
struct JsonSalvaged<'a> {
    source: &'a str,
    store: &'a str,
    extents: u64,
    whole: u64,
    superseded: u64,
    expired: u64,
    torn: u64,
    slots: u64,
    verified: bool,
    items: u64,
    unlisted: u64,
    removed: u64,
    refused: u64,
    refused_items: &'a [String],
    namespaces: &'a [String],
}

pub(crate) fn run(args: SalvageArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let (source, target): (Spec, Spec) = (args.source.parse()?, args.target.parse()?);
    let mode = args.mode.as_deref().map(str::parse::<Mode>).transpose().map_err(Failure::usage)?;
    let wreck = store_client::wreck(&source, args.source_extent_size)?;
    let bar = progress::things(0, "extents");
    let survey = wreck.survey(|done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if survey.items() == 0 {
        let what = format!("{}: no whole item was found; nothing was made", args.source);
        return Err(Failure::new(Exit::Corrupt, what));
    }

    let size = args.size.unwrap_or_else(|| size_for(&wreck, &survey));
    let mut options = CreateOptions::new(size)
        .mode(mode.unwrap_or_else(|| wreck.mode()))
        .permissions(args.permissions);
    if let Some(max_size) = args.max_size {
        options = options.max_size(max_size);
    }
    let writer = store_client::create(&target, &options)?;
    if let Some(timeout) = context.timeout {
        writer.set_guard_deadline(timeout)?;
    }
    let bar = progress::things(survey.items(), "saved");
    let salvaged = writer.salvage(&wreck, &survey, |done, _| bar.set_position(done));
    bar.finish_and_clear();
    let salvaged = salvaged.map_err(|error| not_all(error, &args.target, &survey))?;

    if !wreck.verifies() {
        output::notice("the items have no checksums that can be verified: a torn one looks whole");
    }
    if survey.slots == 0 {
        output::notice("the index can't be read: deleted keys and old versions may have come back");
    }
    if format.is_json() {
        context.output.json(&json(&args, &wreck, &survey, &salvaged))?;
    } else {
        show(&survey, &salvaged, context)?;
    }
    match salvaged.refused {
        0 => Ok(Exit::Done),
        number => Err(Failure::new(
            Exit::Refused,
            format!(
                "{} refused by {}; a store with larger extents may take more",
                human::plural(number, "item was", "items were"),
                args.target
            ),
        )),
    }
}

/// A size that takes what was found, and no less than the source has.
fn size_for(wreck: &Wreck, survey: &Survey) -> u64 {
    let items = survey.bytes / 4 * 5 + survey.items() * INDEX_BYTES_PER_ITEM;
    wreck.bytes().max(items + BYTES_BESIDES)
}

/// What the new store was made for has not ended.
fn not_all(error: WriteError, target: &str, survey: &Survey) -> Failure {
    let is_full = matches!(error, WriteError::Full(_) | WriteError::IndexFull { .. });
    let remedy = if is_full { "; remove it and give --size" } else { "" };
    let items = human::plural(survey.items(), "item", "items");
    Failure::from(error).at(&format!("{target} has a part of {items}{remedy}"))
}

fn show(survey: &Survey, salvaged: &Salvaged, context: &mut Context) -> Result<(), Failure> {
    let output = &mut context.output;
    let mut rows = vec![
        ("items saved", human::count(salvaged.items)),
        ("of them in no index", human::count(salvaged.unlisted)),
        ("extents looked through", human::count(survey.extents)),
        ("whole items found", human::count(survey.whole)),
        ("other versions left out", human::count(survey.superseded)),
        ("expired", human::count(survey.expired + salvaged.expired)),
        ("not whole", human::count(survey.torn)),
    ];
    if salvaged.removed > 0 {
        rows.push(("of removed namespaces", human::count(salvaged.removed)));
    }
    if salvaged.refused > 0 {
        rows.push(("refused", human::count(salvaged.refused)));
    }
    output.pairs(&rows)?;
    for namespace in &salvaged.namespaces {
        output.text(&format!("namespace: {namespace}"))?;
    }
    for refused in &salvaged.refused_items {
        output.text(&format!("refused: {refused}"))?;
    }
    let more = salvaged.refused - salvaged.refused_items.len() as u64;
    if more > 0 {
        output.line(&format!("and {} more", human::count(more)))?;
    }
    Ok(())
}

fn json<'a>(
    args: &'a SalvageArgs,
    wreck: &Wreck,
    survey: &Survey,
    salvaged: &'a Salvaged,
) -> JsonSalvaged<'a> {
    JsonSalvaged {
        source: &args.source,
        store: &args.target,
        extents: survey.extents,
        whole: survey.whole,
        superseded: survey.superseded,
        expired: survey.expired + salvaged.expired,
        torn: survey.torn,
        slots: survey.slots,
        verified: wreck.verifies(),
        items: salvaged.items,
        unlisted: salvaged.unlisted,
        removed: salvaged.removed,
        refused: salvaged.refused,
        refused_items: &salvaged.refused_items,
        namespaces: &salvaged.namespaces,
    }
}
