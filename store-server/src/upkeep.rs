//! The loop: look at the clients, sleep, until told to stop.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use store_client::Writer;

/// Writes a line to standard output. A log that nobody takes any more does not end the upkeep.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes a line to standard error, with as little claim to be read.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "store-server: {text}");
}

/// How soon a signal is noticed.
const STEP: Duration = Duration::from_millis(50);

/// A flag that SIGTERM and SIGINT set.
///
/// # Errors
/// Where a handler can't be installed.
pub(crate) fn stop_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Buckets that are swept each time: a million items in about a quarter of a minute at the usual
/// interval, in steps of a few milliseconds.
const BUCKETS_SWEPT: u64 = 16_384;

/// With more than this part of the extents free, nothing is cleaned.
const FREE_PART: u32 = 16;
/// Extents that are emptied each time.
const EXTENTS_CLEANED: u32 = 64;

/// Gives the memory of expired items back.
fn sweep(writer: &Writer) {
    match writer.sweep(BUCKETS_SWEPT) {
        Ok(0) => {}
        Ok(swept) => say(&format!("swept {swept} expired items")),
        Err(error) => complain(&error.to_string()),
    }
}

/// Empties extents while few are free, so that puts need not.
fn clean(writer: &Writer) {
    let short = writer.stats().is_ok_and(|stats| {
        stats.extents_uncommissioned == 0 && stats.extents_free < stats.extents / FREE_PART
    });
    if short && let Err(error) = writer.clean(EXTENTS_CLEANED) {
        complain(&error.to_string());
    }
}

/// Reaps dead clients and sweeps expired items each `interval` until `stop` is set or the store is
/// destroyed, and says what it did.
pub(crate) fn run(writer: &Writer, interval: Duration, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if writer.is_retired() {
            say("the store was removed");
            return;
        }
        match writer.reap() {
            Ok(reaped) if reaped.clients + reaped.guards > 0 => say(&format!(
                "reaped {} dead clients: {} guards repaired, {} extents handed on",
                reaped.clients, reaped.guards, reaped.extents
            )),
            Ok(_) => {}
            Err(error) => complain(&error.to_string()),
        }
        sweep(writer);
        clean(writer);
        let next = Instant::now() + interval;
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(STEP.min(next.saturating_duration_since(Instant::now())));
        }
    }
}
