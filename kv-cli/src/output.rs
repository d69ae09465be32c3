//! What goes to standard output and standard error, and in which format.
//!
//! Values go out as they are; tables are styled only on a terminal that wants it (`NO_COLOR`).
//! JSON can't hold arbitrary bytes, so a key or value that is no UTF-8 goes out as `key_b64` or
//! `value_b64`, which `load` reads.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anstream::{AutoStream, ColorChoice};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};
use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::exit::Failure;

/// Tables and texts are fitted to terminals that have at least so many columns. One that does not
/// know its width (0) would get a column of single letters.
const NARROWEST: u16 = 40;

/// A paragraph with its word of 8 letters fits any terminal.
const PARAGRAPH_COLUMNS: usize = 69;

/// The shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: columns, units, thousands apart
    Table,
    /// One JSON document on one line
    Json,
    /// One JSON object a line
    Jsonl,
    /// The bare bytes
    Raw,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Raw => "raw",
        }
    }

    /// Whether it is for programs that read JSON.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// Standard output, buffered.
pub(crate) struct Output {
    out: BufWriter<Stdout>,
    asked: Option<Format>,
    terminal: bool,
    /// Columns that lines are fitted to; none where no terminal is.
    width: Option<u16>,
    color: bool,
}

impl Output {
    /// Standard output in the format that was asked for, if one was.
    pub(crate) fn new(asked: Option<Format>) -> Output {
        let stdout = io::stdout();
        let color = AutoStream::choice(&stdout) != ColorChoice::Never;
        let terminal = stdout.is_terminal();
        let width = Table::new().width().filter(|width| terminal && *width >= NARROWEST);
        Output { out: BufWriter::with_capacity(64 << 10, stdout), asked, terminal, width, color }
    }

    /// The format asked for, else this command's own; an error where the command lacks it.
    pub(crate) fn format(&self, own: Format, others: &[Format]) -> Result<Format, Failure> {
        let format = self.asked.unwrap_or(own);
        if format == own || others.contains(&format) {
            return Ok(format);
        }
        let mut known: Vec<&str> = others.iter().map(|other| other.name()).collect();
        known.insert(0, own.name());
        Err(Failure::usage(format!(
            "--format {} makes no sense for this command; it knows {}",
            format.name(),
            known.join(", ")
        )))
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether colors are wanted.
    pub(crate) fn has_color(&self) -> bool {
        self.color
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.raw(text.as_bytes())?;
        self.raw(b"\n")
    }

    /// Writes a value as JSON on one line.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.json_part(value)?;
        self.raw(b"\n")
    }

    /// Writes a value as JSON without the end of the line, for documents written piece by piece.
    pub(crate) fn json_part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value)
            .map_err(|error| Failure::output(&io::Error::from(error)))
    }

    /// Writes a table with a bold header; the columns named in `numbers` stand to the right.
    pub(crate) fn table(
        &mut self,
        header: &[&str],
        rows: &[Vec<String>],
        numbers: &[usize],
    ) -> Result<(), Failure> {
        let mut table = self.bare_table();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        for row in rows {
            table.add_row(row.iter().enumerate().map(|(column, text)| {
                let alignment = match numbers.contains(&column) {
                    true => CellAlignment::Right,
                    false => CellAlignment::Left,
                };
                Cell::new(text).set_alignment(alignment)
            }));
        }
        self.line(&table.trim_fmt())
    }

    /// Writes a text, broken between words where it is wider than the terminal.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        let columns = self.width.map_or(usize::MAX, usize::from);
        wrapped(text, columns).iter().try_for_each(|line| self.line(line))
    }

    /// Writes names with their values, one pair a line; on a terminal long values are broken.
    pub(crate) fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<(), Failure> {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let columns =
            self.width.map_or(usize::MAX, |all| usize::from(all).saturating_sub(width + 2));
        for (name, value) in pairs {
            self.beside((name, Style::new().bold()), width, value, columns)?;
        }
        Ok(())
    }

    /// Writes a word and beside it a paragraph about it, broken into lines.
    pub(crate) fn paragraph(&mut self, word: &str, text: &str) -> Result<(), Failure> {
        self.styled_paragraph(word, Style::new().bold(), text)
    }

    /// The same with a style of the word.
    pub(crate) fn styled_paragraph(
        &mut self,
        word: &str,
        style: Style,
        text: &str,
    ) -> Result<(), Failure> {
        self.beside((word, style), 8, text, PARAGRAPH_COLUMNS)
    }

    /// Writes a word of so many columns and a text behind it, broken into lines.
    fn beside(
        &mut self,
        (word, style): (&str, Style),
        width: usize,
        text: &str,
        columns: usize,
    ) -> Result<(), Failure> {
        for (number, line) in wrapped(text, columns).iter().enumerate() {
            let shown = if number == 0 { word } else { "" };
            let padded = format!("{shown:<width$}");
            let line = match self.color {
                true => format!("{}  {line}", padded.style(style)),
                false => format!("{padded}  {line}"),
            };
            self.line(&line)?;
        }
        Ok(())
    }

    /// Writes what is buffered. Each command ends with it, or an error would go unnoticed.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    fn bare_table(&self) -> Table {
        let mut table = Table::new();
        // Said outright: the table itself does not ask a terminal that it must not style for.
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        match self.color {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table
    }
}

/// The words of a text in lines of at most so many columns, a longer word on a line of its own. A
/// no-break space goes out as a plain one.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// Writes a failure's line to standard error, `kv-cli:` in red where that is wanted.
pub(crate) fn complain(failure: &Failure) {
    if let Some(line) = failure.line() {
        notice_in(&line, true);
    }
}

/// Writes a remark to standard error that is no error.
pub(crate) fn notice(text: &str) {
    notice_in(text, false);
}

fn notice_in(text: &str, error: bool) {
    let mut stderr = anstream::stderr();
    // There is nobody left to tell when standard error itself is closed.
    let _ = match error {
        true => writeln!(stderr, "{} {text}", "kv-cli:".red().bold()),
        false => writeln!(stderr, "{} {text}", "kv-cli:".bold()),
    };
}

/// Base64 of the standard alphabet, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// One entry of a store in JSON. Only what is set is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JsonEntry<'a> {
    pub(crate) key: &'a [u8],
    /// `Some(None)` says that the key is absent: `"value":null`.
    pub(crate) value: Option<Option<&'a [u8]>>,
    pub(crate) version: Option<&'a str>,
    /// `Some(None)` says that it never expires: `"ttl_ms":null`.
    pub(crate) ttl_ms: Option<Option<u64>>,
    pub(crate) exists: Option<bool>,
    pub(crate) number: Option<i64>,
}

impl Serialize for JsonEntry<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes_member(&mut map, "key", "key_b64", self.key)?;
        match self.value {
            None => {}
            Some(None) => map.serialize_entry("value", &())?,
            Some(Some(value)) => bytes_member(&mut map, "value", "value_b64", value)?,
        }
        if let Some(number) = self.number {
            map.serialize_entry("value", &number)?;
            // Many readers of JSON round numbers beyond 2^53.
            map.serialize_entry("value_text", &number.to_string())?;
        }
        if let Some(version) = self.version {
            map.serialize_entry("version", version)?;
        }
        if let Some(ttl_ms) = self.ttl_ms {
            map.serialize_entry("ttl_ms", &ttl_ms)?;
        }
        if let Some(exists) = self.exists {
            map.serialize_entry("exists", &exists)?;
        }
        map.end()
    }
}

fn bytes_member<M: SerializeMap>(
    map: &mut M,
    text_name: &'static str,
    b64_name: &'static str,
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(text_name, text),
        Err(_) => map.serialize_entry(b64_name, &base64(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_out_as_text_and_bytes_as_base64() {
        let json = |entry: JsonEntry<'_>| serde_json::to_string(&entry).expect("serialises");
        let entry = JsonEntry { key: b"k\"", value: Some(Some(b"v\n")), ..Default::default() };
        assert_eq!(json(entry), r#"{"key":"k\"","value":"v\n"}"#);
        let entry =
            JsonEntry { key: b"\xff", value: Some(Some(b"\x80\x00")), ..Default::default() };
        assert_eq!(json(entry), r#"{"key_b64":"/w==","value_b64":"gAA="}"#);
        let entry = JsonEntry {
            key: b"k",
            value: Some(None),
            version: Some("7"),
            ttl_ms: Some(None),
            ..Default::default()
        };
        assert_eq!(json(entry), r#"{"key":"k","value":null,"version":"7","ttl_ms":null}"#);
        let entry = JsonEntry { key: b"k", ttl_ms: Some(Some(5)), ..Default::default() };
        assert_eq!(json(entry), r#"{"key":"k","ttl_ms":5}"#);
        let entry = JsonEntry { key: b"k", number: Some(-3), ..Default::default() };
        assert_eq!(json(entry), r#"{"key":"k","value":-3,"value_text":"-3"}"#);
    }

    #[test]
    fn paragraphs_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a µµµ b", 5), ["a µµµ", "b"]);
        assert_eq!(wrapped("took 5\u{a0}ms", 7), ["took", "5 ms"]);
        assert_eq!(wrapped("longer-than-it x", 6), ["longer-than-it", "x"]);
    }

    #[test]
    fn a_format_the_command_lacks_is_a_usage_error() {
        let output = Output::new(Some(Format::Table));
        let failure = output.format(Format::Jsonl, &[]).expect_err("refused");
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
        assert_eq!(output.format(Format::Raw, &[Format::Table]).ok(), Some(Format::Table));
        assert_eq!(Output::new(None).format(Format::Raw, &[]).ok(), Some(Format::Raw));
    }
}
