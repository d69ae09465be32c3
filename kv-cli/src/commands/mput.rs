//! `mput`: many values through the batched put.

use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde::Serialize;
use store_client::{PutOptions, Stored, Writer};

use super::Context;
use super::load::jsonl::Jsonl;
use super::load::{Line, Record, Source, longest_line};
use super::put::{TtlOption, write_format};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli mput a 1 b 2 c 3
  kv-cli mget a b | kv-cli --store posix:other mput -

With a single - the entries are JSON lines on standard input, as `load` and `dump` have them; a
ttl_ms there goes before --ttl.

Each key is put for itself, in order. One that is refused (too long, too large) does not keep the
others from being put, and the code is 8 in the end; a store that is full or stuck ends the command
after the batch of 512 that it is at, with code 5 or 7. What was put stays.";

/// Entries put at once, and the bytes in them after which a batch ends anyway.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// Store many values
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct MputArgs {
    /// Keys and values in turn; a single `-` reads JSON lines from standard input
    #[arg(
        value_names = ["KEY", "VALUE"],
        num_args = 1..,
        required = true,
        allow_negative_numbers = true
    )]
    pairs: Vec<OsString>,

    #[command(flatten)]
    ttl: TtlOption,
}

/// What came of the entries so far.
#[derive(Debug, Default, Serialize)]
struct Tally {
    inserted: u64,
    replaced: u64,
    refused: u64,
    #[serde(skip)]
    first: Option<Failure>,
}

impl Tally {
    fn refuse(&mut self, failure: Failure) {
        self.refused += 1;
        self.first.get_or_insert(failure);
    }

    /// The failure that ends the command at once: one that the next entries would meet too.
    fn is_over(&self) -> bool {
        self.first.as_ref().is_some_and(|failure| failure.exit != Exit::Refused)
    }

    /// `Done`, or the first failure with the number of all.
    fn exit(self) -> Result<Exit, Failure> {
        match self.first {
            None => Ok(Exit::Done),
            Some(first) if self.refused == 1 => Err(first),
            Some(first) => {
                Err(first.at(&format!("{} were not stored, first", human::count(self.refused))))
            }
        }
    }
}

pub(crate) fn run(args: MputArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = write_format(context)?;
    let from_stdin = args.pairs.len() == 1 && args.pairs[0] == "-";
    if !from_stdin && args.pairs.len() % 2 == 1 {
        return Err(Failure::usage(
            "mput takes keys and values in turn, and the last key has none",
        ));
    }
    let writer = context.writer()?;
    let mut tally = Tally::default();
    let options = args.ttl.options();
    let read = match from_stdin {
        true => put_lines(&writer, std::io::stdin().lock(), &options, &mut tally),
        false => {
            put_pairs(&writer, args.pairs, &options, &mut tally)?;
            Ok(())
        }
    };
    // Also when it ended early: what was stored stays stored, and should be known.
    match format {
        Format::Raw => {}
        Format::Table => {
            let Tally { inserted, replaced, refused, .. } = &tally;
            let line = format!("{inserted} inserted, {replaced} replaced, {refused} refused");
            context.output.line(&line)?;
        }
        Format::Json | Format::Jsonl => context.output.json(&tally)?,
    }
    read?;
    tally.exit()
}

fn put_pairs(
    writer: &Writer,
    pairs: Vec<OsString>,
    options: &PutOptions,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut pairs = pairs.into_iter().map(OsStringExt::into_vec);
    let mut items = Vec::new();
    while let (Some(key), Some(value)) = (pairs.next(), pairs.next()) {
        items.push((key, value));
    }
    for batch in items.chunks(BATCH) {
        put_batch(writer, batch, options, tally)?;
        if tally.is_over() {
            break;
        }
    }
    Ok(())
}

fn put_lines(
    writer: &Writer,
    input: impl BufRead,
    options: &PutOptions,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let info = writer.info()?;
    let limit = longest_line(info.key_bytes_max, info.value_bytes_max);
    let mut source = Jsonl::new(input, usize::try_from(limit).unwrap_or(usize::MAX));
    let (mut batch, mut bytes, mut ttl_ms) = (Vec::with_capacity(BATCH), 0, None);
    while let Some(Line { number, record }) = source.next()? {
        let record = match record {
            Ok(record) => record,
            Err(refusal) => {
                let failure = Failure::new(Exit::Refused, refusal.to_string());
                tally.refuse(failure.at(&format!("line {}", human::count(number))));
                continue;
            }
        };
        // A batch has one time to live.
        if batch.len() == BATCH || bytes >= BATCH_BYTES || record.ttl_ms != ttl_ms {
            put_batch(writer, &batch, &with_ttl(options, ttl_ms), tally)?;
            batch.clear();
            bytes = 0;
            if tally.is_over() {
                return Ok(());
            }
        }
        let Record { key, value, ttl_ms: own_ttl_ms } = record;
        ttl_ms = own_ttl_ms;
        bytes += key.len() + value.len();
        batch.push((key, value));
    }
    put_batch(writer, &batch, &with_ttl(options, ttl_ms), tally)
}

fn with_ttl(options: &PutOptions, ttl_ms: Option<Option<u64>>) -> PutOptions {
    match ttl_ms {
        None => *options,
        Some(None) => options.for_ever(),
        Some(Some(millis)) => options.ttl(Duration::from_millis(millis)),
    }
}

fn put_batch(
    writer: &Writer,
    items: &[(Vec<u8>, Vec<u8>)],
    options: &PutOptions,
    tally: &mut Tally,
) -> Result<(), Failure> {
    for ((key, _), stored) in items.iter().zip(writer.put_many(items, options)?) {
        match stored {
            Ok(Stored::Inserted) => tally.inserted += 1,
            Ok(Stored::Replaced) => tally.replaced += 1,
            Err(error) => {
                tally.refuse(Failure::from(error).at(&format!("the key {}", human::key(key))));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_with_the_number_of_all() {
        assert_eq!(Tally::default().exit().ok(), Some(Exit::Done));
        let mut tally = Tally::default();
        tally.refuse(Failure::new(Exit::Refused, "the key \"a\": too long"));
        assert!(!tally.is_over());
        tally.refuse(Failure::new(Exit::Full, "full"));
        let failure = tally.exit().expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused);
        let line = "2 were not stored, first: the key \"a\": too long";
        assert_eq!(failure.line().as_deref(), Some(line));
        let mut tally = Tally::default();
        tally.refuse(Failure::new(Exit::Full, "full"));
        assert!(tally.is_over());
    }

    #[test]
    fn the_time_to_live_of_a_line_goes_before_that_of_all() {
        let all = PutOptions::new().ttl(Duration::from_secs(1));
        assert_eq!(with_ttl(&all, None), all);
        let own = PutOptions::new().ttl(Duration::from_millis(5));
        assert_eq!(with_ttl(&all, Some(Some(5))), own);
    }
}
