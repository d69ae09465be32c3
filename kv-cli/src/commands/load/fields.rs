//! The records of CSV (RFC 4180) and TSV, strictly: a quote in the wrong place is refused, because
//! whoever reads on regardless stores something that nobody wrote.
//!
//! Lines end in LF, CRLF or CR; empty ones are skipped. Reads piece by piece and holds one record.

use std::io::{self, BufRead};

use super::Refusal;
use crate::human;

/// The byte order mark that some programs put before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What [`Fields::next`] found. Lines are those that records begin in, counted from 1.
#[derive(Debug)]
pub(super) enum Found {
    /// A record; [`Fields::get`] has its columns.
    Record(u64),
    /// A record whose quotes are wrong.
    Malformed(u64, Refusal),
    /// A record with more bytes than allowed. Where the next one begins can't be told.
    TooLong(u64),
    End,
}

/// Where in a field the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Bare,
    Quoted,
    /// Behind a quote in a quoted field: it was the closing one, or the first of two.
    Closed,
}

/// A reader of records.
pub(super) struct Fields<R> {
    input: R,
    delimiter: u8,
    /// Without it a quote is a byte as any other.
    quoting: bool,
    limit: usize,
    /// Line of the next byte.
    line: u64,
    /// The last byte was CR: LF belongs to the same end of line.
    after_cr: bool,
    started: bool,
    /// The fields of the record, one behind the other, and where each one ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: BufRead> Fields<R> {
    pub(super) fn new(input: R, delimiter: u8, quoting: bool, limit: usize) -> Self {
        Fields {
            input,
            delimiter,
            quoting,
            limit,
            line: 1,
            after_cr: false,
            started: false,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Reads the next record.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        self.bytes.clear();
        self.ends.clear();
        let (mut state, mut refusal) = (State::Start, None);
        let (mut begin, mut quote_line) = (self.line, self.line);
        while let Some(byte) = self.byte()? {
            let end_of_line = matches!(byte, b'\n' | b'\r');
            if byte == b'\n' && self.after_cr {
                self.after_cr = false;
                if state == State::Quoted {
                    self.bytes.push(byte);
                }
                continue;
            }
            self.after_cr = byte == b'\r';
            self.line += u64::from(end_of_line);
            state = match (state, byte) {
                (State::Quoted, b'"') => State::Closed,
                (State::Quoted, _) => {
                    self.bytes.push(byte);
                    State::Quoted
                }
                (State::Closed, b'"') => {
                    self.bytes.push(byte);
                    State::Quoted
                }
                (State::Start, _) if end_of_line && self.ends.is_empty() => {
                    begin = self.line;
                    State::Start
                }
                (_, _) if end_of_line => {
                    self.ends.push(self.bytes.len());
                    return Ok(found(begin, refusal));
                }
                (_, byte) if byte == self.delimiter => {
                    self.ends.push(self.bytes.len());
                    State::Start
                }
                (State::Start, b'"') if self.quoting => {
                    quote_line = self.line;
                    State::Quoted
                }
                (State::Closed, _) => {
                    refusal.get_or_insert(Refusal::with(
                        "text follows a closing quote",
                        "a quote that is part of a quoted value is written twice",
                    ));
                    State::Bare
                }
                (State::Bare, b'"') if self.quoting => {
                    refusal.get_or_insert(Refusal::with(
                        "a quote stands within an unquoted value",
                        "quote the whole value, and write a quote that is part of it twice",
                    ));
                    State::Bare
                }
                (State::Start | State::Bare, _) => {
                    self.bytes.push(byte);
                    State::Bare
                }
            };
            if self.bytes.len() + self.ends.len() > self.limit {
                return Ok(Found::TooLong(begin));
            }
        }
        if state == State::Quoted {
            let line = human::count(quote_line);
            let detail = format!("it opens in line {line}, and all behind it would be one value");
            refusal = Some(Refusal::with("a quote is not closed", detail));
        } else if state == State::Start && self.ends.is_empty() {
            return Ok(Found::End);
        }
        self.ends.push(self.bytes.len());
        Ok(found(begin, refusal))
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        if !self.started {
            self.started = true;
            if self.fill()?.starts_with(BOM) {
                self.input.consume(BOM.len());
            }
        }
        let byte = self.fill()?.first().copied();
        if byte.is_some() {
            self.input.consume(1);
        }
        Ok(byte)
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        // Asked again after EINTR; asked a last time, what is buffered costs nothing.
        while let Err(error) = self.input.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.input.fill_buf()
    }
}

impl<R> Fields<R> {
    /// How many columns the record has.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A column of the record.
    pub(super) fn get(&self, column: usize) -> Option<&[u8]> {
        let start = match column {
            0 => 0,
            _ => *self.ends.get(column - 1)?,
        };
        self.bytes.get(start..*self.ends.get(column)?)
    }
}

fn found(line: u64, refusal: Option<Refusal>) -> Found {
    match refusal {
        None => Found::Record(line),
        Some(refusal) => Found::Malformed(line, refusal),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::collection::vec;
    use proptest::prelude::proptest;

    use super::*;

    /// All records with their lines, or the reason why one is refused, read through small pieces.
    fn read(input: &str, delimiter: u8) -> Vec<(u64, Result<Vec<String>, &'static str>)> {
        let whole = read_by(input, delimiter, 1 << 20);
        assert_eq!(whole, read_by(input, delimiter, 4), "pieces make a difference");
        whole
    }

    fn read_by(
        input: &str,
        delimiter: u8,
        piece: usize,
    ) -> Vec<(u64, Result<Vec<String>, &'static str>)> {
        let input = BufReader::with_capacity(piece, input.as_bytes());
        let mut fields = Fields::new(input, delimiter, delimiter == b',', 100);
        let mut all = Vec::new();
        loop {
            match fields.next().expect("reads") {
                Found::Record(line) => {
                    let text =
                        |column| String::from_utf8_lossy(fields.get(column)?).into_owned().into();
                    let columns = (0..fields.len()).map_while(text).collect();
                    assert_eq!(fields.get(fields.len()), None);
                    all.push((line, Ok(columns)));
                }
                Found::Malformed(line, refusal) => all.push((line, Err(refusal.reason))),
                Found::TooLong(line) => {
                    all.push((line, Err("too long")));
                    return all;
                }
                Found::End => return all,
            }
        }
    }

    fn ok(columns: &[&str]) -> Result<Vec<String>, &'static str> {
        Ok(columns.iter().map(|column| (*column).to_owned()).collect())
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_pieces_make_no_difference(
            text in "([a-z]{1,3}|\"|,|\t|\r|\n|\\PC){0,60}",
        ) {
            read(&text, b',');
            read(&text, b'\t');
        }

        #[test]
        fn what_is_quoted_is_read_as_it_was(records in vec(vec("[a,\"\r\n ]{0,4}", 1..4), 1..8)) {
            let quoted = |column: &String| format!("\"{}\"", column.replace('"', "\"\""));
            let line = |columns: &Vec<String>| {
                columns.iter().map(quoted).collect::<Vec<_>>().join(",")
            };
            let input: Vec<String> = records.iter().map(line).collect();
            let found = read(&input.join("\n"), b',').into_iter().map(|(_, record)| record);
            let meant: Vec<_> = records.into_iter().map(Ok).collect();
            assert_eq!(found.collect::<Vec<_>>(), meant);
        }
    }

    #[test]
    fn rfc_4180() {
        assert_eq!(read("a,b\nc,d", b','), [(1, ok(&["a", "b"])), (2, ok(&["c", "d"]))]);
        assert_eq!(
            read("\"a,\"\"b\"\"\n\",c\nd\n", b','),
            [(1, ok(&["a,\"b\"\n", "c"])), (3, ok(&["d"]))]
        );
        assert_eq!(read("a,,\n\"\",\"\"\n", b','), [(1, ok(&["a", "", ""])), (2, ok(&["", ""]))]);
        assert_eq!(read("\"\"\"\"\n\"\"", b','), [(1, ok(&["\""])), (2, ok(&[""]))]);
        assert_eq!(read("", b','), []);
        assert_eq!(read("a,", b','), [(1, ok(&["a", ""]))]);
    }

    #[test]
    fn ends_of_lines() {
        let records = [(1, ok(&["a"])), (2, ok(&["b\r\nc"])), (5, ok(&["d"]))];
        assert_eq!(read("a\r\n\"b\r\nc\"\r\n\r\nd\r\n", b','), records);
        let records = [(1, ok(&["a"])), (2, ok(&["b\nc"])), (5, ok(&["d"]))];
        assert_eq!(read("a\n\"b\nc\"\n\nd\n", b','), records);
        assert_eq!(read("a\rb", b','), [(1, ok(&["a"])), (2, ok(&["b"]))]);
        assert_eq!(read("\"a\r\"\nb\n", b','), [(1, ok(&["a\r"])), (3, ok(&["b"]))]);
    }

    #[test]
    fn quotes_in_the_wrong_place_are_refused_and_the_next_record_read() {
        let after = "text follows a closing quote";
        assert_eq!(read("a,\"x\"y\nb,c\n", b','), [(1, Err(after)), (2, ok(&["b", "c"]))]);
        assert_eq!(read("\"x\"\"\" ,a\nb\n", b','), [(1, Err(after)), (2, ok(&["b"]))]);
        let within = "a quote stands within an unquoted value";
        assert_eq!(read("a, \"x, y\"\nb\n", b','), [(1, Err(within)), (2, ok(&["b"]))]);
        let open = "a quote is not closed";
        assert_eq!(read("a\nb,\"x\nc,d\n", b','), [(1, ok(&["a"])), (2, Err(open))]);
        assert_eq!(read("a,\"", b','), [(1, Err(open))]);
        assert_eq!(read("a,\"x\"\"", b','), [(1, Err(open))]);
    }

    #[test]
    fn without_quoting_a_quote_is_a_quote() {
        let records = [(1, ok(&["a", "\"x\"y"])), (2, ok(&["\"b"]))];
        assert_eq!(read("a\t\"x\"y\n\"b\n", b'\t'), records);
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let whole = |input: &str| read_by(input, b',', 1 << 20);
        assert_eq!(whole("\u{feff}\"a\",b\n"), [(1, ok(&["a", "b"]))]);
        assert_eq!(whole("\u{feff}"), []);
    }

    #[test]
    fn a_long_record_does_not_fill_memory() {
        let input = format!("a\n\"{}", "x".repeat(10_000));
        assert_eq!(read(&input, b','), [(1, ok(&["a"])), (2, Err("too long"))]);
        assert_eq!(read(&",".repeat(10_000), b','), [(1, Err("too long"))]);
        assert_eq!(read(&"k,v\n".repeat(1000), b',').len(), 1000);
    }
}
