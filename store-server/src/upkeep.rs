//! A round of upkeep: reap the dead, sweep the expired, clean ahead of need.

use std::time::{Duration, Instant};

use serde_json::json;
use store_client::{WriteError, Writer};

use crate::log::Log;

/// Buckets that are swept each time: a million items in about a quarter of a minute at the usual
/// interval, in steps of a few milliseconds.
const BUCKETS_SWEPT: u64 = 16_384;

/// With more than this part of the extents free, nothing is cleaned.
const FREE_PART: u32 = 16;
/// Extents that are emptied each time.
const EXTENTS_CLEANED: u32 = 64;

/// How often the log tells of sweeping and cleaning, which happen all the time.
const SUMMARY: Duration = Duration::from_secs(60);

/// What was done since the log told of it.
#[derive(Debug)]
pub(crate) struct Upkeep {
    swept: u64,
    emptied: u64,
    since: Instant,
}

impl Upkeep {
    pub(crate) fn new() -> Upkeep {
        Upkeep { swept: 0, emptied: 0, since: Instant::now() }
    }

    /// One round.
    pub(crate) fn round(&mut self, writer: &Writer, log: &mut Log) {
        if let Err(error) = self.work(writer, log) {
            log.complain(&error.to_string());
        }
        if self.since.elapsed() >= SUMMARY {
            self.tell(log);
        }
    }

    fn work(&mut self, writer: &Writer, log: &Log) -> Result<(), WriteError> {
        reap(writer, log)?;
        self.swept += writer.sweep(BUCKETS_SWEPT)?;
        self.emptied += u64::from(clean(writer)?);
        Ok(())
    }

    /// Tells what was done, if anything was.
    pub(crate) fn tell(&mut self, log: &Log) {
        if self.swept + self.emptied > 0 {
            let text = format!(
                "swept {} expired items and emptied {} extents in {} s",
                self.swept,
                self.emptied,
                self.since.elapsed().as_secs()
            );
            log.say("upkeep", &text, json!({ "swept": self.swept, "emptied": self.emptied }));
        }
        *self = Upkeep::new();
    }
}

fn reap(writer: &Writer, log: &Log) -> Result<(), WriteError> {
    let reaped = writer.reap()?;
    if reaped.clients + reaped.guards > 0 {
        let text = format!(
            "reaped {} dead clients: {} guards repaired, {} extents handed on",
            reaped.clients, reaped.guards, reaped.extents
        );
        let fields = json!({
            "clients": reaped.clients, "guards": reaped.guards, "extents": reaped.extents
        });
        log.say("reaped", &text, fields);
    }
    Ok(())
}

/// Empties extents while few are free, so that puts need not; how many.
fn clean(writer: &Writer) -> Result<u32, WriteError> {
    let stats = writer.stats()?;
    let short = stats.extents_uncommissioned == 0 && stats.extents_free < stats.extents / FREE_PART;
    if short { writer.clean(EXTENTS_CLEANED) } else { Ok(0) }
}
