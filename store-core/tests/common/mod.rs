//! What the core's integration tests share: tiny stores, operations, and a plain map as the model.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::Union;
use store_core::{
    Condition, CreateOptions, Cursor, Outcome, PutOptions, Session, Shim, Store, Version,
    WriteError, private_on_heap,
};

/// Geometries that reach the corners: few buckets, so that chains grow; extents of a page, so that
/// values become runs; room for little.
pub fn geometries() -> [CreateOptions; 4] {
    [
        CreateOptions::new(160 << 10).extent_size(4 << 10).items(8),
        CreateOptions::new(256 << 10).extent_size(4 << 10).items(500).checksums(true),
        CreateOptions::new(1 << 20).extent_size(64 << 10).items(40),
        CreateOptions::new(160 << 10).max_size(400 << 10).extent_size(4 << 10).items(20),
    ]
}

/// One operation of a sequence. Keys are few, so that they meet.
#[derive(Debug, Clone)]
pub enum Op {
    Put(u8, usize),
    Add(u8, usize),
    Replace(u8, usize),
    /// Swaps with the version that stands, or with a wrong one.
    Swap(u8, usize, bool),
    PutText(u8, i64),
    Incr(u8, i64),
    Delete(u8),
    Clear,
    Reopen,
    /// Empties some extents.
    Clean,
}

impl Op {
    /// The one key that it is about.
    pub fn key(&self) -> Option<u8> {
        match *self {
            Self::Put(key, _)
            | Self::Add(key, _)
            | Self::Replace(key, _)
            | Self::Swap(key, ..)
            | Self::PutText(key, _)
            | Self::Incr(key, _)
            | Self::Delete(key) => Some(key),
            Self::Clear | Self::Reopen | Self::Clean => None,
        }
    }
}

/// Sizes of values: mostly small, some that fill an extent, some that need a run.
fn sizes() -> impl Strategy<Value = usize> {
    Union::new_weighted(vec![(8, 0..200_usize), (2, 3900..4200), (1, 4200..13_000)])
}

pub fn ops() -> impl Strategy<Value = Op> {
    let key = || 0..48_u8;
    prop_oneof![
        12 => (key(), sizes()).prop_map(|(key, size)| Op::Put(key, size)),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::Add(key, size)),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::Replace(key, size)),
        3 => (key(), sizes(), any::<bool>()).prop_map(|(key, size, ok)| Op::Swap(key, size, ok)),
        2 => (key(), any::<i64>()).prop_map(|(key, number)| Op::PutText(key, number)),
        4 => (key(), any::<i64>()).prop_map(|(key, by)| Op::Incr(key, by)),
        8 => key().prop_map(Op::Delete),
        1 => Just(Op::Clear),
        1 => Just(Op::Reopen),
        2 => Just(Op::Clean),
    ]
}

/// The bytes of a key: of different lengths, some binary, one empty.
pub fn key(number: u8) -> Vec<u8> {
    (0..number % 23).map(|i| number.wrapping_mul(31).wrapping_add(i)).chain([number]).collect()
}

pub fn value(key: u8, size: usize, turn: usize) -> Vec<u8> {
    (0..size).map(|i| (i ^ turn).wrapping_mul(usize::from(key) + 7) as u8).collect()
}

/// A value as the model knows it.
pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store with one session, and what it must hold.
pub struct Pair<S: Shim> {
    pub store: Store<S>,
    pub session: Session,
    pub model: Model,
    turn: usize,
}

impl<S: Shim> Pair<S> {
    pub fn new(options: &CreateOptions) -> Self {
        let store: Store<S> = private_on_heap(options, 7).expect("a tiny store");
        let session = store.open_session().expect("a client entry");
        Self { store, session, model: Model::new(), turn: 0 }
    }

    pub fn with_model(store: Store<S>, model: Model) -> Self {
        let session = store.open_session().expect("a client entry");
        Self { store, session, model, turn: 0 }
    }

    /// Does `op` to both; panics where they differ. `Full` and `IndexFull` change neither.
    pub fn apply(&mut self, op: &Op) {
        self.turn += 1;
        match *op {
            Op::Put(number, size) => {
                self.put(number, value(number, size, self.turn), Condition::Always)
            }
            Op::Add(number, size) => {
                self.put(number, value(number, size, self.turn), Condition::Absent)
            }
            Op::Replace(number, size) => {
                self.put(number, value(number, size, self.turn), Condition::Present)
            }
            Op::PutText(number, text) => {
                self.put(number, text.to_string().into_bytes(), Condition::Always)
            }
            Op::Swap(number, size, right) => {
                let entry = self.store.get_entry(&key(number)).expect("a lookup");
                let other = "1:2".parse::<Version>().expect("a version");
                let version =
                    entry.map_or(other, |entry| if right { entry.version } else { other });
                let value = value(number, size, self.turn);
                self.put(number, value, Condition::Version(version));
            }
            Op::Incr(number, by) => self.incr(number, by),
            Op::Delete(number) => {
                let deleted = self.store.delete(&self.session, &key(number)).expect("a delete");
                assert_eq!(deleted, self.model.remove(&key(number)).is_some());
            }
            Op::Clear => {
                let cleared = self.store.clear(&self.session).expect("a clear");
                assert_eq!(cleared, self.model.len() as u64);
                self.model.clear();
            }
            Op::Clean => {
                self.store.clean(&self.session, 3).expect("cleaning");
            }
            Op::Reopen => {
                self.store.close_session(&self.session).expect("a close");
                self.session = self.store.open_session().expect("a client entry");
            }
        }
    }

    fn put(&mut self, number: u8, value: Vec<u8>, condition: Condition) {
        let key = key(number);
        let present = self.model.contains_key(&key);
        let outcome = self.store.put(&self.session, &key, &value, &PutOptions::new(), condition);
        match outcome {
            Ok(Outcome::Refused(found)) => {
                assert_eq!(found.is_some(), present);
                match condition {
                    Condition::Always => panic!("an unconditional put was refused"),
                    Condition::Absent => assert!(present),
                    Condition::Present => assert!(!present),
                    Condition::Version(version) => assert_ne!(found, Some(version)),
                }
            }
            Ok(outcome) => {
                assert_eq!(outcome == Outcome::Replaced, present);
                assert!(condition != Condition::Absent || !present);
                assert!(condition != Condition::Present || present);
                self.model.insert(key, value);
            }
            Err(WriteError::Full(full)) => assert!(full.live <= full.capacity, "{full:?}"),
            Err(WriteError::IndexFull { .. }) => assert!(!present),
            Err(error) => panic!("{error}"),
        }
    }

    fn incr(&mut self, number: u8, by: i64) {
        let key = key(number);
        let text = self.model.get(&key).map(|value| String::from_utf8_lossy(value).into_owned());
        let current = match &text {
            None => Some(0),
            Some(text) => text.parse::<i64>().ok(),
        };
        let expected = current.map(|current| current.checked_add(by));
        match (self.store.add_to(&self.session, &key, i128::from(by)), expected) {
            (Ok(sum), Some(Some(expected))) => {
                assert_eq!(sum, expected);
                self.model.insert(key, sum.to_string().into_bytes());
            }
            (Err(WriteError::NotANumber), None) => {}
            (Err(WriteError::Overflow { .. }), Some(None)) => {}
            (Err(WriteError::Full(_) | WriteError::IndexFull { .. }), _) => {}
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    /// Every way of reading gives what the model has, and `check` finds nothing.
    pub fn verify(&self) {
        verify(&self.store, &self.model);
    }
}

/// Panics where `store` does not hold exactly `model`, whichever way it is read.
pub fn verify<S: Shim>(store: &Store<S>, model: &Model) {
    if let Err(difference) = compare(store, model) {
        panic!("{difference}");
    }
    let report = store.check(|_, _| {});
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(store.len(), model.len() as u64);
    let mut scanned = contents(store);
    scanned.retain(|key, value| model.get(key) != Some(value));
    assert!(scanned.is_empty(), "a scan finds {scanned:?}");
}

/// Whether lookups in `store` give what `model` has.
pub fn compare<S: Shim>(store: &Store<S>, model: &Model) -> Result<(), String> {
    let keys: Vec<Vec<u8>> = (0..48).map(key).collect();
    let many = store.get_many(&keys).map_err(|error| error.to_string())?;
    for (key, many) in keys.iter().zip(many) {
        let expected = model.get(key);
        let single = store.get(key).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; 20_000];
        let into = store.get_into(key, &mut buffer).map_err(|error| error.to_string())?;
        let into = into.map(|len| &buffer[..len]);
        if single.as_ref() != expected
            || many.as_ref() != expected
            || into != expected.map(Vec::as_slice)
            || store.contains(key) != Ok(expected.is_some())
        {
            return Err(format!("key {key:?}: {single:?}, the model has {expected:?}"));
        }
    }
    Ok(())
}

/// Everything that a scan finds.
pub fn contents<S: Shim>(store: &Store<S>) -> Model {
    let mut found = Model::new();
    let mut cursor = Some(Cursor::START);
    while let Some(at) = cursor {
        let page = store.scan(at, b"", 5).expect("a scan");
        for key in page.keys {
            let value = store.get(&key).expect("a lookup").expect("a key that was scanned");
            found.insert(key, value);
        }
        cursor = page.next;
    }
    found
}
