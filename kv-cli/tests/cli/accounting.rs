//! What a store says of its memory: the map of its extents, and what `stats` counts.

use crate::harness::Store;

/// A store with small items, every other one overwritten, and a large value.
fn used() -> Store {
    let store = Store::unmade();
    store.kv(["create", "--size", "8MiB", "--format", "json"]).exits(0);
    for round in ["a", "b"] {
        let lines: String = (0..2000_u32)
            .filter(|key| round == "a" || key.is_multiple_of(2))
            .map(|key| format!("{{\"key\":\"k{key}\",\"value\":\"{}\"}}\n", round.repeat(300)))
            .collect();
        store.kv_with(["load", "-", "--format", "json"], lines.as_bytes()).exits(0);
    }
    store.kv_with(["put", "large", "-"], &vec![b'l'; 1 << 20]).exits(0);
    store
}

#[test]
fn the_map_has_each_extent_once() {
    let store = used();
    let extents = store.kv(["map", "--format", "json"]).exits(0).json();
    let extents = extents.as_array().expect("an array");
    let stats = store.kv(["stats", "--format", "json"]).exits(0).json();
    let count = |state: &str| extents.iter().filter(|e| e["state"] == state).count() as u64;
    for (state, field) in
        [("free", "extents_free"), ("open", "extents_open"), ("sealed", "extents_sealed")]
    {
        assert_eq!(Some(count(state)), stats[field].as_u64(), "{state}: {stats}");
    }
    assert!(count("buckets") > 0 && count("overflow lines") > 0 && count("sealed") > 1);
    for (number, extent) in extents.iter().enumerate() {
        assert_eq!(extent["extent"].as_u64(), Some(number as u64));
        assert!(extent["live_bytes"].as_u64() <= extent["used_bytes"].as_u64(), "{extent}");
        // Nobody is attached for writing.
        assert!(extent["client"].is_null() && extent["pid"].is_null(), "{extent}");
        assert_eq!(extent["suspect"], false);
    }

    let lines = store.kv(["map", "--format", "jsonl"]).exits(0);
    assert_eq!(lines.lines().len(), extents.len());

    let text = store.kv(["map"]).exits(0);
    let drawn = text.lines();
    let blank = drawn.iter().position(|line| line.is_empty()).expect("a legend");
    let cells: String = drawn[1..blank].iter().map(|line| &line[9..]).collect();
    assert_eq!(cells.len(), extents.len(), "{}", text.text());
    let letters = |some: &str| cells.chars().filter(|c| some.contains(*c)).count() as u64;
    assert_eq!(letters("."), count("free"));
    assert_eq!(letters("sS"), count("sealed"));
    assert!(text.text().contains("sealed, ") && !text.text().contains('\x1b'), "{}", text.text());
}

#[test]
fn a_map_of_many_extents_has_several_to_a_cell() {
    let store = Store::unmade();
    store.kv(["create", "--size", "1GiB", "--max-size", "64GiB"]).exits(0);
    let text = store.kv(["map"]).exits(0);
    assert!(text.text().contains(" to a cell"), "{}", text.text());
    assert!(text.lines().len() < 60 && text.lines().iter().all(|line| line.len() < 80));
    assert!(text.text().contains("no memory"));
}

#[test]
fn watching_needs_a_terminal() {
    let store = Store::posix();
    store.kv(["map", "--watch"]).fails(2, "terminal");
    store.kv(["map", "--watch", "0"]).fails(2, "seconds");
}

/// What is kept does not shrink with what was given back.
#[test]
fn a_second_trim_has_nothing_to_give() {
    let store = used();
    let trim = || {
        let trimmed = store.kv(["trim", "--format", "json"]).exits(0).json();
        trimmed["trimmed_bytes"].as_u64().expect("bytes")
    };
    assert!(trim() > 1 << 20);
    assert_eq!(trim(), 0);
}

#[test]
fn info_and_stats_call_different_numbers_by_different_names() {
    let store = used();
    let info = store.kv(["info", "--format", "json"]).exits(0).json();
    let stats = store.kv(["stats", "--format", "json"]).exits(0).json();
    assert!(info["arena_bytes"].is_null(), "{info}");
    let parts = stats["arena_bytes"].as_u64().zip(stats["index_bytes"].as_u64());
    let (arena, index) = parts.expect("numbers");
    // It has all its memory from the start.
    assert_eq!(info["max_arena_bytes"].as_u64(), Some(arena + index));
}

/// Values of any size leave little: also those of a little more than half an extent.
#[test]
fn values_of_any_size_fill_the_store() {
    for len in [400, 600, 2100, 4000, 4200, 30_000] {
        let store = Store::unmade();
        store.kv(["create", "--size", "1MiB", "--extent-size", "4KiB"]).exits(0);
        let lines: String = (0..(1 << 21) / len)
            .map(|key| format!("{{\"key\":\"k{key}\",\"value\":\"{}\"}}\n", "v".repeat(len)))
            .collect();
        store.kv_with(["load", "-"], lines.as_bytes()).fails(5, "the store is full");
        let stats = store.kv(["stats", "--format", "json"]).exits(0).json();
        let part = |name: &str| stats[name].as_f64().expect("a number");
        let used = part("live_bytes") / part("arena_bytes");
        assert!(used > 0.85, "{len}: {used}");
    }
}

#[test]
fn stats_count_chains_and_sizes_when_they_are_asked_to() {
    let store = used();
    let plain = store.kv(["stats", "--format", "json"]).exits(0).json();
    assert!(plain["chain_lines"].is_null() && plain["item_sizes"].is_null(), "{plain}");
    let dead = plain["dead_bytes"].as_f64().expect("bytes");
    let arena = plain["arena_bytes"].as_f64().expect("bytes");
    let percent = plain["fragmentation_percent"].as_f64().expect("a share");
    assert!(percent > 0.0 && (percent - 100.0 * dead / arena).abs() < 1e-9, "{plain}");

    let stats = store.kv(["stats", "--histogram", "--format", "json"]).exits(0).json();
    let chains = stats["chain_lines"].as_array().expect("an array");
    let sum: u64 = chains.iter().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(Some(sum), stats["buckets"].as_u64(), "{stats}");
    let sizes = stats["item_sizes"].as_array().expect("an array");
    let of = |field: &str| sizes.iter().filter_map(|class| class[field].as_u64()).sum::<u64>();
    assert_eq!(Some(of("items")), stats["items"].as_u64(), "{stats}");
    assert_eq!(Some(of("bytes")), stats["live_bytes"].as_u64(), "{stats}");
    // 300 bytes and a little; 1 MiB and a little.
    assert_eq!(
        (sizes[0]["bytes_max"].as_u64(), sizes[0]["items"].as_u64()),
        (Some(512), Some(2000))
    );
    let last = sizes.last().expect("a class");
    assert_eq!((last["bytes_max"].as_u64(), last["items"].as_u64()), (Some(2 << 20), Some(1)));

    let text = store.kv(["stats", "--histogram"]).exits(0);
    assert!(text.text().contains("lines in a chain") && text.text().contains("512 B"));
    assert!(text.text().contains("fragmentation"), "{}", text.text());
}

/// An index that grows as it should has as many items for its lanes all the time.
#[test]
fn an_index_that_grows_is_not_called_crowded() {
    let store = Store::posix();
    let lines: String =
        (0..30_000).map(|key| format!("{{\"key\":\"k{key}\",\"value\":\"v\"}}\n")).collect();
    store.kv_with(["load", "-"], lines.as_bytes()).exits(0);
    let stats = store.kv(["stats", "--format", "json"]).exits(0).json();
    let load = stats["index_load_percent"].as_f64().expect("a share");
    assert!((90.0..105.0).contains(&load), "{stats}");
    let text = store.kv(["stats"]).exits(0);
    assert!(!text.text().contains("crowded"), "{}", text.text());
}

#[test]
fn stats_say_what_clients_counted_and_which_did() {
    let store = Store::posix();
    let counts = || store.kv(["stats", "--format", "json"]).exits(0).json();
    assert!(counts()["hit_ratio"].is_null());
    store.kv(["put", "a", "1"]).exits(0);
    store.kv(["mput", "b", "2", "c", "3"]).exits(0);
    store.kv(["del", "a"]).exits(0);
    store.kv(["del", "absent"]).exits(1);
    // A miss that computes, then two hits.
    for _ in 0..3 {
        store.kv(["get-or-run", "d", "--", "echo", "4"]).exits(0);
    }
    // A reader counts nothing.
    store.kv(["get", "b"]).exits(0);
    let stats = counts();
    let number = |field: &str| stats[field].as_u64().expect("a number");
    assert_eq!((number("puts"), number("deletes")), (4, 1), "{stats}");
    assert_eq!((number("hits"), number("misses")), (2, 1), "{stats}");
    assert_eq!((number("clients"), number("clients_counting_lookups")), (0, 0));
    let text = store.kv(["stats"]).exits(0);
    assert!(text.text().contains("2 hits, 1 miss (66.7% hits)"), "{}", text.text());
    assert!(text.text().contains("readers report nothing") && text.text().contains("4 puts"));

    let bench =
        ["bench", "--work", "mixed", "--keys", "100", "--seconds", "0.3", "--format", "json"];
    let ran = store.kv(bench).ends(0).json();
    let stats = counts();
    let more = |field: &str| stats[field].as_u64().expect("a number");
    // A worker that is ended takes what it had not added yet with it.
    let lost = ran["hits"].as_u64().expect("hits") + 2 - more("hits");
    assert!(lost < 1024, "{stats} {ran}");
    assert!(more("puts") + 1024 > ran["puts"].as_u64().expect("puts"), "{stats} {ran}");
}

#[test]
fn trim_gives_memory_back_on_every_backing_and_the_store_takes_it_again() {
    for store in Store::each() {
        let spec = &store.spec;
        let lines = |round: &str| -> Vec<u8> {
            let value = round.repeat(1000);
            let line = |key| format!("{{\"key\":\"k{key}\",\"value\":\"{value}\"}}\n");
            (0..10_000_u32).map(line).collect::<String>().into_bytes()
        };
        let resident = || {
            let info = store.kv(["info", "--format", "json"]).exits(0).json();
            info["resident_bytes"].as_u64().expect("bytes")
        };
        store.kv_with(["load", "-", "--format", "json"], &lines("a")).exits(0);
        let filled = resident();
        // Every tenth key stays, so little is free before it is cleaned.
        let keys = (0..10_000_u32).filter(|key| !key.is_multiple_of(10));
        let gone: Vec<String> = keys.map(|key| format!("k{key}")).collect();
        for some in gone.chunks(1000) {
            store.kv(["del"].into_iter().chain(some.iter().map(String::as_str))).exits(0);
        }
        let trimmed = store.kv(["trim", "--keep", "1MiB", "--format", "json"]).exits(0).json();
        let number = |field: &str| trimmed[field].as_u64().expect("a number");
        assert!(number("cleaned_extents") > 0, "{spec}: {trimmed}");
        assert!(number("trimmed_bytes") > 8 << 20, "{spec}: {trimmed}");
        // As the kernel counts it, for another process.
        let less = filled.saturating_sub(resident());
        assert!(less + (64 << 10) >= number("trimmed_bytes"), "{spec}: {less}, {trimmed}");
        let stats = store.kv(["stats", "--format", "json"]).exits(0).json();
        let extents = |field: &str| stats[field].as_u64().expect("a number");
        assert!(extents("extents_free") > 0 && extents("extents_uncommissioned") > 0, "{stats}");
        assert_eq!(stats["items"].as_u64(), Some(1000));
        assert_eq!(store.kv(["get", "k10"]).exits(0).stdout, "a".repeat(1000).as_bytes());
        store.is_clean();
        // And it grows to what it needs again.
        store.kv_with(["load", "-", "--format", "json"], &lines("b")).exits(0);
        assert!(resident() > 10_000 * 1000, "{spec}: {}, {filled}", resident());
        assert_eq!(store.kv(["get", "k9"]).exits(0).stdout, "b".repeat(1000).as_bytes());
        store.is_clean();
        let text = store.kv(["trim"]).exits(0);
        assert!(text.text().contains("given back"), "{}", text.text());
    }
}
