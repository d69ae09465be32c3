//! `put`, `add` and `replace`: writes of one value, from the command line or standard input.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde::Serialize;
use store_client::{PutOptions, Stored, Writer};

use super::Context;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli put greeting hello
  kv-cli put session:17 \"$token\" --ttl 30m
  kv-cli put photo - < photo.jpg
  kv-cli put -- --odd-key --odd-value";

/// Store a value under a key, whether it is there or not
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

/// Store a value only if the key is absent (exits 1 if it is there)
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

/// Store a value only if the key is there (exits 1 if it is absent)
#[derive(Debug, clap::Args)]
pub(crate) struct ReplaceArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WriteArgs {
    /// The key
    key: OsString,

    /// The value; `-` reads standard input to its end
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    value: OsString,

    #[command(flatten)]
    ttl: TtlOption,
}

/// Time to live of a write.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct TtlOption {
    /// Time to live: 500ms, 10s, 5m, 2h, 1d [default: that of the namespace, or for ever]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    ttl: Option<Duration>,

    /// Time to live in milliseconds
    #[arg(long, value_name = "N")]
    ttl_ms: Option<u64>,

    /// No time to live, whatever the namespace says
    #[arg(long)]
    pub(crate) for_ever: bool,
}

impl TtlOption {
    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.ttl.or(self.ttl_ms.map(Duration::from_millis))
    }

    pub(crate) fn options(&self) -> PutOptions {
        match self.ttl() {
            Some(ttl) => PutOptions::new().ttl(ttl),
            None if self.for_ever => PutOptions::new().for_ever(),
            None => PutOptions::new(),
        }
    }
}

#[derive(Serialize)]
struct Outcome {
    stored: Option<&'static str>,
}

pub(crate) fn run_put(args: PutArgs, context: &mut Context) -> Result<Exit, Failure> {
    write(args.write, context, |writer, key, value, options| {
        Ok(match writer.put_with(key, value, options)? {
            Stored::Inserted => Some("inserted"),
            Stored::Replaced => Some("replaced"),
        })
    })
}

pub(crate) fn run_add(args: AddArgs, context: &mut Context) -> Result<Exit, Failure> {
    write(args.write, context, |writer, key, value, options| {
        Ok(writer.add(key, value, options)?.then_some("inserted"))
    })
    .map_err(|failure| because(failure, "is there already"))
}

pub(crate) fn run_replace(args: ReplaceArgs, context: &mut Context) -> Result<Exit, Failure> {
    write(args.write, context, |writer, key, value, options| {
        Ok(writer.replace(key, value, options)?.then_some("replaced"))
    })
    .map_err(|failure| because(failure, "is absent"))
}

/// Completes the message of a condition that was false.
fn because(failure: Failure, why: &str) -> Failure {
    match (failure.exit, failure.message) {
        (Exit::Absent, Some(subject)) => {
            Failure::new(Exit::Absent, format!("{subject} {why}; nothing was changed"))
        }
        (exit, message) => Failure { exit, message },
    }
}

/// What the three have in common. `None` from `store` says that the condition was false.
fn write(
    args: WriteArgs,
    context: &mut Context,
    store: impl FnOnce(&Writer, &[u8], &[u8], &PutOptions) -> Result<Option<&'static str>, Failure>,
) -> Result<Exit, Failure> {
    let format = write_format(context)?;
    let writer = context.writer()?;
    let key = args.key.into_vec();
    let value = value_of(args.value, &writer)?;
    let stored = store(&writer, &key, &value, &args.ttl.options())?;
    match format {
        Format::Raw => {}
        Format::Table => context.output.line(stored.unwrap_or("unchanged"))?,
        Format::Json | Format::Jsonl => context.output.json(&Outcome { stored })?,
    }
    match stored {
        Some(_) => Ok(Exit::Done),
        None => Err(Failure::new(Exit::Absent, format!("the key {}", human::key(&key)))),
    }
}

/// The format of writes: silent unless asked.
pub(crate) fn write_format(context: &Context) -> Result<Format, Failure> {
    context.output.format(Format::Raw, &[Format::Table, Format::Json, Format::Jsonl])
}

/// The value from the command line, or for `-` from standard input: no more of it than fits.
pub(crate) fn value_of(value: OsString, writer: &Writer) -> Result<Vec<u8>, Failure> {
    if value != "-" {
        return Ok(value.into_vec());
    }
    read_bounded(std::io::stdin().lock(), "standard input", writer.info()?.value_bytes_max)
}

/// All of `input`, called `what`, if it is a value that fits.
pub(crate) fn read_bounded(input: impl Read, what: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    input
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::system(&format!("reading the value from {what}"), &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "the value on {what} has more than {} bytes, the limit of this store; make \
                 the store larger or split the value",
                human::count(limit)
            ),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_read_to_its_end_or_to_the_limit() {
        assert_eq!(read_bounded(&b"abc\n"[..], "it", 4).ok(), Some(b"abc\n".to_vec()));
        assert_eq!(read_bounded(&b""[..], "it", 4).ok(), Some(Vec::new()));
        // Endless input ends in an answer.
        let failure = read_bounded(std::io::repeat(b'x'), "it", 4096).expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused);
    }

    #[test]
    fn only_a_false_condition_is_explained() {
        let failure = because(Failure::new(Exit::Absent, "the key \"k\""), "is absent");
        assert_eq!(failure.line().as_deref(), Some("the key \"k\" is absent; nothing was changed"));
        let failure = because(Failure::new(Exit::Full, "full"), "is absent");
        assert_eq!(failure.line().as_deref(), Some("full"));
    }
}
