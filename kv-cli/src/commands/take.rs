//! `take`: gets a value and deletes its key in one step.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::Context;
use super::get::{absent, show_value};
use crate::exit::{Exit, Failure};
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli take job:7 > job             of all who take it at the same time, one gets it
  kv-cli take --format json job:7

Exits 1 when the key is absent. The key is deleted before its value is written: a value that can't
be written to standard output is lost.";

/// Write the value of a key to standard output and delete the key, in one step
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TakeArgs {
    /// The key
    key: OsString,
}

pub(crate) fn run(args: TakeArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let key = args.key.into_vec();
    let Some(value) = context.writer()?.take(&key)? else { return Err(absent(&key)) };
    show_value(&key, Some(&value), format, &mut context.output)?;
    Ok(Exit::Done)
}
