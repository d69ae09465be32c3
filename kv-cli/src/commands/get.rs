//! `get`: one value, byte for byte.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use store_client::{Entry, Ttl};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Format, JsonEntry, Output};

const AFTER_HELP: &str = "\
Examples:
  kv-cli get greeting
  kv-cli get photo > photo.jpg              the bytes as they are, nothing added
  kv-cli get --format json greeting         with version and time to live

Change a value only if nobody else did:
  { read -r version; value=$(cat); } < <(kv-cli get --with-version job)
  kv-cli cas job \"$version\" \"$value, done\"

Exits 1 when the key is absent. A newline follows the value only on a terminal.";

/// Write the value of a key to standard output
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct GetArgs {
    /// The key
    key: OsString,

    /// Put a line with the version before the value, for `cas`
    #[arg(long)]
    with_version: bool,
}

pub(crate) fn run(args: GetArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let key = args.key.into_vec();
    let reader = context.reader()?;
    let output = &mut context.output;

    if format == Format::Raw && !args.with_version {
        let Some(value) = reader.get(&key)? else { return Err(absent(&key)) };
        output.raw(&value)?;
        if output.is_terminal() {
            output.raw(b"\n")?;
        }
        return Ok(Exit::Done);
    }
    let Some(entry) = reader.get_entry(&key)? else { return Err(absent(&key)) };
    let Entry { value, version, ttl, .. } = &entry;
    let version = version.to_string();
    match format {
        Format::Raw => {
            output.line(&version)?;
            output.raw(value)?;
            if output.is_terminal() {
                output.raw(b"\n")?;
            }
        }
        Format::Json | Format::Jsonl => output.json(&JsonEntry {
            key: &key,
            value: Some(Some(value)),
            version: Some(&version),
            ttl_ms: Some(left_ms(*ttl)),
            ..JsonEntry::default()
        })?,
        Format::Table => output.pairs(&[
            ("key", printable(&key)),
            ("value", printable(value)),
            ("bytes", human::count(value.len() as u64)),
            ("version", version),
            ("ttl", left_text(*ttl)),
        ])?,
    }
    Ok(Exit::Done)
}

/// Writes the value that a write gave back; `None` where there was none.
pub(crate) fn show_value(
    key: &[u8],
    value: Option<&[u8]>,
    format: Format,
    output: &mut Output,
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Jsonl => {
            output.json(&JsonEntry { key, value: Some(value), ..JsonEntry::default() })
        }
        Format::Table => {
            let shown = value.map_or_else(|| "(absent)".to_owned(), printable);
            output.pairs(&[("key", printable(key)), ("value", shown)])
        }
        Format::Raw => {
            let Some(value) = value else { return Ok(()) };
            output.raw(value)?;
            if output.is_terminal() { output.raw(b"\n") } else { Ok(()) }
        }
    }
}

/// The failure of every command that needs a key to be there.
pub(crate) fn absent(key: &[u8]) -> Failure {
    Failure::new(Exit::Absent, format!("the key {} is absent", human::key(key)))
}

/// The milliseconds left, rounded up so that a living key never shows 0.
pub(crate) fn left_ms(ttl: Ttl) -> Option<u64> {
    match ttl {
        Ttl::Never => None,
        Ttl::Left(left) => {
            let millis = left.as_nanos().div_ceil(Duration::from_millis(1).as_nanos());
            Some(u64::try_from(millis).unwrap_or(u64::MAX))
        }
    }
}

/// The time left for people.
pub(crate) fn left_text(ttl: Ttl) -> String {
    match left_ms(ttl) {
        None => "never".to_owned(),
        Some(millis) => format!("{} ms", human::count(millis)),
    }
}

/// Bytes in a table: text as it is where it fits on a line, else escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_key_never_shows_zero() {
        assert_eq!(left_ms(Ttl::Never), None);
        assert_eq!(left_ms(Ttl::Left(Duration::from_nanos(1))), Some(1));
        assert_eq!(left_ms(Ttl::Left(Duration::from_millis(1500))), Some(1500));
        assert_eq!(left_text(Ttl::Left(Duration::from_millis(1500))), "1,500 ms");
    }

    #[test]
    fn control_characters_never_reach_a_table() {
        assert_eq!(printable("für".as_bytes()), "für");
        assert_eq!(printable(b"a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(printable(b"\xff\0"), "\\xff\\x00");
    }
}
