//! What came of a load: how many entries were stored, replaced and refused, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Refusal;
use crate::human;

/// Line numbers kept for each reason. The count goes on behind them.
const LINES_KEPT: usize = 20;

/// Counts of one load.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Keys that were not there before.
    pub(super) stored: u64,
    /// Keys whose value was overwritten.
    pub(super) replaced: u64,
    reasons: BTreeMap<&'static str, Reason>,
    bytes: u64,
    time: Duration,
}

#[derive(Debug, Default)]
struct Reason {
    count: u64,
    lines: Vec<u64>,
    /// What was particular to the first of them.
    example: Option<String>,
}

#[derive(Serialize)]
pub(super) struct JsonSummary<'a> {
    stored: u64,
    replaced: u64,
    refused: u64,
    reasons: Vec<JsonReason<'a>>,
    bytes: u64,
    seconds: f64,
    entries_per_second: u64,
}

#[derive(Serialize)]
struct JsonReason<'a> {
    reason: &'a str,
    count: u64,
    lines: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<&'a str>,
}

impl Summary {
    pub(super) fn refuse(&mut self, line: u64, refusal: Refusal) {
        let reason = self.reasons.entry(refusal.reason).or_default();
        reason.count += 1;
        if reason.lines.len() < LINES_KEPT {
            reason.lines.push(line);
        }
        if reason.example.is_none() {
            reason.example = refusal.detail;
        }
    }

    pub(super) fn finish(&mut self, bytes: u64, time: Duration) {
        self.bytes = bytes;
        self.time = time;
    }

    pub(super) fn refused(&self) -> u64 {
        self.reasons.values().map(|reason| reason.count).sum()
    }

    /// Entries that are in the store now.
    pub(super) fn accepted(&self) -> u64 {
        self.stored + self.replaced
    }

    /// The summary for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} stored, {} replaced, {} refused: {} in {}, {} entries/s, {}/s",
            human::count(self.stored),
            human::count(self.replaced),
            human::count(self.refused()),
            human::size(self.bytes),
            human::elapsed(self.time),
            human::count(human::per_second(self.accepted(), self.time)),
            human::size(human::per_second(self.bytes, self.time))
        )];
        for (name, reason) in &self.reasons {
            let numbers: Vec<String> = reason.lines.iter().map(u64::to_string).collect();
            let word = if reason.count == 1 { "line" } else { "lines" };
            let more = reason.count - reason.lines.len() as u64;
            let more = match more {
                0 => String::new(),
                more => format!(" and {} more", human::count(more)),
            };
            let example = match &reason.example {
                Some(example) => format!("; the first: {example}"),
                None => String::new(),
            };
            lines.push(format!(
                "  {} refused, {name}: {word} {}{more}{example}",
                human::count(reason.count),
                numbers.join(", ")
            ));
        }
        lines
    }

    /// The summary for programs.
    pub(super) fn json(&self) -> JsonSummary<'_> {
        let reasons = self.reasons.iter().map(|(reason, found)| JsonReason {
            reason,
            count: found.count,
            lines: &found.lines,
            example: found.example.as_deref(),
        });
        JsonSummary {
            stored: self.stored,
            replaced: self.replaced,
            refused: self.refused(),
            reasons: reasons.collect(),
            bytes: self.bytes,
            seconds: self.time.as_secs_f64(),
            entries_per_second: human::per_second(self.accepted(), self.time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason_and_their_lines_kept() {
        let mut summary = Summary { stored: 7, replaced: 2, ..Summary::default() };
        for line in 1..=25 {
            summary.refuse(line, Refusal::with("no JSON object", format!("column {line}")));
        }
        summary.refuse(90, Refusal::new("there is no key"));
        summary.finish(1 << 20, Duration::from_secs(2));
        assert_eq!(summary.refused(), 26);
        assert_eq!(summary.accepted(), 9);
        let lines = summary.lines();
        assert!(lines[0].starts_with("7 stored, 2 replaced, 26 refused"), "{lines:?}");
        assert!(lines[1].contains("lines 1, 2, 3,") && lines[1].contains("20 and 5 more"));
        assert!(lines[1].ends_with("the first: column 1"));
        assert!(lines[2].ends_with("line 90"), "{lines:?}");
        let json = serde_json::to_value(summary.json()).expect("serialises");
        assert_eq!(json["refused"], 26);
        assert_eq!(json["reasons"][0]["count"], 25);
        assert_eq!(json["reasons"][1]["lines"][0], 90);
    }
}
