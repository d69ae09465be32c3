//! `append` and `prepend`: more bytes at one end of a value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;
use store_client::{WriteError, Writer};

use super::Context;
use super::put::{value_of, write_format};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;

const APPEND_HELP: &str = "\
Examples:
  kv-cli append log \"$(date) started;\"
  kv-cli append log - < more.txt

The time to live stays. The whole value is written anew each time.";

/// Add bytes at the end of a value; an absent key counts as empty
#[derive(Debug, clap::Args)]
#[command(after_help = APPEND_HELP)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    extend: ExtendArgs,
}

/// Add bytes at the beginning of a value; an absent key counts as empty
///
/// The time to live stays. The whole value is written anew each time.
#[derive(Debug, clap::Args)]
pub(crate) struct PrependArgs {
    #[command(flatten)]
    extend: ExtendArgs,
}

#[derive(Debug, clap::Args)]
struct ExtendArgs {
    /// The key
    key: OsString,

    /// The bytes to add; `-` reads standard input to its end
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    value: OsString,
}

#[derive(Serialize)]
struct Extended {
    /// Length of the whole value.
    value_bytes: u64,
}

pub(crate) fn run_append(args: AppendArgs, context: &mut Context) -> Result<Exit, Failure> {
    extend(args.extend, context, |writer, key, bytes| writer.append(key, bytes))
}

pub(crate) fn run_prepend(args: PrependArgs, context: &mut Context) -> Result<Exit, Failure> {
    extend(args.extend, context, |writer, key, bytes| writer.prepend(key, bytes))
}

fn extend(
    args: ExtendArgs,
    context: &mut Context,
    step: impl FnOnce(&Writer, &[u8], &[u8]) -> Result<u64, WriteError>,
) -> Result<Exit, Failure> {
    let format = write_format(context)?;
    let writer = context.writer()?;
    let bytes = value_of(args.value, &writer)?;
    let value_bytes = step(&writer, &args.key.into_vec(), &bytes)?;
    match format {
        Format::Raw => {}
        Format::Table => {
            context.output.line(&format!("{} bytes", human::count(value_bytes)))?;
        }
        Format::Json | Format::Jsonl => context.output.json(&Extended { value_bytes })?,
    }
    Ok(Exit::Done)
}
