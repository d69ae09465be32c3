//! `salvage`: what is whole in a damaged store goes into a new one.

mod target;

use serde::Serialize;
use store_client::{AttachError, Salvaged, Spec, Survey, Wreck, WriteError};

use self::target::{Target, chosen};
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
What the index leads to is believed rather than a word of the superblock or a table that contradicts
it. If the clock of the source makes no sense (it is earlier than when the store was made, or later than
that of this machine with most items expired by it), the clock of this machine says what has expired, and
that is told.

The source is only read, and need not be one that can be opened. A source that a living process writes
to is refused; with --in-use an item that changes meanwhile is left out, and what is put meanwhile is
saved or not.

The new store is made as NEW-STORE.salvaging and gets its name when it is whole: a salvage that is
killed leaves that (kv-cli rm). A store at a key (sysv:0xKEY) has its name at once, and is its owner's
alone until it is whole.

Exits 1 when the new store exists already, 4 when a process writes to the source, 6 when nothing was
found or the source is no store, 8 when the new store refused an item.";

/// Sizes of extents that a store can have.
const EXTENT_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 20;

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

    /// Hash of the keys [default: as the source; rapidhash if its superblock is lost]
    #[arg(long, value_parser = ["rapidhash", "siphash"])]
    hash: Option<String>,

    /// Guards of writers [default: as the source]
    #[arg(long, value_parser = ["futex", "sysv"])]
    guard: Option<String>,

    /// Size of the extents of the new store [default: as the source]
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    extent_size: Option<u64>,

    /// Its unix permissions, in octal, with 0600 for the owner [default: those of the source and its
    /// group, without those of a group that this user is not in]
    #[arg(long, value_name = "MODE", value_parser = names::permissions)]
    permissions: Option<u32>,

    /// Size of the extents of the source, if its superblock does not tell: that of a store which
    /// was made with the same sizes (`kv-cli info`)
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    source_extent_size: Option<u64>,

    /// Salvage though a living process writes to the source
    #[arg(long)]
    in_use: bool,
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
    clock_doubted: bool,
    changed: u64,
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
    let wreck = opened(&source, &args)?;
    if source == target {
        let what =
            format!("{} is what is to be saved: give the new store another name", args.source);
        return Err(Failure::usage(what));
    }
    let mut target = Target::at(target)?;
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

    let writer = target.create(&chosen(&args, &wreck, &survey)?)?;
    if let Some(timeout) = context.timeout {
        writer.set_guard_deadline(timeout)?;
    }
    let bar = progress::things(survey.items(), "saved");
    let salvaged = writer.salvage(&wreck, &survey, |done, _| bar.set_position(done));
    bar.finish_and_clear();
    let salvaged = match salvaged {
        Ok(salvaged) => salvaged,
        Err(error) => {
            target.abandon(writer);
            return Err(not_all(error, &survey));
        }
    };
    target.finish(writer)?;

    if !survey.verified {
        output::notice("the items have no checksums that can be verified: a torn one looks whole");
    }
    if survey.slots == 0 {
        output::notice("the index can't be read: deleted keys and old versions may have come back");
    }
    if survey.clock_doubted {
        output::notice(
            "the source's clock makes no sense: that of this machine said what has expired",
        );
    }
    if format.is_json() {
        context.output.json(&json(&args, &survey, &salvaged))?;
    } else {
        show(&survey, &salvaged, context)?;
    }
    match salvaged.refused {
        0 => Ok(Exit::Done),
        number => Err(Failure::new(
            Exit::Refused,
            format!(
                "{} refused by {}; a larger store, or one with larger extents, may take more (--size, --extent-size)",
                human::plural(number, "item was", "items were"),
                args.target
            ),
        )),
    }
}

/// The source, if it is at rest.
fn opened(source: &Spec, args: &SalvageArgs) -> Result<Wreck, Failure> {
    if let Some(size) = args.source_extent_size
        && (!size.is_power_of_two() || !EXTENT_BYTES.contains(&size))
    {
        return Err(Failure::usage(format!(
            "--source-extent-size of {size} bytes: extents have a power of two from 4 KiB to 1 MiB"
        )));
    }
    let wreck = store_client::wreck(source, args.source_extent_size).map_err(|error| {
        let hint = match error {
            AttachError::NotAStore { .. } => {
                "if its start was overwritten, --source-extent-size tells where its items are"
            }
            AttachError::OtherVersion { .. } => {
                "if that byte is damaged, --source-extent-size has it read all the same"
            }
            _ => "",
        };
        Failure::from(error).hint(hint)
    })?;
    if args.in_use {
        return Ok(wreck);
    }
    let pids: Vec<String> = wreck.writers().iter().map(u32::to_string).collect();
    let who = match (pids.is_empty(), wreck.is_locked()) {
        (true, false) => return Ok(wreck),
        (true, true) => "a process that makes or removes it".to_owned(),
        (false, _) => format!("process {}", pids.join(", ")),
    };
    Err(Failure::new(
        Exit::Permission,
        format!(
            "{} is in use by {who}, so what is saved would be of different ages: end it first, or take \
             that (--in-use)",
            args.source
        ),
    ))
}

/// Nothing is left of what was made.
fn not_all(error: WriteError, survey: &Survey) -> Failure {
    let is_full = matches!(error, WriteError::Full(_) | WriteError::IndexFull { .. });
    let remedy = if is_full { "give a larger --size" } else { "" };
    let items = human::plural(survey.items(), "item", "items");
    Failure::from(error).at(&format!("nothing was made of {items}")).hint(remedy)
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
    if salvaged.changed > 0 {
        rows.push(("changed meanwhile, left out", human::count(salvaged.changed)));
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

fn json<'a>(args: &'a SalvageArgs, survey: &Survey, salvaged: &'a Salvaged) -> JsonSalvaged<'a> {
    JsonSalvaged {
        source: &args.source,
        store: &args.target,
        extents: survey.extents,
        whole: survey.whole,
        superseded: survey.superseded,
        expired: survey.expired + salvaged.expired,
        torn: survey.torn,
        slots: survey.slots,
        verified: survey.verified,
        clock_doubted: survey.clock_doubted,
        changed: salvaged.changed,
        items: salvaged.items,
        unlisted: salvaged.unlisted,
        removed: salvaged.removed,
        refused: salvaged.refused,
        refused_items: &salvaged.refused_items,
        namespaces: &salvaged.namespaces,
    }
}
