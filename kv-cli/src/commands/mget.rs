//! `mget`: many values through the batched lookup.

use store_client::Values;

use super::Context;
use super::get::printable;
use super::keys::Missing;
use crate::exit::{Exit, Failure};
use crate::keys::KeyArgs;
use crate::output::{Format, JsonEntry, Output};

const AFTER_HELP: &str = "\
Examples:
  kv-cli mget a b c
  kv-cli scan --prefix user: -0 | kv-cli mget -0 - > users.jsonl
  kv-cli --format raw mget a b c                values only, absent ones left out

The format is a table on a terminal and jsonl elsewhere; an absent key has \"value\":null there.
Exits 1 when a key was absent, after the others.";

/// Write the values of many keys
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct MgetArgs {
    #[command(flatten)]
    keys: KeyArgs,
}

pub(crate) fn run(args: MgetArgs, context: &mut Context) -> Result<Exit, Failure> {
    let own = if context.output.is_terminal() { Format::Table } else { Format::Jsonl };
    let all = [Format::Table, Format::Json, Format::Jsonl, Format::Raw];
    let format = context.output.format(own, &all)?;
    let reader = context.reader()?;
    let end: &[u8] = if args.keys.null { b"\0" } else { b"\n" };

    let mut missing = Missing::default();
    let mut page = Page { rows: Vec::new(), first: true, format, end };
    if format == Format::Json {
        context.output.raw(b"[")?;
    }
    let mut values = Values::new();
    args.keys.for_each_batch(reader.info()?.key_bytes_max, |keys| {
        reader.get_many_into(keys, &mut values)?;
        for (key, value) in keys.iter().zip(values.iter()) {
            if value.is_none() {
                missing.note(key);
            }
            page.show(key, value, &mut context.output)?;
        }
        Ok(())
    })?;
    match format {
        Format::Json => context.output.line("]")?,
        Format::Table => context.output.table(&["key", "value"], &page.rows, &[])?,
        Format::Jsonl | Format::Raw => {}
    }
    missing.exit()
}

/// How entries go out one after the other.
struct Page<'a> {
    /// A table's widths depend on all of its rows, so they are kept.
    rows: Vec<Vec<String>>,
    first: bool,
    format: Format,
    end: &'a [u8],
}

impl Page<'_> {
    fn show(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let entry = JsonEntry { key, value: Some(value), ..JsonEntry::default() };
        match (self.format, value) {
            (Format::Table, value) => {
                let shown = value.map_or_else(|| "(absent)".to_owned(), printable);
                self.rows.push(vec![printable(key), shown]);
            }
            (Format::Json, _) => {
                output.raw(if self.first { b"" } else { b"," })?;
                output.json_part(&entry)?;
                self.first = false;
            }
            (Format::Jsonl, _) => output.json(&entry)?,
            (Format::Raw, None) => {}
            (Format::Raw, Some(value)) => {
                output.raw(value)?;
                output.raw(self.end)?;
            }
        }
        Ok(())
    }
}
