//! A row: one trace at one capacity, played to everybody.

use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;

use store_benches::scratch::StoreArgs;
use store_benches::stats::rounded;

use crate::fifo::Fifo;
use crate::lru::Lru;
use crate::s3_fifo::S3Fifo;
use crate::subject::{Played, Subject, play};
use crate::subject_cistern::{Marks, first_guess, fitted};
use crate::subject_moka::Moka;
use crate::subject_quick_cache::QuickCache;
use crate::traces::Trace;

/// Players of a row.
pub(crate) const PLAYERS: u64 = 8;

/// Hit ratios, and how many items Cistern had for them.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) trace: &'static str,
    pub(crate) capacity: u32,
    pub(crate) fifo: f64,
    pub(crate) lru: f64,
    pub(crate) s3fifo: f64,
    pub(crate) moka: f64,
    pub(crate) quick_cache: f64,
    #[serde(flatten)]
    pub(crate) cistern: Cistern,
}

/// What Cistern made of it.
#[derive(Serialize)]
pub(crate) struct Cistern {
    pub(crate) marks: f64,
    pub(crate) sampled: f64,
    pub(crate) unmarked: f64,
    /// The most items it was seen with in any of the three.
    pub(crate) items_max: u64,
}

/// What all rows share.
pub(crate) struct Course<'a> {
    pub(crate) store: StoreArgs,
    pub(crate) seed: u64,
    pub(crate) bar: &'a ProgressBar,
}

impl Course<'_> {
    pub(crate) fn row(&self, name: &'static str, trace: &Trace, capacity: u32) -> Result<Row> {
        let keys = trace.keys;
        let ratio = |subject: &mut dyn Subject| anyhow::Ok(self.play(trace, subject)?.hit_ratio);
        Ok(Row {
            trace: name,
            capacity,
            fifo: ratio(&mut Fifo::new(capacity, keys))?,
            lru: ratio(&mut Lru::new(capacity, keys))?,
            s3fifo: ratio(&mut S3Fifo::new(capacity, keys))?,
            moka: ratio(&mut Moka::new(capacity, self.seed))?,
            quick_cache: ratio(&mut QuickCache::new(capacity, self.seed)?)?,
            cistern: self.cistern(trace, capacity)?,
        })
    }

    fn cistern(&self, trace: &Trace, capacity: u32) -> Result<Cistern> {
        let mut bytes = first_guess(capacity);
        let mut played = |marks| {
            let mut plays = 0;
            fitted((self.store, marks, capacity), &mut bytes, |subject| {
                plays += 1;
                if plays > 1 {
                    self.bar.inc_length(trace.requests.len() as u64);
                }
                self.play(trace, subject)
            })
        };
        let (marks, sampled, unmarked) =
            (played(Marks::Full)?, played(Marks::Sampled)?, played(Marks::None)?);
        Ok(Cistern {
            marks: marks.hit_ratio,
            sampled: sampled.hit_ratio,
            unmarked: unmarked.hit_ratio,
            items_max: marks.items_max.max(sampled.items_max).max(unmarked.items_max),
        })
    }

    fn play(&self, trace: &Trace, subject: &mut dyn Subject) -> Result<Played> {
        let played = play(trace, subject, self.bar)?;
        Ok(Played { hit_ratio: rounded(played.hit_ratio, 4), ..played })
    }
}
