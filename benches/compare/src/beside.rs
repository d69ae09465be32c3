//! Lookups of one process, each under the clock, while another one writes; and while the other only reads.

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use store_benches::stats::median_ratio;

use crate::engine::{Room, Setting};
use crate::engines::Kind;
use crate::place::Place;
use crate::process::{EngineProcess, Part, together};
use crate::scaling::Windows;
use crate::side::Quantiles;
use crate::work::Work;

/// What the other process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scene {
    /// It overwrites as fast as it can.
    Puts,
    /// It puts keys that never were, and the index grows.
    Growth,
    /// It overwrites with values of another size in a store that is nearly full, so that extents are emptied
    /// all the time.
    Cleaning,
}

impl Scene {
    pub(crate) const ALL: [Self; 3] = [Self::Puts, Self::Growth, Self::Cleaning];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Puts => "another process puts",
            Self::Growth => "the index grows",
            Self::Cleaning => "extents are cleaned",
        }
    }

    fn work(self) -> Work {
        match self {
            Self::Puts => Work::Put,
            Self::Cleaning => Work::Resize,
            Self::Growth => Work::Insert,
        }
    }
}

/// What was seen of one.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    pub(crate) scene: Scene,
    /// Lookups beside a process that writes, by round.
    pub(crate) writing: Vec<Quantiles>,
    /// Beside one that reads.
    pub(crate) reading: Vec<Quantiles>,
    /// Writes per second of the other process, by round.
    pub(crate) writes_per_s: Vec<f64>,
    /// Buckets that were made meanwhile.
    pub(crate) buckets: u64,
    /// Bytes that cleaning moved, and extents that it emptied.
    pub(crate) moved_bytes: u64,
    pub(crate) emptied: u64,
}

impl Beside {
    /// p99.9 beside one that writes, of that beside one that reads.
    pub(crate) fn ratio(&self) -> f64 {
        let of = |rounds: &[Quantiles]| -> Vec<f64> {
            rounds.iter().map(|round| round.p999_ns as f64).collect()
        };
        median_ratio(&of(&self.writing), &of(&self.reading))
    }
}

/// Measures one.
pub(crate) fn measure(
    scene: Scene,
    place: &Place,
    items: u32,
    windows: &Windows,
    bar: &ProgressBar,
) -> Result<Beside> {
    bar.set_message(format!("lookups while {}", scene.name()));
    let room = match scene {
        Scene::Puts => Room::Live(70),
        // What a process may insert in so many windows, at three million in a second.
        Scene::Growth => {
            let seconds = windows.length.as_secs_f64() * f64::from(windows.rounds + 1);
            Room::Grows(items + (seconds * 3e6) as u32)
        }
        Scene::Cleaning => Room::Live(88),
    };
    let setting = Setting {
        name: place.name(&format!("beside-{scene:?}").to_lowercase()),
        folder: place.folder().to_owned(),
        items,
        value_bytes: 100,
        room,
        huge_pages: false,
    };
    let mut other = EngineProcess::load(Kind::Cistern, &setting)?;
    let mut reader = other.another()?;
    reader.verify(None)?;
    let first = other.figures()?;
    let mut seen = Beside {
        scene,
        writing: Vec::new(),
        reading: Vec::new(),
        writes_per_s: Vec::new(),
        buckets: 0,
        moved_bytes: 0,
        emptied: 0,
    };
    for round in 0..windows.rounds {
        // Whoever begins has what the other left.
        for writes in [round % 2 == 0, round % 2 != 0] {
            let looks = Part { work: Work::Get, timed: true, threads: 1 };
            let work = if writes { scene.work() } else { Work::Get };
            let does = Part { work, timed: false, threads: 1 };
            let seed = windows.seed + u64::from(round) * 100;
            let worked =
                together(&mut [(&mut reader, looks), (&mut other, does)], seed, windows.length)?;
            if writes {
                seen.writing.push(worked[0].quantiles);
                seen.writes_per_s.push(worked[1].per_s());
            } else {
                seen.reading.push(worked[0].quantiles);
            }
            bar.inc(1);
        }
    }
    let last = other.figures()?;
    seen.buckets = last.buckets - first.buckets;
    seen.moved_bytes = last.moved_bytes - first.moved_bytes;
    seen.emptied = last.emptied - first.emptied;
    ensure!(last.violations == 0, "{} invariants are broken", last.violations);
    match scene {
        Scene::Growth => ensure!(seen.buckets > 0, "the index did not grow"),
        Scene::Cleaning => ensure!(seen.emptied > 0, "nothing was cleaned"),
        Scene::Puts => {}
    }
    reader.verify(None)?;
    reader.quit()?;
    other.quit()?;
    Ok(seen)
}
