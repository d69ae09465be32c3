//! `cas`: a write that happens only if nobody else wrote since the version was read.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;
use store_client::{Swapped, Version};

use super::Context;
use super::put::{TtlOption, value_of, write_format};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli get --format json job              shows the version
  kv-cli cas job 4711 'taken by me'

Exits 1 when the key stands at another version (and says at which) or is absent.";

/// Store a value only if the key still stands at a version
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CasArgs {
    /// The key
    key: OsString,

    /// The version, as `get --with-version` or `get --format json` shows it
    version: Version,

    /// The value; `-` reads standard input to its end
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    value: OsString,

    #[command(flatten)]
    ttl: TtlOption,
}

#[derive(Serialize)]
struct Outcome {
    swapped: bool,
    /// The version that stands instead; null when the key is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Option<String>>,
}

pub(crate) fn run(args: CasArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = write_format(context)?;
    let writer = context.writer()?;
    let key = args.key.into_vec();
    let value = value_of(args.value, &writer)?;
    let swapped = writer.compare_and_swap(&key, args.version, &value, &args.ttl.options())?;
    let (found, why) = match swapped {
        Swapped::Done => (None, None),
        Swapped::Changed(found) => {
            let why = format!("stands at version {found}, not {}", args.version);
            (Some(Some(found.to_string())), Some(why))
        }
        Swapped::Absent => (Some(None), Some("is absent".to_owned())),
    };
    match format {
        Format::Raw => {}
        Format::Table => {
            let word = if why.is_none() { "swapped" } else { "unchanged" };
            context.output.line(word)?;
        }
        Format::Json | Format::Jsonl => {
            context.output.json(&Outcome { swapped: why.is_none(), found })?;
        }
    }
    match why {
        None => Ok(Exit::Done),
        Some(why) => {
            let text = format!("the key {} {why}; nothing was changed", human::key(&key));
            Err(Failure::new(Exit::Absent, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_tells_changed_from_absent() {
        let json = |outcome: Outcome| serde_json::to_string(&outcome).expect("serialises");
        assert_eq!(json(Outcome { swapped: true, found: None }), r#"{"swapped":true}"#);
        let absent = Outcome { swapped: false, found: Some(None) };
        assert_eq!(json(absent), r#"{"swapped":false,"found":null}"#);
        let changed = Outcome { swapped: false, found: Some(Some("7".to_owned())) };
        assert_eq!(json(changed), r#"{"swapped":false,"found":"7"}"#);
    }
}
