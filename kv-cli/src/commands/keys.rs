//! `del`, `exists` and `ttl`: questions and deletions that need no value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;
use store_client::{Swapped, Version, Writer};

use super::Context;
use super::get::{absent, left_ms};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::keys::KeyArgs;
use crate::output::{Format, JsonEntry};

const DEL_HELP: &str = "\
Examples:
  kv-cli del greeting farewell
  kv-cli scan --prefix session: -0 | kv-cli del -0 -      all with a prefix
  kv-cli del --if-version 4711 job                        unless somebody else wrote it

Exits 1 when a key was absent, after deleting the others, or stands at another version.";

const EXISTS_HELP: &str = "\
Examples:
  kv-cli exists greeting && echo yes
  kv-cli --format jsonl exists a b c            which of them";

/// Delete keys
#[derive(Debug, clap::Args)]
#[command(after_help = DEL_HELP)]
pub(crate) struct DelArgs {
    #[command(flatten)]
    keys: KeyArgs,

    /// Delete the key, which must be a single one, only if it still stands at this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

/// Exit 0 if all keys are there, 1 if not
#[derive(Debug, clap::Args)]
#[command(after_help = EXISTS_HELP)]
pub(crate) struct ExistsArgs {
    #[command(flatten)]
    keys: KeyArgs,
}

/// Print how many milliseconds a key has left, or `never`
#[derive(Debug, clap::Args)]
pub(crate) struct TtlArgs {
    /// The key
    key: OsString,
}

#[derive(Serialize)]
struct Deleted<'a> {
    deleted: u64,
    absent: u64,
    /// The version that stands instead of the one that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a str>,
}

/// Keys that were not there: how many, and the first one for the message.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub(crate) count: u64,
    first: Option<Vec<u8>>,
}

impl Missing {
    pub(crate) fn note(&mut self, key: &[u8]) {
        self.count += 1;
        self.first.get_or_insert_with(|| key.to_vec());
    }

    /// `Done` if nothing was missing, else the failure that names the first key.
    pub(crate) fn exit(&self) -> Result<Exit, Failure> {
        match (&self.first, self.count) {
            (None, _) => Ok(Exit::Done),
            (Some(first), 1) => Err(absent(first)),
            (Some(first), count) => Err(Failure::new(
                Exit::Absent,
                format!("{} keys are absent, {} first", human::count(count), human::key(first)),
            )),
        }
    }
}

pub(crate) fn run_del(args: DelArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let writer = context.writer()?;
    if let Some(version) = args.if_version {
        let key = args.keys.single().ok_or_else(|| {
            Failure::usage("--if-version needs a single key, on the command line")
        })?;
        return delete_at(&writer, &key, version, format, context);
    }
    let (mut deleted, mut missing) = (0, Missing::default());
    args.keys.for_each_batch(writer.info()?.key_bytes_max, |keys| {
        for key in keys {
            match writer.delete(key)? {
                true => deleted += 1,
                false => missing.note(key),
            }
        }
        Ok(())
    })?;
    match format {
        Format::Raw => {}
        Format::Table => {
            let line = format!("{deleted} deleted, {} absent", missing.count);
            context.output.line(&line)?;
        }
        Format::Json | Format::Jsonl => {
            context.output.json(&Deleted { deleted, absent: missing.count, found: None })?;
        }
    }
    missing.exit()
}

fn delete_at(
    writer: &Writer,
    key: &[u8],
    version: Version,
    format: Format,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let (deleted, absent_keys, found) = match writer.delete_if(key, version)? {
        Swapped::Done => (1, 0, None),
        Swapped::Absent => (0, 1, None),
        Swapped::Changed(found) => (0, 0, Some(found.to_string())),
    };
    match format {
        Format::Raw => {}
        Format::Table => context.output.line(if deleted == 1 { "deleted" } else { "unchanged" })?,
        Format::Json | Format::Jsonl => {
            let found = found.as_deref();
            context.output.json(&Deleted { deleted, absent: absent_keys, found })?;
        }
    }
    match found {
        Some(found) => {
            let key = human::key(key);
            let text = format!(
                "the key {key} stands at version {found}, not {version}; nothing was changed"
            );
            Err(Failure::new(Exit::Absent, text))
        }
        None if deleted == 1 => Ok(Exit::Done),
        None => Err(absent(key)),
    }
}

pub(crate) fn run_exists(args: ExistsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let reader = context.reader()?;
    let output = &mut context.output;
    let (mut all, mut first) = (true, true);
    if format == Format::Json {
        output.raw(b"[")?;
    }
    args.keys.for_each_batch(reader.info()?.key_bytes_max, |keys| {
        for key in keys {
            let exists = reader.contains(key)?;
            all &= exists;
            let entry = JsonEntry { key, exists: Some(exists), ..JsonEntry::default() };
            match format {
                Format::Raw => {}
                Format::Table => {
                    let word = if exists { "there" } else { "absent" };
                    output.line(&format!("{word:<6}  {}", human::key(key)))?;
                }
                Format::Jsonl => output.json(&entry)?,
                Format::Json => {
                    output.raw(if first { b"" } else { b"," })?;
                    output.json_part(&entry)?;
                }
            }
            first = false;
        }
        Ok(())
    })?;
    if format == Format::Json {
        output.line("]")?;
    }
    // The code is the answer: no message, as with `test -e`.
    Ok(if all { Exit::Done } else { Exit::Absent })
}

pub(crate) fn run_ttl(args: TtlArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let key = args.key.into_vec();
    let Some(ttl) = context.reader()?.ttl(&key)? else { return Err(absent(&key)) };
    let left = left_ms(ttl);
    match format {
        Format::Raw | Format::Table => {
            let text = left.map_or_else(|| "never".to_owned(), |millis| millis.to_string());
            context.output.line(&text)?;
        }
        Format::Json | Format::Jsonl => {
            let entry = JsonEntry { key: &key, ttl_ms: Some(left), ..JsonEntry::default() };
            context.output.json(&entry)?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_counted_and_the_first_named() {
        let mut missing = Missing::default();
        assert_eq!(missing.exit().ok(), Some(Exit::Done));
        missing.note(b"one");
        let line = missing.exit().expect_err("absent").line();
        assert_eq!(line.as_deref(), Some("the key \"one\" is absent"));
        missing.note(b"two");
        let failure = missing.exit().expect_err("absent");
        assert_eq!(failure.exit, Exit::Absent);
        assert_eq!(failure.line().as_deref(), Some("2 keys are absent, \"one\" first"));
    }
}
