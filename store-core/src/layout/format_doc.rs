//! Holds `docs/FORMAT.md` to the code: its tables to the records and words, its listing of bytes
//! to a store that is made for it. A row that is missing, or one too many, fails as well.
//!
//! The bytes are those that pass the shim on their way to memory, so nothing here knows a record
//! by its Rust type but the tables' own tests. As a test it may import from the layers above.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use memoffset::span_of;

use super::Plan;
use super::cleaner::Cleaner;
use super::client::{ClientEntry, ClientState, ClientWord, InFlightWord, PinWord};
use super::counts::Counts;
use super::extent::{ExtentEntry, ExtentState, ExtentWord, LIVES, Queue, Shelf, Stream};
use super::geometry::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, WHOLE_VALUE_BYTES};
use super::item::{Header, KEY_BYTES_MAX, LargeWord, PIECE_HEAD_BYTES, Stamp, flags};
use super::line::{LANES, LINK_LANE, Line, TagWord};
use super::loader::{LOADER_WINDOW, LoaderLease};
use super::namespace::{NamespaceRecord, NamespaceState, NamespaceWord, Share};
use super::redo::{REDO_WORDS, RedoRecord};
use super::slot::Slot;
use super::stripe::{Intent, IntentKind, Stripe};
use super::superblock::{
    CLEAN, CLEAN_WRITER, FEATURE_CHECKSUMS, FEATURE_HUGE_PAGES, FEATURE_OTHER_GUARD,
    FEATURE_OTHER_HASH, FEATURE_OTHER_MODE, FEATURE_POOL, FORMAT_VERSION, FORMAT_WORD, GUARD_FUTEX,
    GUARD_SYSTEM_V, GuardSetWord, IndexSize, MODE_CACHE, MODE_STORE, STATE_LIVE, STATE_RETIRED,
    SUPERBLOCK_BYTES, ServerWord, Superblock,
};
use crate::config::{CreateOptions, HashKind};
use crate::hash::{HASH_RAPIDHASH_V3, HASH_SIPHASH_13, Hasher};
use crate::index::CHAIN_LINES_MAX;
use crate::region::{Cell64, Plain, Region, Shim};
use crate::store::{Condition, PutOptions, Store, private_on_heap};
use crate::sync::Owner;
use crate::sys::map::Mapping;

const DOCUMENT: &str = include_str!("../../../docs/FORMAT.md");

/// The store of the listing in the document.
const EXAMPLE_SEED: u64 = 7;
const EXAMPLE_KEY: &[u8] = b"city";
const EXAMPLE_VALUE: &[u8] = b"Basel";

fn example_options() -> CreateOptions {
    CreateOptions::new(256 << 10).extent_size(4 << 10).items(40)
}

// ---- The document -------------------------------------------------------------------------------

/// The lines below the heading `title`, up to the next heading.
fn section(title: &str) -> Vec<&'static str> {
    let mut lines =
        DOCUMENT.lines().skip_while(|line| line.trim_start_matches('#') != format!(" {title}"));
    assert!(lines.next().is_some(), "FORMAT.md has no heading {title:?}");
    let mut fenced = false;
    lines
        .take_while(|line| {
            fenced ^= line.starts_with("```");
            fenced || !line.starts_with('#')
        })
        .collect()
}

/// The cells of the rows of the one table with `columns` below the heading `title`.
fn table(title: &str, columns: &str) -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| {
        line.trim().trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()
    };
    let mut lines = section(title).into_iter().skip_while(|line| *line != columns);
    assert!(lines.next().is_some(), "{title}: no table {columns}");
    lines.next();
    let rows: Vec<_> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    let width = columns.matches('|').count() - 1;
    assert!(!rows.is_empty(), "{title}: the table is empty");
    assert!(rows.iter().all(|row| row.len() == width), "{title}: a row has another width");
    rows
}

/// What stands between the first backticks of a cell.
fn name(cell: &'static str) -> &'static str {
    cell.split('`').nth(1).unwrap_or_else(|| panic!("{cell:?} names nothing in backticks"))
}

/// A number as the document writes it: `4096`, `0x1f`, `2^38`, `1,024`.
fn number(text: &str) -> u64 {
    let text = text.trim_matches('`').replace(',', "");
    let parsed = match (text.strip_prefix("0x"), text.split_once('^')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
        (None, Some((base, power))) => base
            .parse::<u64>()
            .ok()
            .zip(power.parse().ok())
            .and_then(|(base, power)| base.checked_pow(power)),
        (None, None) => text.parse().ok(),
    };
    parsed.unwrap_or_else(|| panic!("{text:?} is no number"))
}

// ---- Records ------------------------------------------------------------------------------------

/// A field as (name, offset, bytes).
type Field = (&'static str, u64, u64);

/// Compares the table of a record with its fields: the same rows, and no byte left out.
fn compare_record(title: &str, bytes: usize, expected: &[Field]) {
    let mut end = 0;
    let mut fields = Vec::new();
    for row in table(title, "| offset | bytes | field | meaning |") {
        let (offset, bytes, field) = (number(row[0]), number(row[1]), name(row[2]));
        assert_eq!(offset, end, "{title}: `{field}` does not follow the row before it");
        end = offset + bytes;
        fields.push((field, offset, bytes));
    }
    assert_eq!(end, bytes as u64, "{title}: the table does not end with the record");
    assert_eq!(fields, expected, "{title}: the table (left) is not the record (right)");
}

/// The fields of a record whose every field is visible here. Names all of them, or does not
/// compile.
macro_rules! fields {
    ($record:ident { $($field:ident),+ $(,)? }) => {{
        fn _every_field(record: &$record) {
            let $record { $($field: _),+ } = record;
        }
        [$((
            stringify!($field),
            span_of!($record, $field).start as u64,
            span_of!($record, $field).len() as u64,
        )),+]
    }};
}

#[test]
fn the_superblock_is_as_documented() {
    let fields = fields!(Superblock {
        format,
        features_required,
        features_to_write,
        features_optional,
        uuid,
        created_unix_ms,
        segment_bytes,
        mode,
        guard_kind,
        hash_kind,
        hash_check,
        hash_secrets,
        slot_hash_shift,
        planned_items,
        reserved_kinds,
        clients_offset,
        clients_count,
        namespaces_offset,
        namespaces_count,
        stripes_offset,
        stripes_count,
        extents_offset,
        extents_max,
        extent_bytes,
        generations_offset,
        directory_offset,
        redo_offset,
        filter_offset,
        reserved_index,
        arena_offset,
        loaders_offset,
        loaders_count,
        heat_offset,
        heat_bytes,
        ghost_offset,
        ghost_count,
        heat_permissions,
        reserved_geometry,
        index_size,
        pad_index,
        next_stamp,
        pad_stamp,
        clock_offset_ms,
        boot_id,
        guard_set,
        closed_ms,
        pad_clock,
        state,
        clean,
        server,
        pad_state,
        lease_hint,
        orphan_hint,
        pinners,
        pad_hints,
        items_near,
        overflow_extents,
        pad_growth,
        cleaners,
        counts,
        next_sequence,
        ghost_clock,
        evicted,
        evicted_bytes,
        promoted,
        came_back,
        heat_object,
        expired,
        scattered_bytes,
        reserved,
    });
    compare_record("Superblock", size_of::<Superblock>(), &fields);
    assert_eq!(size_of::<Superblock>() as u64, SUPERBLOCK_BYTES);
}

#[test]
fn the_client_entry_is_as_documented() {
    let fields = fields!(ClientEntry {
        word,
        start_time,
        pid_namespace,
        boot_id,
        attached_unix_ms,
        identity_generation,
        lock_generation,
        pins,
        in_flight,
        counters,
    });
    compare_record("Client entry", size_of::<ClientEntry>(), &fields);
}

#[test]
fn the_cleaner_is_as_documented() {
    let fields = fields!(Cleaner {
        guard,
        reserved,
        destination,
        victim,
        victim_generation,
        cursor,
        moved_bytes,
        emptied,
        victim_moved,
    });
    compare_record("Cleaner", size_of::<Cleaner>(), &fields);
}

#[test]
fn the_counts_are_as_documented() {
    let fields =
        fields!(Counts { hits, misses, puts, deletes, put_bytes, lookups_generation, reserved });
    compare_record("Counts", size_of::<Counts>(), &fields);
}

#[test]
fn the_loader_lease_is_as_documented() {
    let fields = fields!(LoaderLease { owner, reserved, hash, taken_ms, reserved_end });
    compare_record("Loader lease", size_of::<LoaderLease>(), &fields);
}

#[test]
fn the_namespace_record_is_as_documented() {
    let fields = fields!(NamespaceRecord {
        word,
        default_ttl_ms,
        share,
        ghost_clock,
        name,
        items,
        hits,
        misses,
        puts,
        deletes,
        put_bytes,
        evicted,
        expired
    });
    compare_record("Namespace record", size_of::<NamespaceRecord>(), &fields);
    let of = |change: fn(&mut NamespaceWord)| {
        let mut word = NamespaceWord {
            state: NamespaceState::Free,
            generation: 0,
            evicts: false,
            quota_extents: 0,
        };
        change(&mut word);
        word.word()
    };
    let (in_use, leaving) = (
        of(|word| word.state = NamespaceState::InUse),
        of(|word| word.state = NamespaceState::Leaving),
    );
    compare_word(
        "Namespace word",
        64,
        &[
            ("quota", of(|word| word.quota_extents = u32::MAX)),
            ("state", in_use | leaving),
            ("evicts", of(|word| word.evicts = true)),
            ("generation", of(|word| word.generation = u16::MAX)),
        ],
    );
    assert_eq!((in_use >> 32, leaving >> 32), (1, 2));
    let share = |first, parts| Share::new(first, parts).0;
    compare_word(
        "Share word",
        64,
        &[("parts", share(0, u32::MAX.into())), ("first", share(u16::MAX.into(), 0))],
    );
}

#[test]
fn the_stream_word_is_as_documented() {
    let life = Stream { group: 0, queue: Queue::Small, life: u8::MAX }.word();
    let of = |group, queue| Stream { group, queue, life: 0 }.word();
    compare_word(
        "Stream word",
        64,
        &[("queue", 0xFF), ("group", of(u8::MAX, Queue::Small)), ("life", life)],
    );
    assert_eq!((of(0, Queue::Small), of(0, Queue::Main)), (0, 1));
    let ends = [3999, 4000, 15_999, 16_000, 64_000, 1 << 60].map(Shelf::life_of);
    assert_eq!(ends, [1, 2, 2, 3, 4, LIVES]);
}

#[test]
fn the_extent_entry_is_as_documented() {
    let fields =
        fields!(ExtentEntry { word, sequence, stream, last_expiry, reserved, trimmed_generation });
    compare_record("Extent entry", size_of::<ExtentEntry>(), &fields);
}

/// A stripe with an intent whose every word differs, and the words as they lie in memory.
fn armed_stripe(kind: IntentKind, items_before: u64) -> [u64; 8] {
    let region = Region::private(Mapping::heap(4096));
    let stripe = region.view::<Stripe>(64).expect("in bounds");
    let intent =
        Intent { kind, items_before, cell: 101, old: Slot(102), new: Slot(103), line: 104 };
    stripe.arm::<Plain>(&intent);
    let words = region.view::<[Cell64; 8]>(64).expect("in bounds");
    std::array::from_fn(|word| words[word].load())
}

#[test]
fn the_stripe_is_as_documented() {
    let words = armed_stripe(IntentKind::Swap, 100);
    let intent_word = |name, value: u64| {
        let at = words.iter().position(|word| *word == value).expect("the intent is in memory");
        (name, at as u64 * 8, 8)
    };
    let seen = |name, span: std::ops::Range<usize>| (name, span.start as u64, span.len() as u64);
    let fields = [
        seen("guard", span_of!(Stripe, guard)),
        seen("reserved", span_of!(Stripe, reserved)),
        intent_word("intent", 100 << 8 | 1),
        intent_word("intent_cell", 101),
        intent_word("intent_old", 102),
        intent_word("intent_new", 103),
        intent_word("intent_line", 104),
        seen("items", span_of!(Stripe, items)),
        seen("reserved_end", span_of!(Stripe, reserved_end)),
    ];
    compare_record("Stripe", size_of::<Stripe>(), &fields);
}

#[test]
fn the_redo_record_is_as_documented() {
    let fields = fields!(RedoRecord { stamp, header, checksum, reserved, value });
    compare_record("Redo record", size_of::<RedoRecord>(), &fields);
}

#[test]
fn the_line_is_as_documented() {
    let region = Region::private(Mapping::heap(4096));
    let line = region.view::<Line>(0).expect("in bounds");
    let distance =
        |cell: &Cell64| std::ptr::from_ref(cell) as u64 - std::ptr::from_ref(line) as u64;
    let fields =
        [("tags", distance(&line.tags), 8), ("slots", distance(line.cell(0)), 8 * LANES as u64)];
    compare_record("Line", size_of::<Line>(), &fields);
    assert_eq!(distance(line.cell(LINK_LANE)), 56, "lane 6 is the last");
}

#[test]
fn the_item_is_as_documented() {
    let (key_bytes, value_bytes) = (11, 21);
    // `K` and `V` are the lengths of key and value, rounded up to words.
    let sum = |text: &str| -> u64 {
        text.trim_matches('`')
            .split(" + ")
            .map(|term| match term {
                "K" => 16,
                "V" => 24,
                term => number(term),
            })
            .sum()
    };
    let header =
        Header { value_bytes, key_bytes, namespace: 0, flags: flags::EXPIRES | flags::CHECKSUM };
    let shape = header.shape();
    let rows: Vec<Field> = table("Item", "| offset | bytes | field | meaning |")
        .into_iter()
        .map(|row| (name(row[2]), sum(row[0]), sum(row[1])))
        .collect();
    let expected = [
        ("stamp", 0, 8),
        ("header", 8, 8),
        ("expiry", shape.expiry, 8),
        ("checksum", shape.checksum, 8),
        ("key", shape.key, shape.value - shape.key),
        ("value", shape.value, shape.bytes - shape.value),
    ];
    assert_eq!(rows, expected);
    let rows = table("Item", "| flags | expiry at | checksum at | key at |");
    assert_eq!(rows.len(), 4);
    for row in rows {
        let mut bits = 0;
        for flag in row[0].split(" and ") {
            bits |= match flag {
                "neither" => 0,
                "`EXPIRES`" => flags::EXPIRES,
                "`CHECKSUM`" => flags::CHECKSUM,
                other => panic!("unknown flag {other}"),
            };
        }
        let shape = Header { flags: bits, ..header }.shape();
        let offset =
            |there: bool, offset: u64| if there { offset.to_string() } else { "none".into() };
        assert_eq!(row[1], offset(bits & flags::EXPIRES != 0, shape.expiry));
        assert_eq!(row[2], offset(bits & flags::CHECKSUM != 0, shape.checksum));
        assert_eq!(row[3], shape.key.to_string());
    }
}

// ---- Words --------------------------------------------------------------------------------------

/// Compares the table of a packed word with the mask that each of its fields has.
fn compare_word(title: &str, bits: u32, expected: &[(&str, u64)]) {
    let mut covered = 0_u64;
    let mut fields = Vec::new();
    for row in table(title, "| bits | field | meaning |") {
        let (low, high) = match row[0].split_once("..") {
            Some((low, high)) => (number(low), number(high)),
            None => (number(row[0]), number(row[0])),
        };
        let mask = (u64::MAX >> (63 - (high - low))) << low;
        assert_eq!(covered & mask, 0, "{title}: bits {} are given twice", row[0]);
        covered |= mask;
        fields.push((name(row[1]), mask));
    }
    assert_eq!(covered, u64::MAX >> (64 - bits), "{title}: some bits are left out");
    let named: Vec<_> = fields.into_iter().filter(|(field, _)| *field != "0").collect();
    assert_eq!(named, expected, "{title}: the table (left) is not the code (right)");
}

/// The bits that `is` answers to when they stand alone.
fn bits_that(is: impl Fn(u64) -> bool) -> u64 {
    (0..64).map(|bit| 1 << bit).filter(|word| is(*word)).sum()
}

#[test]
fn the_size_word_of_the_index_is_as_documented() {
    let buckets = bits_that(|word| IndexSize(word).buckets() != 0);
    compare_word(
        "Index size word",
        64,
        &[("buckets", buckets), ("epoch", !(IndexSize::EPOCH_ONE - 1))],
    );
}

#[test]
fn the_clean_word_is_as_documented() {
    assert_eq!(CLEAN + 1, CLEAN_WRITER, "the count begins where the mark ends");
    compare_word("Clean word", 64, &[("clean", CLEAN), ("writers", !(CLEAN_WRITER - 1))]);
}

#[test]
fn the_guard_set_word_is_as_documented() {
    let word = |id, ipc_namespace| GuardSetWord { id, ipc_namespace }.word();
    let id = word(i32::MAX, 0) | word(i32::MAX - 1, 0);
    let ipc_namespace = word(0, u32::MAX) ^ word(0, 0);
    compare_word("Guard set word", 64, &[("id", id), ("ipc_namespace", ipc_namespace)]);
    for word in
        [GuardSetWord { id: 0, ipc_namespace: 0 }, GuardSetWord { id: i32::MAX, ipc_namespace: 7 }]
    {
        assert_eq!(GuardSetWord::of(word.word()), Some(word));
    }
    assert_eq!(GuardSetWord::of(0), None);
}

#[test]
fn the_server_word_is_as_documented() {
    let word = |client, generation| ServerWord { client, generation }.word();
    let client = word(u32::MAX - 1, 0);
    let generation = word(0, u32::MAX) ^ word(0, 0);
    compare_word("Server word", 64, &[("client", client), ("generation", generation)]);
    for word in [ServerWord { client: 0, generation: 0 }, ServerWord { client: 7, generation: 9 }] {
        assert_eq!(ServerWord::of(word.word()), Some(word));
    }
    assert_eq!(ServerWord::of(0), None);
}

#[test]
fn the_client_word_is_as_documented() {
    let of = ClientWord::of;
    compare_word(
        "Client word",
        64,
        &[
            ("pid", bits_that(|word| of(word).pid != 0)),
            ("generation", bits_that(|word| of(word).generation != 0)),
            ("state", bits_that(|word| of(word).state != ClientState::Free)),
        ],
    );
}

#[test]
fn the_in_flight_word_is_as_documented() {
    let taken = InFlightWord { generation: 0, large: false, number: 0 }.word();
    let of = |word| InFlightWord::of(word | taken).expect("taken");
    compare_word(
        "In-flight word",
        64,
        &[
            ("number", bits_that(|word| of(word).number != 0)),
            ("generation", bits_that(|word| of(word).generation != 0)),
            ("large", bits_that(|word| of(word).large)),
            ("taken", bits_that(|word| InFlightWord::of(word).is_some())),
        ],
    );
}

#[test]
fn the_pin_word_is_as_documented() {
    let taken = PinWord::new(0, 0, false).word();
    let of = |word| PinWord::of(word | taken).expect("taken");
    compare_word(
        "Pin word",
        64,
        &[
            ("unit", bits_that(|word| of(word).unit != 0)),
            ("generation", bits_that(|word| of(word).generation != 0)),
            ("large", bits_that(|word| of(word).large)),
            ("taken", bits_that(|word| PinWord::of(word).is_some())),
        ],
    );
}

#[test]
fn the_guard_word_is_as_documented() {
    let word = |client, generation| u64::from(Owner::new(client, generation).word());
    let base = word(0, 0);
    compare_word(
        "Guard word",
        32,
        &[
            ("entry", word(Owner::CLIENTS_MAX - 1, 0)),
            ("generation", word(0, Owner::GENERATION_MASK) ^ base),
            ("waiters", u64::from(Owner::with_waiters(0))),
        ],
    );
}

#[test]
fn the_extent_word_is_as_documented() {
    let of = ExtentWord::of;
    let entry = 1 << 48;
    compare_word(
        "Extent word",
        64,
        &[
            ("used", bits_that(|word| of(word).used != 0)),
            ("live", bits_that(|word| of(word).live != 0)),
            ("suspect", bits_that(|word| of(word).suspect)),
            // Read only where an owner is named.
            (
                "generation",
                bits_that(|word| of(word | entry).owner.is_some_and(|owner| owner.generation != 0)),
            ),
            ("entry", bits_that(|word| of(word).owner.is_some())),
            ("state", bits_that(|word| of(word).state != ExtentState::Free)),
        ],
    );
    let states = [
        ("free", ExtentState::Free),
        ("claimed", ExtentState::Claimed),
        ("open", ExtentState::Open),
        ("sealed", ExtentState::Sealed),
        ("relocation", ExtentState::Relocation),
        ("pinned", ExtentState::Pinned),
        ("buckets", ExtentState::Buckets),
        ("overflow", ExtentState::Overflow),
    ];
    let rows = table("Extent word", "| state | name | `used` | `live` | meaning |");
    assert_eq!(rows.len(), states.len());
    for (row, (name, state)) in rows.iter().zip(states) {
        assert_eq!(row[1], name);
        let word = ExtentWord { state, ..ExtentWord::FREE };
        assert_eq!(number(row[0]), word.word() >> 60, "state {name}");
    }
}

#[test]
fn the_slot_word_is_as_documented() {
    let shift = 20;
    let slot = |offset, generation, hash| Slot::of_item(offset, generation, hash, shift).0;
    let base = slot(8, 0, 0);
    let link = Slot::of_link(0).0;
    compare_word(
        "Slot word of an item",
        64,
        &[
            ("unit", slot(Slot::SEGMENT_BYTES_MAX - 8, 0, 0)),
            ("generation", slot(8, u64::MAX, 0) ^ base),
            ("hash", slot(8, 0, u64::MAX) ^ base),
            ("link", link),
        ],
    );
    compare_word(
        "Slot word of a link",
        64,
        &[("line", Slot::of_link((1 << 35) - 1).0 ^ link), ("link", link)],
    );
    assert_eq!(Slot::of_link(5).link(), Some(5));
}

#[test]
fn the_tag_word_is_as_documented() {
    let names = ["tag 0", "tag 1", "tag 2", "tag 3", "tag 4", "tag 5", "tag 6"];
    let mut expected: Vec<_> = names
        .into_iter()
        .enumerate()
        .map(|(lane, name)| (name, TagWord(0).with_tag(lane, 0xFF).0))
        .collect();
    expected.push(("linked", bits_that(|word| TagWord(word).is_linked())));
    compare_word("Tag word", 64, &expected);
    assert_eq!(TagWord::tag_of(0xAB << 56), 0xAB, "the tag is the top byte of the hash");
}

#[test]
fn the_stamp_word_is_as_documented() {
    let number = |word| Stamp(word).number() != 0;
    let expected = [
        ("number", bits_that(number)),
        ("overwritten", bits_that(|word| Stamp(word).is_overwritten())),
    ];
    compare_word("Stamp word", 64, &expected);
    assert_eq!(Stamp::overwritten(7).0, 7 | expected[1].1);
}

#[test]
fn the_item_header_is_as_documented() {
    let of = Header::of;
    compare_word(
        "Item header",
        64,
        &[
            ("value_bytes", bits_that(|word| of(word).value_bytes != 0)),
            ("key_bytes", bits_that(|word| of(word).key_bytes != 0)),
            ("namespace", bits_that(|word| of(word).namespace != 0)),
            ("flags", bits_that(|word| of(word).flags != 0)),
        ],
    );
    let rows = table("Item header", "| bit | flag | meaning |");
    let named: Vec<_> = rows.iter().map(|row| (name(row[1]), 1_u8 << number(row[0]))).collect();
    let expected = [
        ("EXPIRES", flags::EXPIRES),
        ("CHECKSUM", flags::CHECKSUM),
        ("COUNTER", flags::COUNTER),
        ("LARGE", flags::LARGE),
        ("PIECE", flags::PIECE),
    ];
    assert_eq!(named, expected);
    assert_eq!(expected.iter().fold(0, |all, (_, bit)| all | bit), flags::KNOWN);
}

#[test]
fn the_intent_word_is_as_documented() {
    let intent = |kind, items| armed_stripe(kind, items)[1];
    let swap = intent(IntentKind::Swap, 0);
    compare_word(
        "Intent word",
        64,
        &[("kind", 0xFF), ("items_before", intent(IntentKind::Swap, u64::MAX >> 8) ^ swap)],
    );
    let kinds = [
        ("swap", IntentKind::Swap),
        ("link", IntentKind::Link),
        ("unlink", IntentKind::Unlink),
        ("raise", IntentKind::Raise),
        ("split", IntentKind::Split),
        ("overwrite", IntentKind::Overwrite),
    ];
    let rows = table("Intent word", "| kind | name | cell, old, new, line |");
    assert_eq!(rows.len(), kinds.len());
    for (row, (name, kind)) in rows.iter().zip(kinds) {
        assert_eq!((number(row[0]), row[1]), (intent(kind, 0), name));
    }
}

#[test]
fn the_large_word_is_as_documented() {
    let of = LargeWord::of;
    compare_word(
        "Large word",
        64,
        &[
            ("len", bits_that(|word| of(word).len != 0)),
            ("piece_units", bits_that(|word| of(word).piece_units != 0)),
        ],
    );
    let whole = section("Large items").join("\n");
    assert!(whole.contains(&format!("at most {WHOLE_VALUE_BYTES} bytes")));
}

#[test]
fn the_piece_is_as_documented() {
    let rows = table("Piece", "| offset | bytes | field | meaning |");
    let fields: Vec<_> = rows.iter().map(|row| (name(row[2]), number(row[0]))).collect();
    let of_piece = Header { value_bytes: 16, key_bytes: 0, namespace: 0, flags: flags::PIECE };
    let expected =
        [("stamp", 0), ("header", 8), ("hash", 16), ("number", 24), ("value", PIECE_HEAD_BYTES)];
    assert_eq!(fields, expected);
    assert_eq!((of_piece.shape().value, of_piece.shape().bytes), (16, PIECE_HEAD_BYTES));
}

// ---- Numbers ------------------------------------------------------------------------------------

#[test]
fn the_numbers_are_as_documented() {
    let rows = table("Limits", "| limit | number | why |");
    let documented: BTreeMap<_, _> = rows.iter().map(|row| (row[0], number(row[1]))).collect();
    let expected = BTreeMap::from([
        ("bytes of a segment", Slot::SEGMENT_BYTES_MAX),
        ("bytes of an extent, least", EXTENT_BYTES_MIN),
        ("bytes of an extent, most", EXTENT_BYTES_MAX),
        ("bytes of a key", KEY_BYTES_MAX as u64),
        ("bytes of a value", u32::MAX.into()),
        ("client entries", Owner::CLIENTS_MAX.into()),
        ("buckets", IndexSize::EPOCH_ONE - 1),
        ("lines", Slot::SEGMENT_BYTES_MAX / 64),
        ("lines of a chain", CHAIN_LINES_MAX as u64),
        ("lanes of a line", LANES as u64),
        ("bytes of a value that is overwritten where it stands", 8 * REDO_WORDS as u64),
        ("leases that a key may have", LOADER_WINDOW.into()),
        ("namespaces", 256),
        ("shift of the hash bits in a slot", 50),
    ]);
    assert_eq!(documented, expected);
    let kinds = table("Kinds and states", "| word | number | meaning |");
    let documented: BTreeSet<_> = kinds.iter().map(|row| (name(row[0]), number(row[1]))).collect();
    let expected = BTreeSet::from([
        ("hash_kind", HASH_RAPIDHASH_V3),
        ("hash_kind", HASH_SIPHASH_13),
        ("features_required", FEATURE_CHECKSUMS),
        ("features_required", FEATURE_OTHER_HASH),
        ("state", STATE_LIVE),
        ("state", STATE_RETIRED),
        ("mode", MODE_STORE),
        ("mode", MODE_CACHE),
        ("features_to_write", FEATURE_OTHER_GUARD),
        ("features_to_write", FEATURE_OTHER_MODE),
        ("features_optional", FEATURE_HUGE_PAGES),
        ("features_optional", FEATURE_POOL),
        ("guard_kind", GUARD_FUTEX),
        ("guard_kind", GUARD_SYSTEM_V),
    ]);
    assert_eq!(documented, expected);
    assert_eq!(FORMAT_WORD >> 56, u64::from(FORMAT_VERSION));
    assert!(DOCUMENT.contains(&format!("Format version {FORMAT_VERSION}.")));
}

#[test]
fn the_hash_is_as_documented() {
    let hasher = Hasher::new(HashKind::Rapidhash, Hasher::words_of_seed(EXAMPLE_SEED));
    let text = section("Hash").into_iter().find_map(|line| line.strip_prefix("    "));
    let text = text.expect("the self-test string stands indented by four blanks");
    let check =
        hasher.hash(text.as_bytes()) ^ hasher.hash(&text.as_bytes().repeat(4)).rotate_left(1);
    assert_eq!(check, hasher.self_test());
    let plan = example_plan();
    let geometry = plan.geometry;
    let hash = hasher.hash(EXAMPLE_KEY);
    let expected = BTreeMap::from([
        ("`hash(\"city\")`", hash),
        ("bucket", IndexSize(plan.buckets).bucket_of(hash)),
        ("stripe", geometry.stripe_of(hash).into()),
        ("tag", TagWord::tag_of(hash).into()),
        ("hash bits in the slot", hash >> geometry.slot_hash_shift & 0x1FFF),
    ]);
    let rows = table("Golden bytes", "| of the hash | number |");
    let documented: BTreeMap<_, _> = rows.iter().map(|row| (row[0], number(row[1]))).collect();
    let shown: Vec<_> =
        expected.iter().map(|(name, number)| format!("{name}: {number:#x}")).collect();
    assert_eq!(documented, expected, "{shown:#?}");
}

// ---- Bytes --------------------------------------------------------------------------------------

fn example_plan() -> Plan {
    Plan::of(&example_options()).expect("a plan")
}

thread_local! {
    /// Bytes by address, as they were stored last.
    static STORED: RefCell<BTreeMap<usize, u8>> = const { RefCell::new(BTreeMap::new()) };
}

/// Keeps what is stored.
#[derive(Debug)]
struct Recorder;

impl Shim for Recorder {
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        STORED.with_borrow_mut(|stored| {
            for (at, byte) in value.to_le_bytes().into_iter().take(bytes).enumerate() {
                stored.insert(address + at, byte);
            }
        });
    }
}

/// A store with one item, and what was stored into its memory: by one thread that nobody disturbs,
/// so no compare-and-swap failed.
fn example_bytes() -> BTreeMap<u64, u8> {
    STORED.take();
    let store: Store<Recorder> =
        private_on_heap(&example_options(), EXAMPLE_SEED).expect("a store");
    let session = store.open_session().expect("a session");
    store
        .put(&session, EXAMPLE_KEY, EXAMPLE_VALUE, &PutOptions::new(), Condition::Always)
        .expect("room for one item");
    let base = store.info().expect("info").address as usize;
    STORED.take().into_iter().map(|(address, byte)| ((address - base) as u64, byte)).collect()
}

#[test]
fn the_bytes_are_as_documented() {
    let bytes = example_bytes();
    // Else nothing was recorded, and a listing of zeros would do.
    assert_eq!(bytes.get(&0), Some(&b'C'));
    let mut lines = 0;
    let mut wrong = Vec::new();
    for line in section("Golden bytes") {
        let Some((offset, rest)) = line.split_once(": ") else { continue };
        let Ok(offset) = u64::from_str_radix(offset, 16) else { continue };
        let listed: Vec<u8> = rest
            .split_whitespace()
            .map_while(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok())?)
            .collect();
        let stored: Vec<u8> = (offset..offset + listed.len() as u64)
            .map(|at| bytes.get(&at).copied().unwrap_or(0))
            .collect();
        assert!(!listed.is_empty(), "no bytes in {line:?}");
        lines += 1;
        if stored != listed {
            wrong.push(format!("{line}\nis stored as {offset:05x}: {stored:02x?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines >= 20, "the listing has {lines} lines");
}

#[test]
fn the_parts_are_as_documented() {
    let geometry = example_plan().geometry;
    let expected = [
        ("superblock", 0, 1, size_of::<Superblock>() as u64),
        (
            "client table",
            geometry.clients_offset,
            geometry.clients.into(),
            size_of::<ClientEntry>() as u64,
        ),
        (
            "namespace table",
            geometry.namespaces_offset,
            geometry.namespaces.into(),
            size_of::<NamespaceRecord>() as u64,
        ),
        (
            "loader leases",
            geometry.loaders_offset,
            geometry.loaders.into(),
            size_of::<LoaderLease>() as u64,
        ),
        ("stripes", geometry.stripes_offset, geometry.stripes.into(), size_of::<Stripe>() as u64),
        ("redo", geometry.redo_offset, geometry.stripes.into(), size_of::<RedoRecord>() as u64),
        (
            "extent table",
            geometry.extents_offset,
            geometry.extents.into(),
            size_of::<ExtentEntry>() as u64,
        ),
        ("generations", geometry.generations_offset, geometry.extents.into(), 8),
        ("directory", geometry.directory_offset, geometry.extents.into(), 8),
        ("filter", geometry.filter_offset, geometry.filter_words(), 4),
        ("heat", geometry.heat_offset, geometry.heat_bytes, 1),
        ("ghost", geometry.ghost_offset, geometry.ghost_count, 4),
        ("arena", geometry.arena_offset, geometry.extents.into(), geometry.extent_bytes()),
    ];
    let rows = table("Golden bytes", "| part | offset | records | bytes each |");
    let documented: Vec<_> =
        rows.iter().map(|row| (row[0], number(row[1]), number(row[2]), number(row[3]))).collect();
    assert_eq!(documented, expected, "the table (left) is not the plan (right)");
    let order: Vec<_> =
        table("Parts", "| part | records | bytes each | offset in the superblock |")
            .iter()
            .map(|row| row[0])
            .collect();
    assert_eq!(order, expected.map(|(name, ..)| name));
}
