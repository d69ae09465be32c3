//! What writes that depend on the value that stands do to values, counters and times to live.

use std::time::Duration;

use store_client::{
    CreateOptions, HashKind, PutOptions, Stored, Ttl, WriteError, Writer, create, destroy,
};

fn store() -> Writer {
    Writer::private(&CreateOptions::new(4 << 20)).unwrap()
}

fn hour() -> PutOptions {
    PutOptions::new().ttl(Duration::from_secs(3600))
}

fn value(writer: &Writer, key: &[u8]) -> Option<String> {
    writer.get(key).unwrap().map(|value| String::from_utf8(value).unwrap())
}

fn expires(writer: &Writer, key: &[u8]) -> bool {
    writer.ttl(key).unwrap().unwrap() != Ttl::Never
}

#[test]
fn a_counter_reads_as_text_and_stays_one_where_it_can() {
    let writer = store();
    writer.incr(b"n", 41).unwrap();
    assert!(writer.expire(b"n", Duration::from_secs(60)).unwrap());
    assert_eq!(writer.incr(b"n", 1).unwrap(), 42);
    assert!(expires(&writer, b"n"));
    assert_eq!(writer.append(b"n", b"0").unwrap(), 3);
    assert_eq!(writer.incr(b"n", 1).unwrap(), 421, "text that is a number");
    assert_eq!(writer.prepend(b"n", b"-").unwrap(), 4);
    assert_eq!(value(&writer, b"n").as_deref(), Some("-421"));
    assert!(expires(&writer, b"n"), "the time to live stays");
    writer.incr(b"n", 1).unwrap();
    assert_eq!(writer.take(b"n").unwrap().as_deref(), Some(&b"-420"[..]));
    writer.incr(b"n", 7).unwrap();
    let old = writer.get_and_put(b"n", b"x", &hour()).unwrap();
    assert_eq!(old.as_deref(), Some(&b"7"[..]));
    assert!(matches!(writer.incr(b"n", 1), Err(WriteError::NotANumber)));
}

#[test]
fn times_to_live_come_and_go_without_the_value() {
    let writer = store();
    assert!(!writer.expire(b"k", Duration::from_secs(1)).unwrap(), "absent");
    assert!(!writer.persist(b"k").unwrap());
    writer.put_with(b"k", &[7; 5_000], &hour()).unwrap();
    let before = writer.get_entry(b"k").unwrap().unwrap();
    assert!(writer.persist(b"k").unwrap());
    let after = writer.get_entry(b"k").unwrap().unwrap();
    assert_eq!((after.ttl, &after.value), (Ttl::Never, &before.value));
    assert_ne!(after.version, before.version, "a new item has a new stamp");
    assert!(writer.persist(b"k").unwrap());
    let again = writer.get_entry(b"k").unwrap().unwrap();
    assert_eq!(again.version, after.version, "nothing was written");
    writer.get_and_put(b"k", b"2", &hour()).unwrap();
    assert!(expires(&writer, b"k"));
    writer.get_and_put(b"k", b"3", &PutOptions::new()).unwrap();
    assert!(!expires(&writer, b"k"), "the new value has the time to live it is put with");
    writer.expire(b"k", Duration::from_millis(40)).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(value(&writer, b"k"), None);
    assert_eq!(writer.take(b"k").unwrap(), None);
    assert_eq!(writer.append(b"k", b"fresh").unwrap(), 5, "what expired is absent");
    assert!(!expires(&writer, b"k"));
    let refused = writer.expire(b"k", Duration::ZERO);
    assert!(matches!(refused, Err(WriteError::InvalidTtl { millis: 0, .. })));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let writer = store();
    let limit = writer.info().unwrap().value_bytes_max as usize;
    let large = vec![1; limit];
    writer.put(b"k", &large).unwrap();
    let long = writer.append(b"k", &large);
    assert!(matches!(long, Err(WriteError::ValueTooLarge { .. })), "{long:?}");
    assert_eq!(writer.get(b"k").unwrap().as_deref(), Some(&large[..]));
    let long = vec![0; 70_000];
    assert!(matches!(writer.append(&long, b""), Err(WriteError::KeyTooLong { .. })));
    assert_eq!(writer.take(&long).unwrap(), None, "a key that can't be there is absent");
}

#[test]
fn a_batch_says_of_each_key_what_came_of_it() {
    let writer = store();
    writer.put(b"there", b"0").unwrap();
    let long = vec![0; 70_000];
    let items: Vec<(&[u8], &[u8])> =
        vec![(b"there", b"1"), (&long, b""), (b"twice", b"1"), (b"twice", b"2")];
    let stored = writer.put_many(&items, &hour()).unwrap();
    assert!(matches!(
        stored[..],
        [
            Ok(Stored::Replaced),
            Err(WriteError::KeyTooLong { .. }),
            Ok(Stored::Inserted),
            Ok(Stored::Replaced)
        ]
    ));
    assert_eq!(value(&writer, b"twice").as_deref(), Some("2"));
    assert!(expires(&writer, b"there"));
    let many: Vec<(String, String)> =
        (0..1_000).map(|n| (format!("k{n}"), format!("v{n}"))).collect();
    let stored = writer.put_many(&many, &PutOptions::new()).unwrap();
    assert!(stored.iter().all(|stored| matches!(stored, Ok(Stored::Inserted))));
    for (key, expected) in &many {
        assert_eq!(value(&writer, key.as_bytes()).as_ref(), Some(expected));
    }
}

#[test]
fn a_store_keeps_the_hash_function_it_was_made_with() {
    let spec = format!("posix:siphash-{}", std::process::id()).parse().unwrap();
    let _ = destroy(&spec);
    let writer = create(&spec, &CreateOptions::new(4 << 20).hash(HashKind::Siphash)).unwrap();
    let items: Vec<(String, String)> =
        (0..3_000).map(|n| (format!("key {n}"), n.to_string())).collect();
    for stored in writer.put_many(&items, &PutOptions::new()).unwrap() {
        stored.unwrap();
    }
    let other = Writer::attach(&spec).unwrap();
    assert_eq!(other.info().unwrap().hash, "siphash-1-3");
    for (key, expected) in &items {
        assert_eq!(value(&other, key.as_bytes()).as_ref(), Some(expected));
    }
    assert_eq!(other.check(|_, _| {}).violations, Vec::<String>::new());
    assert_eq!(store().info().unwrap().hash, "rapidhash v3");
    destroy(&spec).unwrap();
}
