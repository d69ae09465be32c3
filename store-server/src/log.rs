//! The log: lines for people, or one JSON object on each line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::values::Format;

/// Writes to standard output, and what went wrong to standard error. A log that nobody takes any
/// more does not end the upkeep.
#[derive(Debug)]
pub(crate) struct Log {
    format: Format,
    complaint: String,
}

impl Log {
    pub(crate) fn new(format: Format) -> Log {
        Log { format, complaint: String::new() }
    }

    /// Says that something happened: `text` for people, `fields` for programs.
    pub(crate) fn say(&self, event: &str, text: &str, fields: Value) {
        let _ = match self.format {
            Format::Human => writeln!(io::stdout(), "{text}"),
            Format::Json => writeln!(io::stdout(), "{}", Event { event, fields }.line()),
        };
    }

    /// Says what went wrong, once until something else does.
    pub(crate) fn complain(&mut self, text: &str) {
        if self.complaint != text {
            complain(text);
            text.clone_into(&mut self.complaint);
        }
    }
}

/// A line of the log for programs.
#[derive(Serialize)]
struct Event<'a> {
    event: &'a str,
    #[serde(flatten)]
    fields: Value,
}

impl Event<'_> {
    fn line(&self) -> String {
        // Nothing in it can't be written: its keys are text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Writes a line to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "store-server: {}", text.replace('\n', "; "));
}
