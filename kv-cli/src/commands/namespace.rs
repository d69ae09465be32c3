//! `namespace`: makes, changes, lists and removes namespaces.

use std::time::Duration;

use serde::Serialize;
use store_client::{NamespaceInfo, NamespaceOptions};

use super::Context;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli namespace create sessions --quota 64MiB --default-ttl 30m
  kv-cli --namespace sessions put 42 Ada
  kv-cli namespace ls
  kv-cli namespace set sessions --quota 128MiB
  kv-cli clear --namespace sessions
  kv-cli namespace rm sessions";

/// Namespaces: keys of their own in one store, each with its quota, time to live and numbers
///
/// Every command for keys works in one with `--namespace NAME`. A namespace with a quota has memory
/// of its own: no flood elsewhere takes any of it, and its own flood takes nothing of others. Those
/// without one share what is left, as keys without a namespace do.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct NamespaceArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a namespace (exits 1 if there is one of that name)
    Create(NamedArgs),
    /// Change what is given of a namespace
    #[command(group = clap::ArgGroup::new("what").args(["quota", "default_ttl", "mode"]).required(true).multiple(true))]
    Set(NamedArgs),
    /// List the namespaces, with what they hold and what was counted
    Ls,
    /// Delete a namespace with all its keys
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
struct NamedArgs {
    /// Its name: 1 to 32 letters, digits, dots, colons, dashes and underscores
    name: String,

    /// Memory of its own: 64MiB, 2GiB, …, in whole extents, 8 at least; 0: none, it shares
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    quota: Option<u64>,

    /// How long keys live that are put without a time to live: 30s, 12h, …; 0: for ever
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    default_ttl: Option<Duration>,

    /// What happens at its quota in a store of mode cache: `cache` evicts, `store` refuses puts
    /// [default: that of the store]
    #[arg(long, value_parser = ["store", "cache"])]
    mode: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Its name
    name: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    number: u8,
    mode: String,
    items: u64,
    quota_bytes: Option<u64>,
    extent_bytes: Option<u64>,
    default_ttl_ms: Option<u64>,
    hits: u64,
    misses: u64,
    hit_ratio: Option<f64>,
    puts: u64,
    deletes: u64,
    put_bytes: u64,
    evicted: u64,
    expired: u64,
    leaving: bool,
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a str,
    items: u64,
}

pub(crate) fn run(args: NamespaceArgs, context: &mut Context) -> Result<Exit, Failure> {
    match args.command {
        Action::Create(args) => {
            context.writer()?.create_namespace(&args.name, &args.options()?)?;
            show(&args.name, context)
        }
        Action::Set(args) => {
            context.writer()?.change_namespace(&args.name, &args.options()?)?;
            show(&args.name, context)
        }
        Action::Ls => list(context),
        Action::Rm(args) => remove(&args, context),
    }
}

impl NamedArgs {
    fn options(&self) -> Result<NamespaceOptions, Failure> {
        let mut options = NamespaceOptions::new();
        if let Some(quota) = self.quota {
            options = options.quota(quota);
        }
        if let Some(ttl) = self.default_ttl {
            options = options.default_ttl(ttl);
        }
        if let Some(mode) = &self.mode {
            options = options.mode(mode.parse().map_err(Failure::usage)?);
        }
        Ok(options)
    }
}

/// What `stats --namespace` shows, and what came of a change.
pub(crate) fn show(name: &str, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let infos = context.reader()?.namespaces()?;
    let Some(info) = infos.iter().find(|info| info.name == name) else {
        // Removed meanwhile.
        return Err(Failure::new(Exit::NoStore, format!("there is no namespace {name}")));
    };
    let row = row(info);
    if format.is_json() {
        context.output.json(&row)?;
        return Ok(Exit::Done);
    }
    let quota = match (row.quota_bytes, row.extent_bytes) {
        (Some(quota), Some(has)) => {
            format!("{}, {} of it taken", human::exact_size(quota), human::size(has))
        }
        _ => "none, it shares with others that have none".to_owned(),
    };
    let mut pairs = vec![
        ("namespace", format!("{}, number {}", row.name, row.number)),
        ("mode", row.mode),
        ("items", human::count(row.items)),
        ("quota", quota),
        ("default ttl", ttl(info.default_ttl)),
        ("lookups", lookups(info)),
        (
            "writes",
            format!(
                "{}, {}",
                human::plural(row.puts, "put", "puts"),
                human::plural(row.deletes, "delete", "deletes")
            ),
        ),
        ("evicted", human::count(row.evicted)),
        ("expired", human::count(row.expired)),
    ];
    if row.leaving {
        pairs.push(("state", "being removed; if nobody is at it, remove it again".to_owned()));
    }
    context.output.pairs(&pairs)?;
    Ok(Exit::Done)
}

fn list(context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Json, Format::Jsonl, Format::Raw];
    let format = context.output.format(Format::Table, &others)?;
    let infos = context.reader()?.namespaces()?;
    let output = &mut context.output;
    let rows: Vec<Row> = infos.iter().map(row).collect();
    match format {
        Format::Json => output.json(&rows)?,
        Format::Jsonl => rows.iter().try_for_each(|row| output.json(row))?,
        Format::Raw => rows.iter().try_for_each(|row| output.line(&row.name))?,
        Format::Table if rows.is_empty() => {
            output.line("no namespaces; make one with `kv-cli namespace create NAME`")?;
        }
        Format::Table => {
            let cells: Vec<Vec<String>> = infos.iter().map(cells).collect();
            let header =
                ["namespace", "mode", "items", "quota", "taken", "ttl", "hit ratio", "evicted"];
            output.table(&header, &cells, &[2, 3, 4, 5, 6, 7])?;
        }
    }
    Ok(Exit::Done)
}

fn remove(args: &RmArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let writer = context.writer()?;
    let question = format!("Remove namespace {} of {} and its keys?", args.name, context.store);
    if !args.yes && !super::confirmed(&question)? {
        return Err(Failure::new(Exit::Absent, format!("{} was not removed", args.name)));
    }
    let items = writer.remove_namespace(&args.name)?;
    match format {
        Format::Raw => {}
        Format::Table => {
            let keys = human::plural(items, "key", "keys");
            context.output.line(&format!("removed {} with {keys}", args.name))?;
        }
        Format::Json | Format::Jsonl => {
            context.output.json(&Removed { removed: &args.name, items })?;
        }
    }
    Ok(Exit::Done)
}

fn row(info: &NamespaceInfo) -> Row {
    let counts = info.counts;
    Row {
        name: info.name.clone(),
        number: info.number,
        mode: info.mode.to_string(),
        items: info.items,
        quota_bytes: info.quota_bytes,
        extent_bytes: info.extent_bytes,
        default_ttl_ms: info.default_ttl.map(|ttl| ttl.as_millis() as u64),
        hits: counts.hits,
        misses: counts.misses,
        hit_ratio: counts.hit_ratio(),
        puts: counts.puts,
        deletes: counts.deletes,
        put_bytes: counts.put_bytes,
        evicted: info.evicted,
        expired: info.expired,
        leaving: info.leaving,
    }
}

fn cells(info: &NamespaceInfo) -> Vec<String> {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "shared".to_owned(), human::size);
    let ratio = info.counts.hit_ratio();
    vec![
        if info.leaving { format!("{} (leaving)", info.name) } else { info.name.clone() },
        info.mode.to_string(),
        human::count(info.items),
        size(info.quota_bytes),
        size(info.extent_bytes),
        ttl(info.default_ttl),
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0)),
        human::count(info.evicted),
    ]
}

fn ttl(ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| "for ever".to_owned(), |ttl| format!("{ttl:?}"))
}

fn lookups(info: &NamespaceInfo) -> String {
    match info.counts.hit_ratio() {
        None => "none counted; handles that may write count theirs".to_owned(),
        Some(ratio) => format!(
            "{} hits, {} misses: {:.1} %",
            human::count(info.counts.hits),
            human::count(info.counts.misses),
            ratio * 100.0
        ),
    }
}
