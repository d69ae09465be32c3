//! `getset`: puts a value and gives the one that it replaced, in one step.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::Context;
use super::get::show_value;
use super::put::{TtlOption, value_of};
use crate::exit::{Exit, Failure};
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli getset leader \"$HOSTNAME\" --ttl 30s      says who it was until now
  kv-cli getset --format json leader me            \"value\":null: there was none

Exits 0 also when the key was absent; then nothing is written to standard output.";

/// Store a value under a key and write the one that it replaces, in one step
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct GetsetArgs {
    /// The key
    key: OsString,

    /// The value; `-` reads standard input to its end
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    value: OsString,

    #[command(flatten)]
    ttl: TtlOption,
}

pub(crate) fn run(args: GetsetArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let writer = context.writer()?;
    let key = args.key.into_vec();
    let value = value_of(args.value, &writer)?;
    let old = writer.get_and_put(&key, &value, &args.ttl.options())?;
    show_value(&key, old.as_deref(), format, &mut context.output)?;
    Ok(Exit::Done)
}
