//! The process that reads all the time, and notes its longest pause between two answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use store_benches::records::verify;
use store_benches::stats::millis;
use store_benches::tally::Tally;
use store_benches::worker::{Handle, Parent};
use store_client::Reader;

use crate::Attached;
use crate::plan::Plan;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) tally: Tally,
    pub(crate) gap_max_ms: f64,
}

/// Reads on a thread of its own until the parent lets it go on.
pub(crate) fn run(store: Handle, parent: &mut Parent) -> Result<()> {
    let store = store.reader().context("attaching to read")?;
    let enough = Arc::new(AtomicBool::new(false));
    let (started, at_it) = mpsc::channel();
    let reading = thread::spawn({
        let enough = Arc::clone(&enough);
        move || read_until(&store, &enough, || started.send(()).is_ok())
    });
    at_it.recv().context("the first lookups")?;
    parent.tell(&Attached)?;
    parent.await_go()?;
    // Relaxed: it carries nothing but itself, joining orders the rest.
    enough.store(true, Ordering::Relaxed);
    let done = reading.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))?;
    parent.tell(&done)
}

fn read_until(store: &Reader, enough: &AtomicBool, started: impl Fn() -> bool) -> Done {
    let plan = Plan::new();
    let mut tally = Tally::default();
    let mut buf = [0_u8; 4096];
    let mut gap_max = Duration::ZERO;
    let mut answered: Option<Instant> = None;
    let mut announced = false;
    while !enough.load(Ordering::Relaxed) {
        for key in plan.standing() {
            let Some(found) = tally.answer(store.get_into(key, &mut buf)) else { continue };
            tally.reads += 1;
            match found.map(|len| verify(key, &buf[..len])) {
                None => tally.missed(key),
                Some(Err(torn)) => tally.torn(torn.to_string()),
                Some(Ok(_)) => {
                    let now = Instant::now();
                    let gap = answered.map_or(Duration::ZERO, |last| now - last);
                    gap_max = gap_max.max(gap);
                    answered = Some(now);
                }
            }
        }
        announced = announced || started();
    }
    Done { tally, gap_max_ms: millis(gap_max) }
}
