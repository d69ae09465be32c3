//! The ways of looking a key up, each a plain loop over the same keys.
//!
//! Each counts the bytes that it was given, which both keeps the work from being optimised away
//! and shows that every lookup was answered as it must be.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};

use store_benches::stats::nanos_per;

use store_benches::records::Key;

use crate::fixture::{Fixture, Probes, VALUE_BYTES};

/// Keys in one `get_many`.
pub(crate) const BATCH: usize = 32;

/// In the order of [`crate::Engine`].
pub(crate) const ENGINES: [Timed; 8] = [
    Timed { name: "get", hits: true, look_up: get },
    Timed { name: "hashbrown", hits: true, look_up: hashbrown },
    Timed { name: "get_many", hits: true, look_up: get_many },
    Timed { name: "get_alloc", hits: true, look_up: get_alloc },
    Timed { name: "miss", hits: false, look_up: get },
    Timed { name: "hashbrown_miss", hits: false, look_up: hashbrown },
    Timed { name: "get_overlapped", hits: true, look_up: get_overlapped },
    Timed { name: "hashbrown_overlapped", hits: true, look_up: hashbrown_overlapped },
];

pub(crate) struct Timed {
    pub(crate) name: &'static str,
    /// Whether it asks for keys that are there.
    hits: bool,
    look_up: fn(&Fixture, &[Key]) -> Result<usize>,
}

impl Timed {
    /// Nanoseconds for each lookup.
    pub(crate) fn time(&self, fixture: &Fixture, probes: &Probes) -> Result<f64> {
        let keys = if self.hits { &probes.present } else { &probes.absent };
        let start = Instant::now();
        let bytes = (self.look_up)(fixture, keys)?;
        let elapsed = start.elapsed();
        let expected = if self.hits { keys.len() * VALUE_BYTES } else { 0 };
        ensure!(bytes == expected, "{} found {bytes} bytes of {expected}", self.name);
        Ok(nanos_per(elapsed, keys.len()))
    }
}

/// One lookup after the other: which key comes next is known only when the last value is there, as
/// where a program works with what it looked up. `nothing` is 0, which the compiler must not know.
#[inline(never)]
fn get(fixture: &Fixture, keys: &[Key]) -> Result<usize> {
    let (mut buf, mut bytes, nothing) = ([0_u8; VALUE_BYTES], 0, black_box(0_u8));
    for number in 0..keys.len() {
        let key = &keys[number ^ usize::from(buf[VALUE_BYTES - 1] & nothing)];
        if let Some(len) = fixture.reader.get_into(key, &mut buf)? {
            bytes += len;
            black_box(&mut buf);
        }
    }
    Ok(bytes)
}

/// As [`get`].
#[inline(never)]
fn hashbrown(fixture: &Fixture, keys: &[Key]) -> Result<usize> {
    let (mut buf, mut bytes, nothing) = ([0_u8; VALUE_BYTES], 0, black_box(0_u8));
    for number in 0..keys.len() {
        let key = &keys[number ^ usize::from(buf[VALUE_BYTES - 1] & nothing)];
        if let Some(value) = fixture.peer.get(key.as_slice()) {
            buf[..value.len()].copy_from_slice(value);
            bytes += value.len();
            black_box(&mut buf);
        }
    }
    Ok(bytes)
}

/// Lookups that don't depend on each other: the processor overlaps as many as its window of
/// instructions holds.
#[inline(never)]
fn get_overlapped(fixture: &Fixture, keys: &[Key]) -> Result<usize> {
    let (mut buf, mut bytes) = ([0_u8; VALUE_BYTES], 0);
    for key in keys {
        if let Some(len) = fixture.reader.get_into(key, &mut buf)? {
            bytes += len;
            black_box(&mut buf);
        }
    }
    Ok(bytes)
}

/// As [`get_overlapped`].
#[inline(never)]
fn hashbrown_overlapped(fixture: &Fixture, keys: &[Key]) -> Result<usize> {
    let (mut buf, mut bytes) = ([0_u8; VALUE_BYTES], 0);
    for key in keys {
        if let Some(value) = fixture.peer.get(key.as_slice()) {
            buf[..value.len()].copy_from_slice(value);
            bytes += value.len();
            black_box(&mut buf);
        }
    }
    Ok(bytes)
}

/// What the closure is given is a private copy already; it is looked at, not copied once more.
#[inline(never)]
fn get_many(fixture: &Fixture, keys: &[Key]) -> Result<usize> {
    let mut bytes = 0;
    for batch in keys.chunks(BATCH) {
        fixture.reader.get_many_with(batch, |_, value| {
            if let Some(value) = black_box(value) {
                bytes += value.len();
            }
        })?;
    }
    Ok(bytes)
}

#[inline(never)]
fn get_alloc(fixture: &Fixture, keys: &[Key]) -> Result<usize> {
    let mut bytes = 0;
    for key in keys {
        if let Some(value) = fixture.reader.get(key)? {
            bytes += black_box(value).len();
        }
    }
    Ok(bytes)
}
