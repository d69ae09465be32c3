//! CSV (RFC 4180, quotes) and TSV (no quoting), with a header or by position.
//!
//! A quote that is never closed makes the rest of a file one field. There is no telling where the
//! next record begins then, so a record longer than the limit ends the load instead of being skipped.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::{Columns, Line, Record, Refusal, Source};
use crate::exit::{Exit, Failure};
use crate::human;

/// Bytes that the parser may have read ahead of the record it is at.
const READ_AHEAD: usize = 64 << 10;

/// A reader of CSV or TSV.
pub(super) struct Delimited<R> {
    reader: ::csv::Reader<Budgeted<R>>,
    budget: Budget,
    record: ::csv::ByteRecord,
    key: usize,
    value: usize,
    ttl: Option<usize>,
}

impl<R: Read> Delimited<R> {
    pub(super) fn new(
        input: R,
        delimiter: u8,
        columns: &Columns,
        limit: usize,
    ) -> Result<Self, Failure> {
        let budget = Budget { left: Rc::new(Cell::new(0)), limit };
        budget.refill();
        let budgeted = Budgeted { input, left: Rc::clone(&budget.left) };
        let mut reader = ::csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(delimiter == b',')
            .has_headers(!columns.no_header)
            // Records with more or fewer columns are refused one by one, with their line.
            .flexible(true)
            .buffer_capacity(READ_AHEAD)
            .from_reader(budgeted);
        let (key, value, ttl) = match columns.no_header {
            true => (0, 1, Some(2)),
            false => {
                let header = reader.byte_headers().map_err(|error| failure(&error, limit))?;
                by_name(header, columns)?
            }
        };
        Ok(Delimited { reader, budget, record: ::csv::ByteRecord::new(), key, value, ttl })
    }
}

impl<R: Read> Source for Delimited<R> {
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        self.budget.refill();
        let more = self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|error| failure(&error, self.budget.limit))?;
        if !more {
            return Ok(None);
        }
        let number = self.record.position().map_or(0, ::csv::Position::line);
        Ok(Some(Line { number, record: self.entry() }))
    }
}

impl<R> Delimited<R> {
    fn entry(&self) -> Result<Record, Refusal> {
        let column = |index: usize, reason: &'static str| {
            self.record.get(index).ok_or_else(|| {
                let columns = human::plural(self.record.len() as u64, "column", "columns");
                Refusal::with(reason, format!("it has {columns}"))
            })
        };
        let key = column(self.key, "there is no column for the key")?.to_vec();
        let value = column(self.value, "there is no column for the value")?.to_vec();
        let ttl = self.ttl.and_then(|ttl| self.record.get(ttl)).unwrap_or_default();
        let ttl_ms = match ttl.trim_ascii() {
            b"" => None,
            text => {
                let text = String::from_utf8_lossy(text);
                Some(text.parse().map_err(|_| {
                    Refusal::with("the time to live is no whole number of milliseconds", text)
                })?)
            }
        };
        Ok(Record { key, value, ttl_ms })
    }
}

/// Positions of key, value and time to live by the names in the header.
fn by_name(
    header: &::csv::ByteRecord,
    columns: &Columns,
) -> Result<(usize, usize, Option<usize>), Failure> {
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let names: Vec<String> = header.iter().map(name).collect();
    // An empty file holds no entries, and is no error.
    if names.is_empty() {
        return Ok((0, 1, None));
    }
    let find = |wanted: &str| names.iter().position(|name| name == wanted);
    let need = |wanted: &str, option: &str| {
        find(wanted).ok_or_else(|| {
            let text = format!(
                "the header has no column {wanted:?}, it has {}; name the right one with {option}, \
                 or use --no-header",
                names.join(", ")
            );
            Failure::usage(text)
        })
    };
    let key = need(&columns.key_column, "--key-column")?;
    let value = need(&columns.value_column, "--value-column")?;
    Ok((key, value, find(&columns.ttl_column)))
}

fn failure(error: &::csv::Error, limit: usize) -> Failure {
    let place = match error.position() {
        Some(position) => format!("line {}", human::count(position.line())),
        None => "the input".to_owned(),
    };
    match error.kind() {
        ::csv::ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            let text = format!(
                "a record has more than {} bytes; is a quote not closed?",
                human::count(limit as u64)
            );
            Failure::new(Exit::Refused, text)
        }
        ::csv::ErrorKind::Io(source) => Failure::system("reading the input", source),
        _ => Failure::new(Exit::Refused, format!("{place}: {error}")),
    }
}

/// How many bytes the parser may still take for the present record.
struct Budget {
    left: Rc<Cell<usize>>,
    limit: usize,
}

impl Budget {
    fn refill(&self) {
        self.left.set(self.limit.saturating_add(READ_AHEAD));
    }
}

/// A reader that ends in an error when one record takes too much.
struct Budgeted<R> {
    input: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        match self.left.get().checked_sub(count) {
            Some(left) => {
                self.left.set(left);
                Ok(count)
            }
            None => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns {
            key_column: "key".to_owned(),
            value_column: "value".to_owned(),
            ttl_column: "ttl_ms".to_owned(),
            no_header: false,
        }
    }

    type Seen = (u64, Result<(String, String, Option<u64>), &'static str>);

    fn read(input: &str, delimiter: u8, columns: &Columns) -> Result<Vec<Seen>, Failure> {
        let mut source = Delimited::new(input.as_bytes(), delimiter, columns, 1000)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let mut seen = Vec::new();
        while let Some(line) = source.next()? {
            let record = line.record.map_err(|refusal| refusal.reason);
            let record = record.map(|found| (text(found.key), text(found.value), found.ttl_ms));
            seen.push((line.number, record));
        }
        Ok(seen)
    }

    fn ok(
        key: &str,
        value: &str,
        ttl_ms: Option<u64>,
    ) -> Result<(String, String, Option<u64>), &'static str> {
        Ok((key.to_owned(), value.to_owned(), ttl_ms))
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let input = "id,value,key,ttl_ms\n1,\"a, \"\"b\"\"\nc\",k1,\n2,v2,k2,500\n";
        let seen = read(input, b',', &columns()).expect("reads");
        let expected = [(2, ok("k1", "a, \"b\"\nc", None)), (4, ok("k2", "v2", Some(500)))];
        assert_eq!(seen, expected);
    }

    #[test]
    fn tsv_has_no_quoting() {
        let input = "key\tvalue\nk\t\"half\nl\t\n";
        let seen = read(input, b'\t', &columns()).expect("reads");
        assert_eq!(seen, [(2, ok("k", "\"half", None)), (3, ok("l", "", None))]);
    }

    #[test]
    fn without_a_header_columns_go_by_position() {
        let by_position = Columns { no_header: true, ..columns() };
        let seen = read("k,v\nl,w,7\n", b',', &by_position).expect("reads");
        assert_eq!(seen, [(1, ok("k", "v", None)), (2, ok("l", "w", Some(7)))]);
    }

    #[test]
    fn bad_records_are_refused_and_the_next_ones_read() {
        let input = "key,value,ttl_ms\nk\nl,w,soon\nm,x,\n";
        let seen = read(input, b',', &columns()).expect("reads");
        assert_eq!(seen[0], (2, Err("there is no column for the value")));
        let late = "the time to live is no whole number of milliseconds";
        assert_eq!(seen[1], (3, Err(late)));
        assert_eq!(seen[2], (4, ok("m", "x", None)));
    }

    #[test]
    fn a_header_without_the_columns_is_a_usage_error_that_names_them() {
        let failure = read("word,meaning\na,b\n", b',', &columns()).expect_err("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.line().is_some_and(|line| line.contains("word, meaning")));
        let named = Columns {
            key_column: "word".to_owned(),
            value_column: "meaning".to_owned(),
            ..columns()
        };
        let seen = read("word,meaning\na,b\n", b',', &named).expect("reads");
        assert_eq!(seen, [(2, ok("a", "b", None))]);
    }

    #[test]
    fn empty_input_holds_nothing() {
        assert_eq!(read("", b',', &columns()).expect("reads"), []);
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_fill_memory() {
        let input = format!("key,value\nk,\"{}", "x".repeat(1 << 20));
        let failure = read(&input, b',', &columns()).expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused);
        // Many short records take no part of each other's budget.
        let input = format!("key,value\n{}", "k,v\n".repeat(100_000));
        assert_eq!(read(&input, b',', &columns()).expect("reads").len(), 100_000);
    }
}
