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
    for (state, field) in [
        ("free", "extents_free"),
        ("open", "extents_open"),
        ("sealed", "extents_sealed"),
        ("large value", "extents_run"),
    ] {
        assert_eq!(Some(count(state)), stats[field].as_u64(), "{state}: {stats}");
    }
    assert!(count("buckets") > 0 && count("overflow lines") > 0 && count("large value") > 1);
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
    assert_eq!(letters("lL"), count("large value"));
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
