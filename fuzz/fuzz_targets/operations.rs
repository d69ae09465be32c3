//! Operations on a small store against a plain map.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use store_core::{
    Condition, CreateOptions, Deletion, HashKind, Outcome, Plain, PutOptions, Store, Ttl,
    WriteError, private_on_heap,
};
use store_fuzz::key;

fuzz_target!(|input: &[u8]| {
    let hash = if input.len() % 2 == 0 { HashKind::Rapidhash } else { HashKind::Siphash };
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8).hash(hash);
    let store: Store<Plain> = private_on_heap(&options, 7).expect("a small store");
    let mut session = store.open_session().expect("a client entry");
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for step in input.as_chunks::<4>().0 {
        let [what, number, low, high] = *step;
        let key = key(number);
        let size = usize::from(u16::from_le_bytes([low, high]) % 9000);
        let value: Vec<u8> = (0..size).map(|i| (i as u8) ^ low).collect();
        match what % 15 {
            0..4 => {
                let condition = match what % 15 {
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
            7 => {
                let taken = store.take(&session, &key).expect("a take");
                assert_eq!(taken, model.remove(&key));
            }
            8 | 9 => {
                let old = model.get(&key).cloned().unwrap_or_default();
                let (extended, whole) = match what % 15 {
                    8 => (store.append(&session, &key, &value), [old, value].concat()),
                    _ => (store.prepend(&session, &key, &value), [value, old].concat()),
                };
                match extended {
                    Ok(length) => {
                        assert_eq!(length, whole.len() as u64);
                        model.insert(key, whole);
                    }
                    Err(
                        WriteError::Full(_)
                        | WriteError::IndexFull { .. }
                        | WriteError::ValueTooLarge { .. },
                    ) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            10 => match store.get_and_put(&session, &key, &value, &PutOptions::new()) {
                Ok(old) => assert_eq!(old, model.insert(key, value)),
                Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            11 => {
                let hour = Ttl::Left(std::time::Duration::from_secs(3600));
                let ttl = if low % 2 == 0 { hour } else { Ttl::Never };
                match store.set_ttl(&session, &key, ttl) {
                    Ok(there) => assert_eq!(there, model.contains_key(&key)),
                    Err(WriteError::Full(_) | WriteError::ValueTooLarge { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            12 => {
                if let Some(entry) = store.get_entry(&key).expect("a lookup") {
                    let deletion = store.delete_if(&session, &key, entry.version);
                    assert_eq!(deletion.expect("a delete"), Deletion::Done);
                    assert_eq!(model.remove(&key), Some(entry.value));
                } else {
                    assert!(!model.contains_key(&key));
                }
            }
            13 => drop(store.clean(&session, 2).expect("cleaning")),
            _ => {
                let numbers = number..number.saturating_add(high % 40);
                let items: Vec<_> =
                    numbers.map(|number| (store_fuzz::key(number), &value)).collect();
                let outcomes = store.put_many(&session, &items, &PutOptions::new());
                for ((key, value), outcome) in items.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(outcome) => {
                            let old = model.insert(key, value.clone());
                            assert_eq!(outcome == Outcome::Replaced, old.is_some());
                        }
                        Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
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
