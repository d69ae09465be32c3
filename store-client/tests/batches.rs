//! Many keys in one call: what comes is what single lookups give, whatever lies between.

use std::time::Duration;

use store_client::{CreateOptions, PutOptions, Values, Writer};

/// Of every kind that there is, so that one that takes the long way follows one that does not.
fn put_kind(writer: &Writer, number: usize, key: &[u8]) {
    match number % 7 {
        0 => writer.put(key, b"").map(drop),
        1 => writer.put(key, &[number as u8; 100]).map(drop),
        2 => writer.incr(key, -(number as i64)).map(drop),
        // In pieces.
        3 => writer.put(key, &vec![number as u8; 100_000]).map(drop),
        4 => {
            let gone = PutOptions::new().ttl(Duration::from_millis(1));
            writer.put_with(key, b"expired", &gone).map(drop)
        }
        5 => {
            let late = PutOptions::new().ttl(Duration::from_secs(3600));
            writer.put_with(key, &[number as u8; 33], &late).map(drop)
        }
        _ => Ok(()),
    }
    .expect("there is room");
}

/// In an index that grew, one bucket in three has more than one line.
#[test]
fn a_batch_finds_what_is_in_other_lines_than_the_first() {
    let writer = Writer::private(&CreateOptions::new(8 << 20)).expect("a store");
    let all: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
    for (number, key) in all.iter().enumerate().filter(|(number, _)| number % 5 > 0) {
        writer.put(key.as_bytes(), &number.to_le_bytes()).expect("there is room");
    }
    let mut values = Values::new();
    for count in [40_000, 17, 1] {
        writer.get_many_into(&all[..count], &mut values).expect("a batch");
        for (number, value) in values.iter().enumerate() {
            let put = (number % 5 > 0).then_some(number.to_le_bytes());
            assert_eq!(value, put.as_ref().map(|put| &put[..]), "{number}");
        }
    }
}

#[test]
fn a_batch_has_what_single_lookups_give() {
    let writer = Writer::private(&CreateOptions::new(16 << 20)).expect("a store");
    let keys: Vec<String> = (0..200).map(|number| format!("key {number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        put_kind(&writer, number, key.as_bytes());
    }
    std::thread::sleep(Duration::from_millis(30));
    let mut values = Values::new();
    // More than a batch, one, fewer than a batch, none; backwards, so that no order helps.
    for count in [200, 33, 32, 1, 7, 0] {
        let keys: Vec<&str> = keys.iter().rev().take(count).map(String::as_str).collect();
        let single: Vec<Option<Vec<u8>>> =
            keys.iter().map(|key| writer.get(key.as_bytes()).expect("a lookup")).collect();
        writer.get_many_into(&keys, &mut values).expect("a batch");
        let batch: Vec<Option<Vec<u8>>> = values.iter().map(|v| v.map(<[u8]>::to_vec)).collect();
        assert_eq!(batch, single);
        assert_eq!(values.found(), single.iter().flatten().count());
        assert_eq!(values.bytes(), single.iter().flatten().flatten().copied().collect::<Vec<u8>>());
        assert_eq!(writer.get_many(&keys).expect("a batch"), single);
        let mut seen = Vec::new();
        writer
            .get_many_with(&keys, |number, value| {
                assert_eq!(number, seen.len());
                seen.push(value.map(<[u8]>::to_vec));
            })
            .expect("a batch");
        assert_eq!(seen, single);
    }
}
