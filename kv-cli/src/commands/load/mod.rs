//! `load`: many entries from JSONL, CSV or TSV, in bounded memory.
//!
//! A line that can't be stored is refused, counted and named, and the others go in. What concerns
//! the whole store (full, stuck, corrupt) ends the load at once and says at which line.

mod delimited;
mod fields;
pub(super) mod jsonl;
mod summary;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::ProgressBar;
use store_client::{PutOptions, Stored, WriteError, Writer};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;
use crate::progress;
use summary::Summary;

const AFTER_HELP: &str = "\
JSONL, one object a line:
  {\"key\":\"user:1\",\"value\":\"Ada\",\"ttl_ms\":60000}
  {\"key_b64\":\"AP8=\",\"value_b64\":\"AAEC\"}       bytes that are no text
  {\"key\":\"user:2\",\"value\":{\"n\":[1,2]}}      a value that is no string: its JSON text
A number, true, false, null, an array or an object is stored as the text that stands there (5 as the
one byte 5, so that `incr` counts on); `dump` writes it as a string. Other members are ignored. CSV and TSV: a header with the columns key, value and, if you like,
ttl_ms. CSV is quoted as RFC 4180 has it: a value with a comma, a quote or a newline stands in
quotes, a quote in it twice. A quote anywhere else is refused, and so is one that is not closed,
with all behind it. A TSV file has no quoting: a quote is a quote.

Examples:
  kv-cli load users.jsonl
  apt-cache dumpavail | apt-to-jsonl.py | kv-cli load
  kv-cli load words.csv --key-column word --value-column meaning
  cut -f1,2 table.tsv | kv-cli load --input-format tsv --no-header

Lines that are refused are listed at the end with the reason; then the exit code is 8. A full store
ends the load with code 5. What was stored before stays.";

/// The format of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    Jsonl,
    Csv,
    Tsv,
}

/// Load entries from JSONL, CSV or TSV
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct LoadArgs {
    /// The file; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,

    /// What is in it [default: by the file's extension, else jsonl]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input_format: Option<InputFormat>,

    /// Stop at the first line that is refused
    #[arg(long)]
    strict: bool,

    /// Longest record that is read; by default the longest that can be legal, at most this
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = human::parse_size)]
    max_line: u64,

    // Last, or its heading would stand over the other options too.
    #[command(flatten)]
    columns: Columns,
}

/// Where CSV and TSV have what.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "CSV and TSV")]
struct Columns {
    /// Column with the keys [default: key]
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,

    /// Column with the values [default: value]
    #[arg(long, value_name = "NAME")]
    value_column: Option<String>,

    /// Column with times to live in milliseconds; may be empty [default: ttl_ms, if it is there]
    #[arg(long, value_name = "NAME")]
    ttl_column: Option<String>,

    /// No header: columns 1, 2 and 3 are key, value and time to live
    #[arg(long, conflicts_with_all = ["key_column", "value_column", "ttl_column"])]
    no_header: bool,
}

/// The column of times to live, where none is named.
const TTL_COLUMN: &str = "ttl_ms";

impl Columns {
    fn key_column(&self) -> &str {
        self.key_column.as_deref().unwrap_or("key")
    }

    fn value_column(&self) -> &str {
        self.value_column.as_deref().unwrap_or("value")
    }

    /// Whether any of it was asked for.
    fn given(&self) -> bool {
        let named = [&self.key_column, &self.value_column, &self.ttl_column];
        self.no_header || named.iter().any(|name| name.is_some())
    }
}

/// One entry of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// `Some(None)`: it lives for ever, whatever its namespace says.
    pub(super) ttl_ms: Option<Option<u64>>,
}

/// Why a line holds no entry: a reason to count by, and what is particular to this line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    reason: &'static str,
    detail: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{} ({detail})", self.reason),
            None => f.write_str(self.reason),
        }
    }
}

impl Refusal {
    fn new(reason: &'static str) -> Refusal {
        Refusal { reason, detail: None }
    }

    fn with(reason: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal { reason, detail: Some(detail.into()) }
    }
}

/// A line of the input that is not empty.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) record: Result<Record, Refusal>,
}

/// A format of input: hands out its lines one by one.
pub(super) trait Source {
    fn next(&mut self) -> Result<Option<Line>, Failure>;
}

pub(crate) fn run(args: LoadArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let writer = context.writer()?;
    let info = writer.info()?;
    let limit = longest_line(info.key_bytes_max, info.value_bytes_max).min(args.max_line);
    let (input, bar) = open(&args.file)?;
    let input = bar.wrap_read(input);
    let mut source = source(&args, input, usize::try_from(limit).unwrap_or(usize::MAX))?;

    let started = Instant::now();
    let mut summary = Summary::default();
    let result = store_all(source.as_mut(), &writer, args.strict, &mut summary);
    summary.finish(bar.position(), started.elapsed());
    bar.finish_and_clear();

    // Also when it ended early: what was stored stays stored, and should be known.
    match format.is_json() {
        true => context.output.json(&summary.json())?,
        false => summary.lines().iter().try_for_each(|line| context.output.line(line))?,
    }
    result?;
    match summary.refused() {
        0 => Ok(Exit::Done),
        refused => Err(Failure::new(
            Exit::Refused,
            format!(
                "{} refused, the other {} stored",
                human::plural(refused, "line was", "lines were"),
                human::count(summary.accepted())
            ),
        )),
    }
}

fn store_all(
    source: &mut dyn Source,
    writer: &Writer,
    strict: bool,
    summary: &mut Summary,
) -> Result<(), Failure> {
    while let Some(Line { number, record }) = source.next()? {
        let outcome = match record {
            Ok(record) => store(writer, &record)
                .map_err(|failure| failure.at(&format!("line {}", human::count(number))))?,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(Stored::Inserted) => summary.stored += 1,
            Ok(Stored::Replaced) => summary.replaced += 1,
            Err(refusal) => {
                let stop = strict.then(|| {
                    let text = format!("line {} was refused: {refusal}", human::count(number));
                    Failure::new(Exit::Refused, text)
                });
                summary.refuse(number, refusal);
                if let Some(failure) = stop {
                    return Err(failure);
                }
            }
        }
    }
    Ok(())
}

/// Stores one entry. The inner error concerns this entry alone, the outer one ends the load.
fn store(writer: &Writer, record: &Record) -> Result<Result<Stored, Refusal>, Failure> {
    let options = match record.ttl_ms {
        Some(Some(millis)) => PutOptions::new().ttl(Duration::from_millis(millis)),
        Some(None) => PutOptions::new().for_ever(),
        None => PutOptions::new(),
    };
    let error = match writer.put_with(&record.key, &record.value, &options) {
        Ok(stored) => return Ok(Ok(stored)),
        Err(error) => error,
    };
    let reason = match &error {
        WriteError::KeyTooLong { .. } => "the key is too long",
        WriteError::ValueTooLarge { .. } => "the value is too large",
        WriteError::InvalidTtl { .. } => "the time to live is out of range",
        _ => return Err(error.into()),
    };
    Ok(Err(Refusal::with(reason, error.to_string())))
}

/// The most bytes that a legal record can take: every byte as `\u00XX`, and room for the rest.
pub(super) fn longest_line(key_bytes_max: u64, value_bytes_max: u64) -> u64 {
    key_bytes_max.saturating_add(value_bytes_max).saturating_mul(6).saturating_add(4096)
}

fn open(path: &Path) -> Result<(Box<dyn Read>, ProgressBar), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(std::io::stdin()), progress::stream()));
    }
    let wrong = |error| Failure::system(&path.display().to_string(), &error);
    let file = File::open(path).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{} is a directory", path.display())));
    }
    let bar = match metadata.is_file() {
        true => progress::bytes(metadata.len()),
        false => progress::stream(),
    };
    Ok((Box::new(file), bar))
}

fn source<'a>(
    args: &LoadArgs,
    input: impl Read + 'a,
    limit: usize,
) -> Result<Box<dyn Source + 'a>, Failure> {
    let guess = || match args.file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => InputFormat::Csv,
        Some("tsv" | "tab") => InputFormat::Tsv,
        _ => InputFormat::Jsonl,
    };
    let input = BufReader::with_capacity(256 << 10, input);
    let input_format = args.input_format.unwrap_or_else(guess);
    if input_format == InputFormat::Jsonl && args.columns.given() {
        return Err(Failure::usage(
            "JSONL has no columns; leave --key-column, --value-column, --ttl-column and --no-header \
             out, or say --input-format csv or tsv",
        ));
    }
    Ok(match input_format {
        InputFormat::Jsonl => Box::new(jsonl::Jsonl::new(input, limit)),
        InputFormat::Csv => Box::new(delimited::Delimited::new(input, b',', &args.columns, limit)?),
        InputFormat::Tsv => {
            Box::new(delimited::Delimited::new(input, b'\t', &args.columns, limit)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legal_line_is_never_too_long() {
        assert!(longest_line(65_535, 1 << 20) > 6 * ((1 << 20) + 65_535));
        assert_eq!(longest_line(u64::MAX, 1), u64::MAX);
    }
}
