//! Values of one size: puts that evict beside puts into a cache that has room, and into a store of
//! store mode that has room, in turns.

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use store_benches::scratch::{Backing, StoreArgs};
use store_benches::stats::{Latencies, median, median_ratio, rounded};
use store_client::{CreateOptions, GuardKind, Mode, Stats};

use crate::side::Side;

/// Bytes of an item beside its value: key, header, its part of the index, and some more.
const ITEM_BYTES_MORE: u64 = 16 + 40;
/// Of the items that a store has room for so many percent are put in a turn: the one with room must
/// take them all.
const PUT_PERCENT: u32 = 60;
/// The store that evicts is filled so many times over before anything is counted.
const FILLED: u32 = 2;

/// The medians of the rounds. Quotients are made in each round.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) value_bytes: usize,
    items: u64,
    puts_per_turn: u32,
    /// Items that went for each that was put.
    pub(crate) evicted_per_put: f64,
    moved_per_put_byte: f64,
    pub(crate) put_ns: f64,
    /// Into a cache that has room.
    pub(crate) with_room_ns: f64,
    /// Into a store of store mode that has room.
    pub(crate) store_mode_ns: f64,
    /// The same before any page was touched; once.
    with_room_fresh_ns: f64,
    pub(crate) cost_ratio: f64,
    pub(crate) store_mode_ratio: f64,
    /// The least and the most of the rounds.
    cost_ratio_range: [f64; 2],
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) p999_ns: f64,
    pub(crate) p9999_ns: f64,
    pub(crate) max_ns: f64,
    pub(crate) p999_over_median: f64,
    p999_over_median_range: [f64; 2],
    with_room_p50_ns: f64,
    with_room_p99_ns: f64,
    with_room_p999_ns: f64,
    with_room_p9999_ns: f64,
    with_room_max_ns: f64,
    pub(crate) lost: u64,
    pub(crate) violations: u64,
}

/// What the rounds gave, each a column.
#[derive(Default)]
struct Rounds {
    evicting: Vec<f64>,
    with_room: Vec<f64>,
    store_mode: Vec<f64>,
    evicting_quantiles: Vec<[f64; 5]>,
    with_room_quantiles: Vec<[f64; 5]>,
}

pub(crate) fn run(
    store: StoreArgs,
    size: u64,
    value_bytes: usize,
    rounds: u32,
    bar: &ProgressBar,
) -> Result<Row> {
    let items = u32::try_from(size / (value_bytes as u64 + ITEM_BYTES_MORE))?;
    let puts = items / 100 * PUT_PERCENT;
    let options = CreateOptions::new(size).items(items.into());
    let cache = options.clone().mode(Mode::Cache);
    let mut evicting = Side::create("eviction", store, cache.clone(), value_bytes)?;
    let mut with_room = Side::create("eviction-room", beside(store), cache.clone(), value_bytes)?;
    let mut store_mode = Side::create("eviction-store", in_memory(), options, value_bytes)?;

    evicting.put(items * FILLED)?;
    // Touches every page that the turns will.
    let fresh = with_room.put(puts)?;
    with_room.clear()?;
    store_mode.put(puts)?;
    store_mode.clear()?;
    let first = evicting.writer().stats()?;
    let (mut taken, mut lost) = (Rounds::default(), 0);
    for round in 0..rounds {
        // Whoever begins has what the other left in the processor's caches.
        for evicts in [round % 2 == 0, round % 2 != 0] {
            let (side, costs, quantiles) = if evicts {
                (&mut evicting, &mut taken.evicting, &mut taken.evicting_quantiles)
            } else {
                (&mut with_room, &mut taken.with_room, &mut taken.with_room_quantiles)
            };
            costs.push(side.put(puts)?);
            if !evicts {
                side.clear()?;
            }
            quantiles.push(quantiles_of(&side.put_timed(puts)?));
            lost += side.lost()?;
            if !evicts {
                side.clear()?;
            }
        }
        // Quotients of it are told, and nothing is judged by it: so it is timed as a whole only.
        taken.store_mode.push(store_mode.put(puts)?);
        lost += store_mode.lost()?;
        store_mode.clear()?;
        bar.inc(1);
    }
    let last = evicting.writer().stats()?;
    let went = evicted(&with_room.writer().stats()?)?;
    ensure!(went == 0, "{went} items went from the cache that has room");
    let put = f64::from(puts) * f64::from(rounds) * 2.0;
    let put_bytes = put * (value_bytes + 16) as f64;
    let [p50, p99, p999, p9999, max] = medians(&taken.evicting_quantiles);
    let [with_p50, with_p99, with_p999, with_p9999, with_max] = medians(&taken.with_room_quantiles);
    let costs: Vec<f64> =
        taken.evicting.iter().zip(&taken.with_room).map(|(ours, room)| ours / room).collect();
    let spikes: Vec<f64> =
        taken.evicting_quantiles.iter().map(|[p50, _, p999, ..]| p999 / p50).collect();
    Ok(Row {
        value_bytes,
        items: last.items,
        puts_per_turn: puts,
        evicted_per_put: rounded((evicted(&last)? - evicted(&first)?) as f64 / put, 3),
        moved_per_put_byte: rounded((last.moved_bytes - first.moved_bytes) as f64 / put_bytes, 3),
        put_ns: rounded(median(&taken.evicting), 1),
        with_room_ns: rounded(median(&taken.with_room), 1),
        store_mode_ns: rounded(median(&taken.store_mode), 1),
        with_room_fresh_ns: rounded(fresh, 1),
        cost_ratio: rounded(median_ratio(&taken.evicting, &taken.with_room), 3),
        store_mode_ratio: rounded(median_ratio(&taken.evicting, &taken.store_mode), 3),
        cost_ratio_range: range(&costs),
        p50_ns: p50,
        p99_ns: p99,
        p999_ns: p999,
        p9999_ns: p9999,
        max_ns: max,
        p999_over_median: rounded(median(&spikes), 2),
        p999_over_median_range: range(&spikes),
        with_room_p50_ns: with_p50,
        with_room_p99_ns: with_p99,
        with_room_p999_ns: with_p999,
        with_room_p9999_ns: with_p9999,
        with_room_max_ns: with_max,
        lost,
        violations: [evicting, with_room, store_mode]
            .iter()
            .map(|side| side.writer().check(|_, _| {}).violations_total)
            .sum(),
    })
}

/// Where the store that has room is: a process has one key only.
fn beside(args: StoreArgs) -> StoreArgs {
    let backing = match args.backing {
        Backing::SysvKey => Backing::Sysv,
        other => other,
    };
    StoreArgs { backing, ..args }
}

/// Where the store of store mode is: which memory it is makes no difference to a put.
fn in_memory() -> StoreArgs {
    StoreArgs { backing: Backing::Posix, guard: GuardKind::Futex }
}

fn evicted(stats: &Stats) -> Result<u64> {
    let eviction = stats.eviction.context("a store in cache mode tells what it evicted")?;
    Ok(eviction.evicted_small + eviction.evicted_main)
}

fn quantiles_of(puts: &Latencies) -> [f64; 5] {
    [0.5, 0.99, 0.999, 0.9999, 1.0].map(|fraction| puts.quantile_ns(fraction) as f64)
}

/// The median of each column.
fn medians(rounds: &[[f64; 5]]) -> [f64; 5] {
    std::array::from_fn(|column| {
        median(&rounds.iter().map(|round| round[column]).collect::<Vec<_>>())
    })
}

fn range(samples: &[f64]) -> [f64; 2] {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    [rounded(least, 3), rounded(most, 3)]
}

#[cfg(test)]
mod tests {
    use super::{medians, range};

    #[test]
    fn medians_are_of_columns() {
        let rounds =
            [[1.0, 9.0, 3.0, 4.0, 5.0], [2.0, 8.0, 3.0, 4.0, 7.0], [3.0, 1.0, 3.0, 4.0, 6.0]];
        assert_eq!(medians(&rounds), [2.0, 8.0, 3.0, 4.0, 6.0]);
    }

    #[test]
    fn range_is_least_and_most() {
        assert_eq!(range(&[2.0, 1.5, 1.75]), [1.5, 2.0]);
    }
}
