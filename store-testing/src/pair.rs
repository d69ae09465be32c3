//! Tiny stores, operations, and a plain map as the model.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::Union;
use store_core::{
    Condition, CreateOptions, Cursor, Deletion, HashKind, LoadError, LoadOptions, Outcome,
    PutOptions, Session, Shim, Store, Ttl, Version, WriteError, private_on_heap,
};

/// Geometries that reach the corners: few buckets, so that chains grow; extents of a page, so that
/// values become runs; room for little. Both hash functions.
pub fn geometries() -> [CreateOptions; 4] {
    [
        CreateOptions::new(160 << 10).extent_size(4 << 10).items(8),
        CreateOptions::new(256 << 10).extent_size(4 << 10).items(500).checksums(true),
        CreateOptions::new(1 << 20).extent_size(64 << 10).items(40),
        CreateOptions::new(160 << 10)
            .max_size(400 << 10)
            .extent_size(4 << 10)
            .items(20)
            .hash(HashKind::Siphash),
    ]
}

/// One operation of a sequence. Keys are few, so that they meet.
#[derive(Debug, Clone)]
pub enum Op {
    /// Puts a value of this size, and so do the next ones.
    Put(u8, usize),
    /// Puts a value as long as the one that stands.
    Overwrite(u8),
    /// Where there is none.
    Add(u8, usize),
    /// Where there is one.
    Replace(u8, usize),
    /// Swaps with the version that stands, or with a wrong one.
    Swap(u8, usize, bool),
    /// Puts a number as text.
    PutText(u8, i64),
    /// Adds to a number.
    Incr(u8, i64),
    /// Deletes a key.
    Delete(u8),
    /// Deletes the version that stands, or tries a wrong one.
    DeleteIf(u8, bool),
    /// Deletes a key and gives its value.
    Take(u8),
    /// Puts so many bytes behind a value.
    Append(u8, usize),
    /// Puts so many bytes before it.
    Prepend(u8, usize),
    /// Puts, and gives the value from before.
    GetAndPut(u8, usize),
    /// Computes a value of this size where the key is missing.
    Load(u8, usize),
    /// Sets a time to live that no test waits for.
    Expire(u8),
    /// Puts a value whose time to live is over when this is done.
    PutBrief(u8, usize),
    /// Removes what has expired.
    Sweep,
    /// Takes the time to live off.
    Persist(u8),
    /// Puts so many keys from this one on, all of this size.
    PutMany(u8, u8, usize),
    /// Deletes all keys.
    Clear,
    /// Closes the session and opens one.
    Reopen,
    /// Empties some extents.
    Clean,
    /// Gives the memory of so many free extents back, but for what is kept for cleaners.
    Trim(u32),
}

impl Op {
    /// The one key that it is about.
    pub fn key(&self) -> Option<u8> {
        match *self {
            Self::Put(key, _)
            | Self::Overwrite(key)
            | Self::Add(key, _)
            | Self::Replace(key, _)
            | Self::Swap(key, ..)
            | Self::PutText(key, _)
            | Self::Incr(key, _)
            | Self::Delete(key)
            | Self::DeleteIf(key, _)
            | Self::Take(key)
            | Self::Append(key, _)
            | Self::Prepend(key, _)
            | Self::GetAndPut(key, _)
            | Self::Load(key, _)
            | Self::Expire(key)
            | Self::PutBrief(key, _)
            | Self::Persist(key)
            | Self::PutMany(key, 1, _) => Some(key),
            Self::PutMany(..)
            | Self::Sweep
            | Self::Clear
            | Self::Reopen
            | Self::Clean
            | Self::Trim(_) => None,
        }
    }
}

/// Sizes of values: mostly small, some that fill an extent, some that need a run.
fn sizes() -> impl Strategy<Value = usize> {
    Union::new_weighted(vec![(8, 0..200_usize), (2, 3900..4200), (1, 4200..13_000)])
}

/// Operations, as they come.
pub fn ops() -> impl Strategy<Value = Op> {
    let key = || 0..48_u8;
    prop_oneof![
        12 => (key(), sizes()).prop_map(|(key, size)| Op::Put(key, size)),
        8 => key().prop_map(Op::Overwrite),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::Add(key, size)),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::Replace(key, size)),
        3 => (key(), sizes(), any::<bool>()).prop_map(|(key, size, ok)| Op::Swap(key, size, ok)),
        2 => (key(), any::<i64>()).prop_map(|(key, number)| Op::PutText(key, number)),
        4 => (key(), any::<i64>()).prop_map(|(key, by)| Op::Incr(key, by)),
        6 => key().prop_map(Op::Delete),
        2 => (key(), any::<bool>()).prop_map(|(key, right)| Op::DeleteIf(key, right)),
        3 => key().prop_map(Op::Take),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::Append(key, size)),
        2 => (key(), sizes()).prop_map(|(key, size)| Op::Prepend(key, size)),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::GetAndPut(key, size)),
        3 => (key(), sizes()).prop_map(|(key, size)| Op::Load(key, size)),
        2 => key().prop_map(Op::Expire),
        1 => key().prop_map(Op::Persist),
        1 => (key(), 0..40_u8, sizes()).prop_map(|(key, n, size)| Op::PutMany(key, n, size)),
        1 => Just(Op::Clear),
        1 => Just(Op::Reopen),
        2 => Just(Op::Clean),
        2 => (1..60_u32).prop_map(Op::Trim),
    ]
}

/// A deterministic sequence of operations that meets every form of write.
pub fn sequence(seed: u64, len: usize) -> Vec<Op> {
    let mut state = seed | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    // All keys first, so that chains grow and overflow lines are linked.
    let size = 1 + (seed % 40) as usize;
    let fill = (0..48).map(move |key| Op::Put(key * 5 % 48, usize::from(key) % size));
    let mixed = (0..len)
        .map(|_| {
            let key = next(48) as u8;
            let size = match next(12) {
                0 => 4200 + next(6000) as usize,
                1 => 3900 + next(300) as usize,
                _ => next(120) as usize,
            };
            match next(39) {
                0..8 => Op::Put(key, size),
                8 => Op::Add(key, size),
                9 => Op::Replace(key, size),
                10 => Op::Swap(key, size, true),
                11 => Op::PutText(key, next(1000) as i64),
                12..14 => Op::Incr(key, next(50) as i64),
                14..18 => Op::Delete(key),
                18 if key < 24 => Op::Reopen,
                18 if key < 36 => Op::Clean,
                18 => Op::Trim(4),
                19..21 => Op::Take(key),
                21..23 => Op::Append(key, size),
                23 => Op::Prepend(key, size),
                24 => Op::GetAndPut(key, size),
                25 => Op::Load(key, size),
                26 => Op::Expire(key),
                27 => Op::Persist(key),
                28 => Op::DeleteIf(key, true),
                29 | 30 => Op::PutBrief(key, size),
                31 => Op::Sweep,
                32..38 => Op::Overwrite(key),
                _ => Op::PutMany(key, 1 + next(3) as u8, size),
            }
        })
        .collect::<Vec<_>>();
    // Each of the ways to rewrite a value, at an item that expires, a counter and a run.
    let rewritten =
        [Op::Expire(1), Op::Append(1, 30), Op::Incr(2, 5), Op::Expire(2)].into_iter().chain([
            Op::Trim(4),
            Op::Put(3, 9000),
            Op::Persist(2),
            Op::Expire(3),
            Op::Take(3),
            Op::Take(2),
            Op::Reopen,
            Op::PutBrief(4, 60),
            Op::Sweep,
            Op::GetAndPut(5, 50),
            Op::Prepend(6, 40),
            Op::Load(4, 70),
            Op::Clean,
        ]);
    // And all gone in the end, so that they are unlinked; the last ones at once.
    fill.chain(rewritten).chain(mixed).chain((0..40).map(Op::Delete)).chain([Op::Clear]).collect()
}

/// The bytes of a key: of different lengths, some binary, one empty.
pub fn key(number: u8) -> Vec<u8> {
    (0..number % 23).map(|i| number.wrapping_mul(31).wrapping_add(i)).chain([number]).collect()
}

/// A value that tells from others of the key which one it is.
pub fn value(key: u8, size: usize, turn: usize) -> Vec<u8> {
    (0..size).map(|i| (i ^ turn).wrapping_mul(usize::from(key) + 7) as u8).collect()
}

/// What a store must hold.
pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store with one session, and what it must hold.
pub struct Pair<S: Shim> {
    /// The store.
    pub store: Store<S>,
    /// What its operations are done by.
    pub session: Session,
    /// What it must hold.
    pub model: Model,
    turn: usize,
}

impl<S: Shim> Pair<S> {
    /// A new store.
    pub fn new(options: &CreateOptions) -> Self {
        let store: Store<S> = private_on_heap(options, 7).expect("a tiny store");
        let session = store.open_session().expect("a client entry");
        Self { store, session, model: Model::new(), turn: 0 }
    }

    /// A store that holds `model`.
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
            Op::Overwrite(number) => {
                let size = self.model.get(&key(number)).map_or(24, Vec::len);
                self.put(number, value(number, size, self.turn), Condition::Always);
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
            Op::DeleteIf(number, right) => self.delete_if(number, right),
            Op::Take(number) => {
                let taken = self.store.take(&self.session, &key(number)).expect("a take");
                assert_eq!(taken, self.model.remove(&key(number)));
            }
            Op::Append(number, size) => self.extend(number, size, true),
            Op::Prepend(number, size) => self.extend(number, size, false),
            Op::GetAndPut(number, size) => self.get_and_put(number, size),
            Op::Load(number, size) => self.load(number, size),
            Op::Expire(number) => self.set_ttl(number, Ttl::Left(Duration::from_secs(3600))),
            Op::PutBrief(number, size) => self.put_brief(number, size),
            Op::Sweep => drop(self.store.sweep(&self.session, u64::MAX).expect("a sweep")),
            Op::Persist(number) => self.set_ttl(number, Ttl::Never),
            Op::PutMany(first, count, size) => self.put_many(first, count, size),
            Op::Clear => {
                let cleared = self.store.clear(&self.session).expect("a clear");
                // What has expired counts until it is swept.
                assert!(cleared >= self.model.len() as u64);
                self.model.clear();
            }
            Op::Clean => {
                self.store.clean(&self.session, 3).expect("cleaning");
            }
            Op::Trim(extents) => {
                let free = self.store.stats().expect("stats").extents_free;
                let extent_bytes = self.store.info().expect("info").extent_bytes;
                let keep = u64::from(free.saturating_sub(extents)) * extent_bytes;
                self.store.trim(&self.session, keep, |_, _| {}).expect("trimming");
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

    fn put_brief(&mut self, number: u8, size: usize) {
        let (key, value) = (key(number), value(number, size, self.turn));
        let options = PutOptions::new().ttl(Duration::from_millis(1));
        match self.store.put(&self.session, &key, &value, &options, Condition::Always) {
            Ok(_) => drop(self.model.remove(&key)),
            Err(WriteError::Full(_)) => {}
            Err(WriteError::IndexFull { .. }) => assert!(!self.model.contains_key(&key)),
            Err(error) => panic!("{error}"),
        }
        // The clock may be coarse.
        while !self.model.contains_key(&key) && self.store.contains(&key) == Ok(true) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn delete_if(&mut self, number: u8, right: bool) {
        let key = key(number);
        let entry = self.store.get_entry(&key).expect("a lookup");
        let other = "1:2".parse::<Version>().expect("a version");
        let stands = entry.map(|entry| entry.version);
        let version = if right { stands.unwrap_or(other) } else { other };
        match self.store.delete_if(&self.session, &key, version).expect("a delete") {
            Deletion::Done => {
                assert!(right && self.model.remove(&key).is_some());
            }
            Deletion::Refused(found) => {
                assert!(!right || stands.is_none());
                assert_eq!((found, found.is_some()), (stands, self.model.contains_key(&key)));
            }
        }
    }

    /// Whether a key expires; `None` if it is absent.
    fn expires(&self, key: &[u8]) -> Option<bool> {
        let ttl = self.store.ttl(key).expect("a lookup");
        ttl.map(|ttl| ttl != Ttl::Never)
    }

    fn extend(&mut self, number: u8, size: usize, behind: bool) {
        let (key, bytes) = (key(number), value(number, size, self.turn));
        let old = self.model.get(&key).cloned().unwrap_or_default();
        let expires = self.expires(&key);
        let (extended, whole) = if behind {
            (self.store.append(&self.session, &key, &bytes), [old, bytes].concat())
        } else {
            (self.store.prepend(&self.session, &key, &bytes), [bytes, old].concat())
        };
        match extended {
            Ok(length) => {
                assert_eq!(length, whole.len() as u64);
                assert_eq!(self.expires(&key), Some(expires.unwrap_or(false)));
                self.model.insert(key, whole);
            }
            Err(WriteError::ValueTooLarge { len, limit }) => {
                assert!(len == whole.len() as u64 && len > limit);
            }
            Err(WriteError::Full(_)) => {}
            Err(WriteError::IndexFull { .. }) => assert!(expires.is_none()),
            Err(error) => panic!("{error}"),
        }
    }

    fn get_and_put(&mut self, number: u8, size: usize) {
        let (key, value) = (key(number), value(number, size, self.turn));
        let options = PutOptions::new();
        match self.store.get_and_put(&self.session, &key, &value, &options) {
            Ok(old) => {
                assert_eq!(old, self.model.insert(key.clone(), value));
                assert_eq!(self.expires(&key), Some(false));
            }
            Err(WriteError::Full(_)) => {}
            Err(WriteError::IndexFull { .. }) => assert!(!self.model.contains_key(&key)),
            Err(error) => panic!("{error}"),
        }
    }

    fn load(&mut self, number: u8, size: usize) {
        let (key, value) = (key(number), value(number, size, self.turn));
        // Nobody computes anything here, so nobody is waited for.
        let options = LoadOptions::new().wait(Duration::ZERO);
        let mut computed = false;
        let loaded = self.store.get_or_insert_with(&self.session, &key, &options, || {
            computed = true;
            Ok::<_, ()>(value.clone())
        });
        assert_eq!(computed, !self.model.contains_key(&key));
        match loaded {
            Ok(loaded) => assert_eq!(&loaded, self.model.entry(key).or_insert(value)),
            Err(LoadError::NotStored { value: given, source }) => {
                assert_eq!(given, value);
                let refused = matches!(source, WriteError::Full(_) | WriteError::IndexFull { .. });
                assert!(refused, "{source}");
            }
            Err(error) => panic!("{error:?}"),
        }
        let held = self.store.held_leases().expect("the leases");
        assert!(held.iter().all(|lease| lease.client != self.session.client()), "{held:?}");
    }

    fn set_ttl(&mut self, number: u8, ttl: Ttl) {
        let key = key(number);
        let version =
            |store: &Store<S>| store.get_entry(&key).expect("a lookup").map(|entry| entry.version);
        let (before, expires) = (version(&self.store), self.expires(&key));
        match self.store.set_ttl(&self.session, &key, ttl) {
            Ok(there) => {
                assert_eq!(there, self.model.contains_key(&key));
                assert_eq!(self.expires(&key), there.then_some(ttl != Ttl::Never));
                // A key that had no time to live to be removed is not written.
                if ttl == Ttl::Never && expires == Some(false) {
                    assert_eq!(version(&self.store), before);
                }
            }
            Err(WriteError::Full(_) | WriteError::ValueTooLarge { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn put_many(&mut self, first: u8, count: u8, size: usize) {
        let numbers: Vec<u8> = (0..count).map(|next| (first + next) % 48).collect();
        let items: Vec<_> =
            numbers.iter().map(|number| (key(*number), value(*number, size, self.turn))).collect();
        let outcomes = self.store.put_many(&self.session, &items, &PutOptions::new());
        assert_eq!(outcomes.len(), items.len());
        for ((key, value), outcome) in items.into_iter().zip(outcomes) {
            match outcome {
                Ok(outcome) => {
                    let old = self.model.insert(key, value);
                    assert_eq!(outcome == Outcome::Replaced, old.is_some());
                }
                Err(WriteError::Full(_)) => {}
                Err(WriteError::IndexFull { .. }) => assert!(!self.model.contains_key(&key)),
                Err(error) => panic!("{error}"),
            }
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
        let mut buffer = vec![0; expected.map_or(0, Vec::len)];
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
