//! Values that somebody else put, read as what they are not: types of serde, types by their bytes,
//! numbers. An error, or a value that stays the same when it is put and read again.
#![no_main]

use std::cell::LazyCell;
use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use store_client::{CreateOptions, PutOptions, WriteError, Writer};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Numbers(u8, i16, u32, i64, u128, bool, char),
    Many(Vec<Shape>),
    Fields { text: String, words: Vec<u64>, next: Option<Box<Shape>>, map: BTreeMap<String, u8> },
    Pairs([(u64, Option<bool>); 3]),
}

thread_local! {
    static STORE: LazyCell<Writer> = LazyCell::new(|| {
        Writer::private(&CreateOptions::new(1 << 20)).expect("a private store")
    });
}

fuzz_target!(|value: &[u8]| STORE.with(|store| check(store, value)));

fn check(store: &Writer, value: &[u8]) {
    let options = PutOptions::new();
    store.put(b"given", value).expect("there is room");
    if let Ok(Some(shape)) = store.get_postcard::<Shape>(b"given") {
        store.put_postcard(b"again", &shape, &options).expect("it can be encoded");
        assert_eq!(store.get_postcard(b"again").expect("it can be decoded"), Some(shape));
    }
    let words = store.get_zerocopy::<[u64; 4]>(b"given");
    match words {
        Ok(words) => {
            let words = words.expect("it was put");
            store.put_zerocopy(b"again", &words, &options).expect("there is room");
            assert_eq!(store.get(b"again").expect("a lookup").as_deref(), Some(value));
        }
        Err(_) => assert_ne!(value.len(), 32),
    }
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
    match (store.incr(b"given", 1), number) {
        (Ok(sum), Some(number)) => assert_eq!(Some(sum), number.checked_add(1)),
        (Err(WriteError::Overflow { .. }), Some(i64::MAX)) | (Err(WriteError::NotANumber), _) => {}
        (answer, number) => panic!("{answer:?} for {number:?}"),
    }
}
