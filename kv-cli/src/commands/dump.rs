//! `dump`: the whole store, or the keys with a prefix, as JSONL that `load` reads.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

use indicatif::ProgressBar;
use store_client::{Cursor, Ttl};

use super::Context;
use super::get::left_ms;
use crate::exit::{Exit, Failure};
use crate::output::{Format, JsonEntry};
use crate::progress;

const AFTER_HELP: &str = "\
Examples:
  kv-cli dump > backup.jsonl
  kv-cli dump --prefix user: | kv-cli load --store posix:other
  kv-cli dump | gzip > backup.jsonl.gz

Keys and values that are no UTF-8 go out as key_b64 and value_b64. Entries that expire have the
milliseconds left as ttl_ms. The store is not stopped: what changes meanwhile may be old or new.";

/// Write all entries as JSON lines that `load` reads
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DumpArgs {
    /// Only keys that begin with it
    #[arg(long, default_value = "")]
    prefix: OsString,
}

pub(crate) fn run(args: DumpArgs, context: &mut Context) -> Result<Exit, Failure> {
    context.output.format(Format::Jsonl, &[])?;
    let reader = context.reader()?;
    // With the entries themselves on the terminal a bar would only be in their way.
    let bar = match std::io::stdout().is_terminal() {
        true => ProgressBar::hidden(),
        false => progress::things(reader.len(), "entries"),
    };
    // What lives for ever where others don't says so.
    let default_ttl = match &context.namespace {
        None => false,
        Some(name) => {
            reader.namespaces()?.iter().any(|info| info.name == *name && info.default_ttl.is_some())
        }
    };
    let prefix = args.prefix.as_bytes();
    let mut cursor = Cursor::START;
    loop {
        let page = reader.scan(cursor, prefix, 1024)?;
        for key in &page.keys {
            // A key may vanish between the scan and this look.
            let Some(entry) = reader.get_entry(key)? else { continue };
            context.output.json(&JsonEntry {
                key,
                value: Some(Some(&entry.value)),
                ttl_ms: match entry.ttl {
                    Ttl::Never => default_ttl.then_some(None),
                    left => Some(left_ms(left)),
                },
                ..JsonEntry::default()
            })?;
        }
        bar.inc(page.keys.len() as u64);
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(Exit::Done)
}
