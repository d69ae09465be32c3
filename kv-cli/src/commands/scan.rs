//! `scan`: the keys of a store, all or page by page.
//!
//! The library's pages end where a bucket ends. A cursor therefore goes on behind whole pages only:
//! cut inside a bucket, the rest of it would be lost or the scan would never get past it.

use store_client::{Cursor, Reader};

use super::Context;
use super::get::printable;
use crate::exit::{Exit, Failure};
use crate::output::{Format, JsonEntry, Output, notice};

/// Keys asked of the library at once where no limit says otherwise.
const PAGE: usize = 1024;

const AFTER_HELP: &str = "\
Examples:
  kv-cli scan --prefix user: --limit 10
  kv-cli scan -0 | xargs -0 -n1 echo
  kv-cli --format json scan --limit 1000 --cursor 0        first page; \"next\" is the next cursor

Each key that is there throughout is shown at least once; one that comes or goes meanwhile may be
shown or not. The order is that of the index. With --cursor a page can hold somewhat more keys than
--limit; in raw and table format the next cursor is then said on standard error.";

/// List keys
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ScanArgs {
    /// Only keys that begin with it
    #[arg(long, default_value = "")]
    prefix: std::ffi::OsString,

    /// Stop after so many keys
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Show one page from here on, and where the next begins; 0 is the start
    #[arg(long)]
    cursor: Option<Cursor>,

    /// Show the values too (raw: KEY, tab, VALUE; with -0 each is followed by a NUL byte)
    #[arg(long)]
    values: bool,

    /// Follow each key with a NUL byte in place of a newline
    #[arg(short = '0', long = "null")]
    null: bool,
}

pub(crate) fn run(args: ScanArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let reader = context.reader()?;
    let mut shown = Shown {
        reader: &reader,
        output: &mut context.output,
        format,
        values: args.values,
        null: args.null,
        count: 0,
        rows: Vec::new(),
    };
    if format == Format::Json {
        shown.output.raw(b"{\"keys\":[")?;
    }
    let prefix = std::os::unix::ffi::OsStrExt::as_bytes(args.prefix.as_os_str());
    let next = match args.cursor {
        Some(cursor) => one_page(&mut shown, cursor, prefix, args.limit)?,
        None => {
            whole_store(&mut shown, prefix, args.limit)?;
            None
        }
    };
    if format == Format::Table {
        let header: &[&str] = if args.values { &["key", "value"] } else { &["key"] };
        let rows = std::mem::take(&mut shown.rows);
        shown.output.table(header, &rows, &[])?;
    }
    let output = &mut context.output;
    match (format, args.cursor.is_some()) {
        (Format::Json, false) => output.line("]}")?,
        (Format::Json, true) => {
            output.raw(b"],\"next\":")?;
            output.json_part(&next.map(|cursor| cursor.to_string()))?;
            output.line("}")?;
        }
        (Format::Jsonl, true) => {
            output.raw(b"{\"next\":")?;
            output.json_part(&next.map(|cursor| cursor.to_string()))?;
            output.line("}")?;
        }
        (_, true) => {
            output.flush()?;
            if let Some(next) = next {
                notice(&format!("more keys may follow: --cursor {next}"));
            }
        }
        (_, false) => {}
    }
    Ok(Exit::Done)
}

/// Whole pages until the limit is reached; returns where the next begins.
fn one_page(
    shown: &mut Shown<'_>,
    mut cursor: Cursor,
    prefix: &[u8],
    limit: Option<usize>,
) -> Result<Option<Cursor>, Failure> {
    let limit = limit.unwrap_or(PAGE).max(1);
    loop {
        let page = shown.reader.scan(cursor, prefix, limit - shown.count)?;
        for key in &page.keys {
            shown.show(key)?;
        }
        match page.next {
            Some(next) if shown.count < limit => cursor = next,
            next => return Ok(next),
        }
    }
}

/// All keys, or exactly as many as the limit says.
fn whole_store(shown: &mut Shown<'_>, prefix: &[u8], limit: Option<usize>) -> Result<(), Failure> {
    let limit = limit.unwrap_or(usize::MAX);
    let mut cursor = Cursor::START;
    while shown.count < limit {
        let page = shown.reader.scan(cursor, prefix, PAGE.min(limit - shown.count))?;
        for key in &page.keys {
            if shown.count == limit {
                return Ok(());
            }
            shown.show(key)?;
        }
        match page.next {
            Some(next) => cursor = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Where keys go, and how many went there.
struct Shown<'a> {
    reader: &'a Reader,
    output: &'a mut Output,
    format: Format,
    values: bool,
    null: bool,
    count: usize,
    rows: Vec<Vec<String>>,
}

impl Shown<'_> {
    fn show(&mut self, key: &[u8]) -> Result<(), Failure> {
        let value = match self.values {
            false => None,
            true => match self.reader.get(key)? {
                Some(value) => Some(value),
                // Deleted between the two looks: it is not there, so it is not shown.
                None => return Ok(()),
            },
        };
        self.count += 1;
        let value = value.as_deref();
        let (between, end) = if self.null { (b"\0", b"\0") } else { (b"\t", b"\n") };
        match self.format {
            Format::Raw => {
                self.output.raw(key)?;
                if let Some(value) = value {
                    self.output.raw(between)?;
                    self.output.raw(value)?;
                }
                self.output.raw(end)
            }
            Format::Table => {
                let cells = std::iter::once(key).chain(value).map(printable);
                self.rows.push(cells.collect());
                Ok(())
            }
            Format::Json => {
                self.output.raw(if self.count == 1 { b"" } else { b"," })?;
                self.output.json_part(&entry(key, value))
            }
            Format::Jsonl => self.output.json(&entry(key, value)),
        }
    }
}

fn entry<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> JsonEntry<'a> {
    JsonEntry { key, value: value.map(Some), ..JsonEntry::default() }
}
