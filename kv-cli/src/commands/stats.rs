//! `stats`: how full a store is, of what, and how much more it takes.

use serde::Serialize;
use store_client::{EvictionStats, Histograms, Reader, SizeClass, Stats};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;
use crate::progress;

/// The index grows at 100 items for each hundred lanes. With as many as these it did not.
const INDEX_CROWDED_PERCENT: f64 = 110.0;

/// Cells of the bar that shows a share of the arena.
const BAR_CELLS: u32 = 24;

/// Show how full a store is
///
/// `live` are items that can be read, headers and padding included; `dead` are overwritten and
/// deleted ones, and unused ends, in extents that still hold live items; `free` takes new items that
/// are small enough for its pieces; `reserve` is kept free for cleaning, which makes dead bytes free
/// when room is short. Items that have expired count until they are swept, as
/// store-server does, though no scan shows them. `fragmentation` is the dead share of the arena, so
/// what cleaning could make free. Hits, misses, puts and deletes are counted by clients that write,
/// those that are gone included; readers count nothing, so the hit ratio is that of the clients
/// that were asked to count their lookups. With `--namespace` the numbers of that namespace alone.
#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    /// Count chains of the index by length and items by size; reads the whole index
    #[arg(long)]
    histogram: bool,
}

#[derive(Serialize)]
struct JsonStats {
    items: u64,
    room_items: u64,
    live_bytes: u64,
    dead_bytes: u64,
    free_bytes: u64,
    arena_bytes: u64,
    structure_bytes: u64,
    index_bytes: u64,
    reserve_bytes: u64,
    extents_free: u32,
    extents_open: u32,
    extents_sealed: u32,
    extents_index: u32,
    extents_relocation: u32,
    extents_pinned: u32,
    extents_suspect: u32,
    emptied: u64,
    moved_bytes: u64,
    extents_uncommissioned: u32,
    buckets: u64,
    overflow_lines: u64,
    overflow_lines_used: u64,
    index_load_percent: f64,
    fragmentation_percent: f64,
    moved_per_put_byte: Option<f64>,
    hits: u64,
    misses: u64,
    hit_ratio: Option<f64>,
    puts: u64,
    put_bytes: u64,
    deletes: u64,
    expired: u64,
    clients: u32,
    clients_counting_lookups: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    eviction: Option<JsonEviction>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    histograms: Option<JsonHistograms>,
}

#[derive(Serialize)]
struct JsonEviction {
    small_bytes: u64,
    main_bytes: u64,
    evicted_small: u64,
    evicted_main: u64,
    evicted_bytes: u64,
    promoted: u64,
    came_back: u64,
}

#[derive(Serialize)]
struct JsonHistograms {
    /// Buckets with one line, two lines, and so on.
    chain_lines: Vec<u64>,
    item_sizes: Vec<JsonSizeClass>,
}

#[derive(Serialize)]
struct JsonSizeClass {
    bytes_max: u64,
    items: u64,
    bytes: u64,
}

pub(crate) fn run(args: StatsArgs, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(name) = context.namespace.clone() {
        return super::namespace::show(&name, context);
    }
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let reader = context.reader()?;
    let stats = reader.stats()?;
    let histograms = match args.histogram {
        true => Some(histograms(&reader)?),
        false => None,
    };
    if format.is_json() {
        context.output.json(&json(&stats, histograms))?;
        return Ok(Exit::Done);
    }
    show(&stats, context)?;
    if let Some(histograms) = histograms {
        show_histograms(&histograms, context)?;
    }
    Ok(Exit::Done)
}

fn histograms(reader: &Reader) -> Result<Histograms, Failure> {
    let bar = progress::things(0, "buckets");
    let found = reader.histograms(|done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(found?)
}

fn show_histograms(found: &Histograms, context: &mut Context) -> Result<(), Failure> {
    let output = &mut context.output;
    let all = found.chain_lines.iter().sum();
    let rows = found.chain_lines.iter().zip(1_u64..).map(|(buckets, lines)| {
        vec![human::count(lines), human::count(*buckets), bar(*buckets, all)]
    });
    output.line("")?;
    output.table(&["lines in a chain", "buckets", "share"], &rows.collect::<Vec<_>>(), &[0, 1])?;
    let all = found.item_sizes.iter().map(|class| class.items).sum();
    let rows = found.item_sizes.iter().map(|class| {
        let (items, bytes) = (human::count(class.items), human::size(class.bytes));
        vec![human::size(class.bytes_max), items, bytes, bar(class.items, all)]
    });
    output.line("")?;
    let header = ["item size up to", "items", "bytes", "share"];
    output.table(&header, &rows.collect::<Vec<_>>(), &[0, 1, 2])
}

fn show(stats: &Stats, context: &mut Context) -> Result<(), Failure> {
    let share = |bytes: u64| share(bytes, stats.arena_bytes);
    let index = format!(
        "{}, {} buckets with {:.1} items for 100 lanes, {} of {} overflow lines used",
        human::size(stats.index_bytes),
        human::count(stats.buckets),
        stats.index_load_percent,
        human::count(stats.overflow_lines_used),
        human::count(stats.overflow_lines)
    );
    let mut pairs = vec![
        ("items", items(stats)),
        ("arena", human::size(stats.arena_bytes)),
        ("  live", share(stats.live_bytes)),
        ("  dead", share(stats.dead_bytes)),
        ("  free", share(stats.free_bytes)),
        ("  reserve", share(stats.reserve_bytes)),
        ("fragmentation", format!("{:.1}%", stats.fragmentation_percent())),
        ("extents", extents(stats)),
        ("cleaning", cleaning(stats)),
        ("index", index),
        ("tables and index", human::size(stats.structure_bytes)),
        ("lookups", lookups(stats)),
        ("writes", writes(stats)),
    ];
    if stats.expired > 0 {
        pairs.push(("expired", human::plural(stats.expired, "item dropped", "items dropped")));
    }
    if let Some(eviction) = &stats.eviction {
        pairs.push(("small queue", share(eviction.small_bytes)));
        pairs.push(("main queue", share(eviction.main_bytes)));
        pairs.push(("evicted", evicted(eviction)));
    }
    context.output.pairs(&pairs)?;
    for remark in remarks(stats) {
        context.output.text(&format!("note: {remark}"))?;
    }
    Ok(())
}

/// How many items went, and how many stayed for good reasons.
fn evicted(eviction: &EvictionStats) -> String {
    let count = human::count;
    format!(
        "{} items, {}: {} new ones, {} from the main queue; {} promoted, {} came back",
        count(eviction.evicted_small + eviction.evicted_main),
        human::size(eviction.evicted_bytes),
        count(eviction.evicted_small),
        count(eviction.evicted_main),
        count(eviction.promoted),
        count(eviction.came_back)
    )
}

/// How many, how large, and how many more of that size.
fn items(stats: &Stats) -> String {
    let count = human::count(stats.items);
    let Some(each) = stats.live_bytes.checked_div(stats.items).filter(|each| *each > 0) else {
        return count;
    };
    let room = match stats.room_items {
        0 if stats.eviction.is_some() => "another one evicts".to_owned(),
        0 => "no room for another".to_owned(),
        room => format!("room for about {} more", human::rounded(room)),
    };
    format!("{count} of {} on average; {room}", human::size(each))
}

/// Bytes, their share of the arena in percent, and the same as a bar.
fn share(bytes: u64, whole: u64) -> String {
    format!("{:>10} {}", human::size(bytes), bar(bytes, whole))
}

/// A share in percent, and the same as a bar.
fn bar(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    let cells = (percent.min(100.0) / 100.0 * f64::from(BAR_CELLS)).round() as usize;
    let text = format!("{percent:>6.1}%  {}", "■".repeat(cells));
    text.trim_end().to_owned()
}

/// Extents by state; states that no extent is in are left out.
fn extents(stats: &Stats) -> String {
    let states = [
        (stats.extents_free, "free"),
        (stats.extents_open, "open"),
        (stats.extents_sealed, "sealed"),
        (stats.extents_relocation, "taking what cleaning moves"),
        (stats.extents_pinned, "pinned"),
        (stats.extents_index, "of the index"),
        (stats.extents_uncommissioned, "without memory yet"),
    ];
    let some = states.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> =
        some.map(|(number, name)| format!("{} {name}", human::count((*number).into()))).collect();
    parts.join(", ")
}

/// What cleaning has done so far.
fn cleaning(stats: &Stats) -> String {
    let extents = human::plural(stats.emptied, "extent emptied", "extents emptied");
    let moved = format!("{extents}, {} moved", human::size(stats.moved_bytes));
    match stats.moved_per_put_byte() {
        Some(bytes) => format!("{moved}, {bytes:.2} bytes for each byte put"),
        None => moved,
    }
}

/// Hits and misses, and who reported them.
fn lookups(stats: &Stats) -> String {
    let counts = &stats.counts;
    let coverage = format!(
        "{} now; readers report nothing",
        human::plural(
            stats.clients_counting_lookups.into(),
            "client that writes reports them",
            "clients that write report them"
        )
    );
    match counts.hit_ratio() {
        None => format!("none reported; {coverage}"),
        Some(ratio) => format!(
            "{}, {} ({:.1}% hits); {coverage}",
            human::plural(counts.hits, "hit", "hits"),
            human::plural(counts.misses, "miss", "misses"),
            100.0 * ratio
        ),
    }
}

/// Puts and deletes, and who reported them.
fn writes(stats: &Stats) -> String {
    format!(
        "{}, {}; reported by {} and those that closed",
        human::plural(stats.counts.puts, "put", "puts"),
        human::plural(stats.counts.deletes, "delete", "deletes"),
        human::plural(stats.clients.into(), "client that writes", "clients that write")
    )
}

/// What its owner should know.
fn remarks(stats: &Stats) -> Vec<String> {
    let mut remarks = Vec::new();
    if stats.index_load_percent >= INDEX_CROWDED_PERCENT {
        remarks.push(
            "the index is crowded and slower for it: it grows with the next puts, if an extent is free"
                .to_owned(),
        );
    }
    if stats.extents_suspect > 0 {
        let extents = human::plural(
            stats.extents_suspect.into(),
            "extent may count more live bytes than it holds",
            "extents may count more live bytes than they hold",
        );
        remarks.push(format!("{extents}: a writer died in a write; cleaning counts them anew"));
    }
    remarks
}

fn json(stats: &Stats, histograms: Option<Histograms>) -> JsonStats {
    JsonStats {
        items: stats.items,
        room_items: stats.room_items,
        live_bytes: stats.live_bytes,
        dead_bytes: stats.dead_bytes,
        free_bytes: stats.free_bytes,
        arena_bytes: stats.arena_bytes,
        structure_bytes: stats.structure_bytes,
        index_bytes: stats.index_bytes,
        reserve_bytes: stats.reserve_bytes,
        extents_free: stats.extents_free,
        extents_open: stats.extents_open,
        extents_sealed: stats.extents_sealed,
        extents_index: stats.extents_index,
        extents_relocation: stats.extents_relocation,
        extents_pinned: stats.extents_pinned,
        extents_suspect: stats.extents_suspect,
        emptied: stats.emptied,
        moved_bytes: stats.moved_bytes,
        extents_uncommissioned: stats.extents_uncommissioned,
        buckets: stats.buckets,
        overflow_lines: stats.overflow_lines,
        overflow_lines_used: stats.overflow_lines_used,
        index_load_percent: stats.index_load_percent,
        fragmentation_percent: stats.fragmentation_percent(),
        moved_per_put_byte: stats.moved_per_put_byte(),
        hits: stats.counts.hits,
        misses: stats.counts.misses,
        hit_ratio: stats.counts.hit_ratio(),
        puts: stats.counts.puts,
        put_bytes: stats.counts.put_bytes,
        deletes: stats.counts.deletes,
        expired: stats.expired,
        clients: stats.clients,
        clients_counting_lookups: stats.clients_counting_lookups,
        eviction: stats.eviction.map(|eviction| JsonEviction {
            small_bytes: eviction.small_bytes,
            main_bytes: eviction.main_bytes,
            evicted_small: eviction.evicted_small,
            evicted_main: eviction.evicted_main,
            evicted_bytes: eviction.evicted_bytes,
            promoted: eviction.promoted,
            came_back: eviction.came_back,
        }),
        histograms: histograms.map(|found| JsonHistograms {
            chain_lines: found.chain_lines,
            item_sizes: found.item_sizes.iter().map(size_class).collect(),
        }),
    }
}

fn size_class(class: &SizeClass) -> JsonSizeClass {
    JsonSizeClass { bytes_max: class.bytes_max, items: class.items, bytes: class.bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_bars() {
        assert_eq!(share(0, 1 << 20), "       0 B    0.0%");
        assert_eq!(share(1 << 20, 1 << 20), format!("   1.0 MiB  100.0%  {}", "■".repeat(24)));
        assert_eq!(share(1, 1 << 20), "       1 B    0.0%");
        // Sums of a live store are near: a share may pass the whole.
        assert!(share(3, 2).ends_with(&"■".repeat(24)));
        assert_eq!(share(0, 0), "       0 B    0.0%");
    }
}
