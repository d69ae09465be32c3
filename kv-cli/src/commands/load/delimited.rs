//! CSV (quotes as in RFC 4180) and TSV (no quoting): which column is what, by the header's names or
//! by position.
//!
//! A record too long ends the load instead of being skipped: most often a quote is not closed, and
//! then there is no telling where the next record begins.

use std::io::BufRead;

use super::fields::{Fields, Found};
use super::{Columns, Line, Record, Refusal, Source, TTL_COLUMN};
use crate::exit::{Exit, Failure};
use crate::human;

/// A reader of CSV or TSV.
pub(super) struct Delimited<R> {
    fields: Fields<R>,
    limit: usize,
    /// How many columns a record may have, if a header says it.
    columns: Option<usize>,
    key: usize,
    value: usize,
    ttl: Option<usize>,
}

impl<R: BufRead> Delimited<R> {
    pub(super) fn new(
        input: R,
        delimiter: u8,
        columns: &Columns,
        limit: usize,
    ) -> Result<Self, Failure> {
        let fields = Fields::new(input, delimiter, delimiter == b',', limit);
        let (key, value, ttl) = (0, 1, Some(2));
        let mut source = Delimited { fields, limit, columns: None, key, value, ttl };
        if !columns.no_header {
            source.read_header(columns)?;
        }
        Ok(source)
    }

    fn read_header(&mut self, columns: &Columns) -> Result<(), Failure> {
        let refused = |line: u64, refusal: &Refusal| {
            let place = format!("line {}, the header", human::count(line));
            Failure::new(Exit::Refused, refusal.to_string()).at(&place)
        };
        let line = match self.read()? {
            // An empty file holds no entries, and is no error.
            Found::End => return Ok(()),
            Found::Record(line) => line,
            Found::Malformed(line, refusal) => return Err(refused(line, &refusal)),
            Found::TooLong(line) => return Err(self.too_long(line)),
        };
        let name =
            |column| Some(String::from_utf8_lossy(self.fields.get(column)?).trim().to_owned());
        let names: Vec<String> = (0..self.fields.len()).map_while(name).collect();
        if let Some(twice) = twice(&names) {
            let detail = format!("{twice:?} stands there more than once; rename all but one");
            return Err(refused(line, &Refusal::with("two columns have one name", detail)));
        }
        (self.key, self.value, self.ttl) = by_name(&names, columns)?;
        self.columns = Some(names.len());
        Ok(())
    }

    fn read(&mut self) -> Result<Found, Failure> {
        self.fields.next().map_err(|error| Failure::system("reading the input", &error))
    }
}

impl<R: BufRead> Source for Delimited<R> {
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        let (number, record) = match self.read()? {
            Found::End => return Ok(None),
            Found::Record(number) => (number, self.entry()),
            Found::Malformed(number, refusal) => (number, Err(refusal)),
            Found::TooLong(number) => return Err(self.too_long(number)),
        };
        Ok(Some(Line { number, record }))
    }
}

impl<R> Delimited<R> {
    fn entry(&self) -> Result<Record, Refusal> {
        let found = || human::plural(self.fields.len() as u64, "column", "columns");
        if let Some(most) = self.columns
            && self.fields.len() > most
        {
            let detail = format!("it has {}; quote a value that contains the delimiter", found());
            return Err(Refusal::with("there are more columns than in the header", detail));
        }
        let column = |index: usize, reason: &'static str| {
            let missing = || Refusal::with(reason, format!("it has {}", found()));
            self.fields.get(index).ok_or_else(missing)
        };
        let key = column(self.key, "there is no column for the key")?.to_vec();
        let value = column(self.value, "there is no column for the value")?.to_vec();
        let ttl = self.ttl.and_then(|ttl| self.fields.get(ttl)).unwrap_or_default();
        let ttl_ms = match ttl.trim_ascii() {
            b"" => None,
            text => {
                let text = String::from_utf8_lossy(text);
                Some(text.parse().map_err(|_| {
                    Refusal::with("the time to live is no whole number of milliseconds", text)
                })?)
            }
        };
        Ok(Record { key, value, ttl_ms: ttl_ms.map(Some) })
    }

    fn too_long(&self, line: u64) -> Failure {
        let text = format!(
            "line {}: the record that begins there has more than {} bytes; is a quote not closed? \
             if not, raise --max-line",
            human::count(line),
            human::count(self.limit as u64)
        );
        Failure::new(Exit::Refused, text)
    }
}

/// A name that two columns have. Columns without a name are not looked for, and may be many.
fn twice(names: &[String]) -> Option<&String> {
    let earlier = |position: usize| names[..position].contains(&names[position]);
    (0..names.len()).find(|&at| !names[at].is_empty() && earlier(at)).map(|at| &names[at])
}

/// Positions of key, value and time to live by the names in the header.
fn by_name(names: &[String], columns: &Columns) -> Result<(usize, usize, Option<usize>), Failure> {
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
    let key = need(columns.key_column(), "--key-column")?;
    let value = need(columns.value_column(), "--value-column")?;
    let ttl = match &columns.ttl_column {
        Some(wanted) => Some(need(wanted, "--ttl-column")?),
        None => find(TTL_COLUMN),
    };
    Ok((key, value, ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns { key_column: None, value_column: None, ttl_column: None, no_header: false }
    }

    type Seen = (u64, Result<(String, String, Option<u64>), &'static str>);

    fn read(input: &str, delimiter: u8, columns: &Columns) -> Result<Vec<Seen>, Failure> {
        let mut source = Delimited::new(input.as_bytes(), delimiter, columns, 1000)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let mut seen = Vec::new();
        while let Some(line) = source.next()? {
            let record = line.record.map_err(|refusal| refusal.reason);
            let record =
                record.map(|found| (text(found.key), text(found.value), found.ttl_ms.flatten()));
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
            key_column: Some("word".to_owned()),
            value_column: Some("meaning".to_owned()),
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
        assert!(failure.line().is_some_and(|line| line.starts_with("line 2: ")));
    }

    #[test]
    fn a_record_with_more_columns_than_the_header_lost_a_quote() {
        let seen = read("key,value\nk,one, two\nl,w\n", b',', &columns()).expect("reads");
        let refused = (2, Err("there are more columns than in the header"));
        assert_eq!(seen, [refused, (3, ok("l", "w", None))]);
    }

    #[test]
    fn a_header_that_can_mean_two_things_is_refused() {
        let refused = |input: &str| {
            let failure = read(input, b',', &columns()).expect_err("refused");
            assert_eq!(failure.exit, Exit::Refused);
            failure.line().expect("a message")
        };
        assert!(
            refused("key,value,value\nk,v,w\n").contains("\"value\" stands there more than once")
        );
        assert!(refused("key,\"value\"s\nk,v\n").starts_with("line 1, the header: text follows"));
        assert!(refused("key,\"value\nk,v\n").contains("not closed"));
        // Columns without a name, as spreadsheets leave them, harm nobody.
        let seen = read("key,value,,\nk,v,,\n", b',', &columns()).expect("reads");
        assert_eq!(seen, [(2, ok("k", "v", None))]);
    }

    #[test]
    fn a_column_that_was_named_must_be_there() {
        let named = Columns { ttl_column: Some("ttl".to_owned()), ..columns() };
        let failure = read("key,value\nk,v\n", b',', &named).expect_err("refused");
        assert!(failure.line().is_some_and(|line| line.contains("--ttl-column")));
    }
}
