//! `incr` and `decr`: counters, changed in one step that no other process can come between.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use store_client::WriteError;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Format, JsonEntry};

/// Add to a number and print the result; an absent key counts as 0
///
/// Exits 8 when the value is no whole number of 64 bits, or when the sum would be none.
/// JSON has the result as a number, `value`, and exactly as text, `value_text`: many readers of JSON
/// round numbers beyond 2^53.
#[derive(Debug, clap::Args)]
pub(crate) struct IncrArgs {
    #[command(flatten)]
    counter: CounterArgs,
}

/// Subtract from a number and print the result; an absent key counts as 0
///
/// Exits 8 when the value is no whole number of 64 bits, or when the difference would be none.
/// JSON has the result as a number, `value`, and exactly as text, `value_text`: many readers of JSON
/// round numbers beyond 2^53.
#[derive(Debug, clap::Args)]
pub(crate) struct DecrArgs {
    #[command(flatten)]
    counter: CounterArgs,
}

#[derive(Debug, clap::Args)]
struct CounterArgs {
    /// The key
    key: OsString,

    /// By how much; may be negative
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    by: i64,
}

pub(crate) fn run_incr(args: IncrArgs, context: &mut Context) -> Result<Exit, Failure> {
    change(args.counter, context, |writer, key, by| writer.incr(key, by))
}

pub(crate) fn run_decr(args: DecrArgs, context: &mut Context) -> Result<Exit, Failure> {
    change(args.counter, context, |writer, key, by| writer.decr(key, by))
}

fn change(
    args: CounterArgs,
    context: &mut Context,
    step: impl FnOnce(&store_client::Writer, &[u8], i64) -> Result<i64, WriteError>,
) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let key = args.key.into_vec();
    let writer = context.writer()?;
    let number = step(&writer, &key, args.by)
        .map_err(|error| Failure::from(error).at(&format!("the key {}", human::key(&key))))?;
    match format.is_json() {
        true => {
            let number = Some(number);
            context.output.json(&JsonEntry { key: &key, number, ..JsonEntry::default() })?;
        }
        false => context.output.line(&number.to_string())?,
    }
    Ok(Exit::Done)
}
