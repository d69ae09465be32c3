//! What a cache is to this program, and a trace played to one.

use anyhow::Result;
use indicatif::ProgressBar;

use crate::traces::Trace;

/// How often it is asked how many items it has.
const REQUESTS_BETWEEN_LOOKS: usize = 1024;

/// A cache of items that count as one each.
pub(crate) trait Subject {
    /// Asks for a key: `true` is a hit. Before it returns `false`, the key has been put.
    fn request(&mut self, key: u32) -> Result<bool>;

    /// Items that are in it now.
    fn items(&self) -> Result<u64>;
}

/// What a subject made of a trace.
pub(crate) struct Played {
    pub(crate) hit_ratio: f64,
    /// The most items it was seen with.
    pub(crate) items_max: u64,
}

pub(crate) fn play(trace: &Trace, subject: &mut dyn Subject, bar: &ProgressBar) -> Result<Played> {
    let (mut hits, mut items_max) = (0_u64, 0);
    for requests in trace.requests.chunks(REQUESTS_BETWEEN_LOOKS) {
        for key in requests {
            hits += u64::from(subject.request(*key)?);
        }
        items_max = items_max.max(subject.items()?);
        bar.inc(requests.len() as u64);
    }
    Ok(Played { hit_ratio: hits as f64 / trace.requests.len() as f64, items_max })
}
