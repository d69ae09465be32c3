//! The processes of the demo: readers that verify what they read, and writers that update.
//!
//! Each works until its input ends. For every line that comes in it reports what it did since the
//! last report; a thread waits for the lines, so that the work never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use store_client::{ReadError, Reader, Spec, Writer};

use super::records::{self, Package};
use crate::exit::Failure;
use crate::process;

/// Updates that a writer has ready before it begins, so that it spends its time in the store.
const ROUNDS: u64 = 8;

/// What a process of the demo is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Reads all records, again and again, and verifies them
    Reader,
    /// Updates all records, again and again
    Writer,
}

/// What happened since the last report.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Activity {
    /// Lookups of a reader, puts of a writer.
    pub(super) ops: u64,
    /// The longest time from the end of one to the end of the next.
    pub(super) longest_gap_ns: u64,
    /// Values that were not whole.
    pub(super) torn: u64,
    /// Keys that were not found although they are always there.
    pub(super) missing: u64,
    /// Lookups that found no quiet moment.
    pub(super) contended: u64,
}

impl Activity {
    /// Sums and maxima of several processes.
    pub(super) fn together(all: &[Activity]) -> Activity {
        all.iter().fold(Activity::default(), |sum, one| Activity {
            ops: sum.ops + one.ops,
            longest_gap_ns: sum.longest_gap_ns.max(one.longest_gap_ns),
            torn: sum.torn + one.torn,
            missing: sum.missing + one.missing,
            contended: sum.contended + one.contended,
        })
    }

    /// Lookups that were answered.
    pub(super) fn lookups(&self) -> u64 {
        self.ops - self.contended
    }

    pub(super) fn longest_gap(&self) -> Duration {
        Duration::from_nanos(self.longest_gap_ns)
    }
}

/// What the parent asks, noticed by a thread of its own.
#[derive(Default)]
struct Requests {
    reports: AtomicU64,
    ended: AtomicBool,
}

impl Requests {
    fn listen() -> Arc<Requests> {
        let requests = Arc::new(Requests::default());
        let listener = Arc::clone(&requests);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                match line {
                    Ok(_) => listener.reports.fetch_add(1, Ordering::Relaxed),
                    Err(_) => break,
                };
            }
            listener.ended.store(true, Ordering::Relaxed);
        });
        requests
    }
}

/// Works until the input ends.
pub(super) fn run(role: Role, round: u64, spec: &Spec) -> Result<(), Failure> {
    let packages = records::packages()?;
    match role {
        Role::Reader => {
            let reader = Reader::attach(spec)?;
            work(packages.len(), |turn, activity| read(&reader, &packages[turn], activity))
        }
        Role::Writer => {
            let writer = Writer::attach(spec)?;
            let rounds: Vec<Vec<String>> = (round..round + ROUNDS)
                .map(|round| packages.iter().map(|package| package.updated(round)).collect())
                .collect();
            let mut present = 0;
            work(packages.len(), |turn, _| {
                if turn == 0 {
                    present = (present + 1) % rounds.len();
                }
                writer.put(packages[turn].key.as_bytes(), rounds[present][turn].as_bytes())?;
                Ok(())
            })
        }
    }
}

/// Takes turns from 0 to `count`, over and over, and measures the time between them.
fn work(
    count: usize,
    mut step: impl FnMut(usize, &mut Activity) -> Result<(), Failure>,
) -> Result<(), Failure> {
    process::report("ready")?;
    let requests = Requests::listen();
    let (mut reported, mut activity, mut last) = (0, Activity::default(), Instant::now());
    for turn in (0..count).cycle() {
        step(turn, &mut activity)?;
        let now = Instant::now();
        activity.ops += 1;
        activity.longest_gap_ns = activity.longest_gap_ns.max((now - last).as_nanos() as u64);
        last = now;
        if requests.reports.load(Ordering::Relaxed) > reported {
            process::report(activity)?;
            reported += 1;
            // The next period begins here: writing the report is no pause of the store.
            (activity, last) = (Activity::default(), Instant::now());
        }
        if requests.ended.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

fn read(reader: &Reader, package: &Package, activity: &mut Activity) -> Result<(), Failure> {
    match reader.get_with(package.key.as_bytes(), |value| package.is_whole(value)) {
        Ok(Some(true)) => {}
        Ok(Some(false)) => activity.torn += 1,
        Ok(None) => activity.missing += 1,
        Err(ReadError::Contended { .. }) => activity.contended += 1,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
