//! What it takes to attach a store of 1 GiB.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use store_benches::stats::median;
use store_client::{Reader, Writer};

use crate::engine::{Engine, Room, Setting};
use crate::engines::{Cistern, spec_of};
use crate::place::Place;
use crate::workload::key_of;

const GIB: u64 = 1 << 30;
const ITEMS: u32 = 100_000;

/// Medians, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Attached {
    pub(crate) store_bytes: u64,
    pub(crate) reader_us: f64,
    /// With the first lookup, which takes a page or two.
    pub(crate) reader_and_get_us: f64,
    pub(crate) writer_us: f64,
}

/// Attaches and detaches so often.
pub(crate) fn measure(place: &Place, times: u32) -> Result<Attached> {
    let setting = Setting {
        name: place.name("attach"),
        folder: place.folder().to_owned(),
        items: ITEMS,
        value_bytes: 100,
        room: Room::Bytes(GIB),
        huge_pages: false,
    };
    let mut made = Cistern::create(&setting)?;
    made.load(0..setting.items, setting.value_bytes)?;
    let store_bytes = made.memory()?.bytes;
    // Nobody in this process has it any more: each attach is a whole one.
    drop(made);
    let spec = spec_of(&setting)?;
    let (mut readers, mut lookups, mut writers) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = [0; 100];
    for time in 0..times {
        let start = Instant::now();
        let reader = Reader::attach(&spec)?;
        readers.push(start.elapsed().as_secs_f64() * 1e6);
        reader.get_into(&key_of(time % ITEMS), &mut buffer)?.context("an item that was put")?;
        lookups.push(start.elapsed().as_secs_f64() * 1e6);
        drop(reader);
        let start = Instant::now();
        let writer = Writer::attach(&spec)?;
        writers.push(start.elapsed().as_secs_f64() * 1e6);
        drop(writer);
    }
    store_client::destroy(&spec)?;
    Ok(Attached {
        store_bytes,
        reader_us: median(&readers),
        reader_and_get_us: median(&lookups),
        writer_us: median(&writers),
    })
}
