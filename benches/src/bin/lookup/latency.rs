//! Lookups timed one by one. Reading the clock is in each figure, and given beside them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use store_benches::stats::Latencies;

use crate::fixture::{Fixture, Probes, VALUE_BYTES};

/// Lookups of one engine before the other has its turn.
const TURN: usize = 4096;

#[derive(Serialize)]
pub(crate) struct Figures {
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    peer_p50_ns: u64,
    peer_p99_ns: u64,
    peer_p999_ns: u64,
    clock_ns: u64,
}

pub(crate) fn measure(fixture: &Fixture, probes: &Probes) -> Result<Figures> {
    let (mut ours, mut peer) = (Latencies::new(), Latencies::new());
    let mut clock = Latencies::new();
    let mut buf = [0_u8; VALUE_BYTES];
    // Our half of the keys and the peer's are different, or the second would find warm caches.
    for turn in probes.present.chunks(2 * TURN) {
        let (for_ours, for_peer) = turn.split_at(turn.len() / 2);
        for key in for_ours {
            let start = Instant::now();
            let found = fixture.reader.get_into(key, &mut buf);
            ours.record(start.elapsed());
            assert_eq!(found?, Some(VALUE_BYTES), "a key that was put");
            black_box(&mut buf);
        }
        for key in for_peer {
            let start = Instant::now();
            let found = fixture.peer.get(key.as_slice()).map(|value| {
                buf[..value.len()].copy_from_slice(value);
                value.len()
            });
            peer.record(start.elapsed());
            assert_eq!(found, Some(VALUE_BYTES), "a key that was put");
            black_box(&mut buf);
        }
    }
    for _ in 0..100_000 {
        let start = Instant::now();
        clock.record(start.elapsed().max(Duration::from_nanos(1)));
    }
    Ok(Figures {
        p50_ns: ours.quantile_ns(0.5),
        p99_ns: ours.quantile_ns(0.99),
        p999_ns: ours.quantile_ns(0.999),
        peer_p50_ns: peer.quantile_ns(0.5),
        peer_p99_ns: peer.quantile_ns(0.99),
        peer_p999_ns: peer.quantile_ns(0.999),
        clock_ns: clock.quantile_ns(0.5),
    })
}
