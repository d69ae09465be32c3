//! Operations on a small store against a plain map.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use store_core::{
    Condition, CreateOptions, Outcome, Plain, PutOptions, Store, WriteError, private_on_heap,
};
use store_fuzz::key;

fuzz_target!(|input: &[u8]| {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8);
    let store: Store<Plain> = private_on_heap(&options, 7).expect("a small store");
    let mut session = store.open_session().expect("a client entry");
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for step in input.as_chunks::<4>().0 {
        let [what, number, low, high] = *step;
        let key = key(number);
        let size = usize::from(u16::from_le_bytes([low, high]) % 9000);
        match what % 8 {
            0..4 => {
                let value: Vec<u8> = (0..size).map(|i| (i as u8) ^ low).collect();
                let condition = match what % 8 {
                    0 => Condition::Absent,
                    1 => Condition::Present,
                    _ => Condition::Always,
                };
                match store.put(&session, &key, &value, &PutOptions::new(), condition) {
                    Ok(Outcome::Refused(found)) => {
                        assert_eq!(found.is_some(), model.contains_key(&key));
                        assert_ne!(condition, Condition::Always);
                    }
                    Ok(outcome) => {
                        let old = model.insert(key, value);
                        assert_eq!(outcome == Outcome::Replaced, old.is_some());
                    }
                    Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            4 | 5 => {
                let deleted = store.delete(&session, &key).expect("a delete");
                assert_eq!(deleted, model.remove(&key).is_some());
            }
            6 => {
                let number = model.get(&key).map_or(Some(0), |value| {
                    std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok())
                });
                match store.add_to(&session, &key, i128::from(low)) {
                    Ok(sum) => {
                        assert_eq!(Some(sum), number.map(|number| number + i64::from(low)));
                        model.insert(key, sum.to_string().into_bytes());
                    }
                    Err(WriteError::NotANumber) => assert_eq!(number, None),
                    Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => {}
                    Err(WriteError::Overflow { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            _ => {
                store.close_session(&session).expect("a close");
                session = store.open_session().expect("a client entry");
            }
        }
    }
    for (key, value) in &model {
        assert_eq!(store.get(key).expect("a lookup").as_ref(), Some(value));
    }
    assert_eq!(store.len(), model.len() as u64);
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
});
