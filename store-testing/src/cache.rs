//! A store that evicts: what is found is what was put last, and nothing else is promised.

use proptest::prelude::{Just, Strategy, prop_oneof};
use store_core::{
    Condition, CreateOptions, EvictionStats, Mode, PutOptions, Session, Shim, Store, from_image,
    private_on_heap,
};

use crate::crash::{Live, kill_clients};
use crate::judge::{nothing_lives, sound};
use crate::pair::{Model, contents, key, value};
use crate::trace::Logging;

/// Geometries in which each put evicts soon: small, with checksums, and one that grows.
pub fn tiny() -> [CreateOptions; 3] {
    [
        CreateOptions::new(160 << 10).extent_size(4 << 10).items(200).mode(Mode::Cache),
        CreateOptions::new(200 << 10)
            .extent_size(4 << 10)
            .items(300)
            .checksums(true)
            .mode(Mode::Cache),
        CreateOptions::new(160 << 10)
            .max_size(240 << 10)
            .extent_size(8 << 10)
            .items(20)
            .mode(Mode::Cache),
    ]
}

/// One operation of a sequence. More keys than a tiny cache has room for.
#[derive(Debug, Clone)]
pub enum Op {
    /// Puts a value of this size.
    Put(u8, usize),
    /// Looks a key up, which says that it is wanted.
    Get(u8),
    /// Deletes a key.
    Delete(u8),
    /// Adds to a number.
    Incr(u8),
    /// Puts so many bytes behind a value.
    Append(u8, usize),
    /// Deletes a key and gives its value.
    Take(u8),
    /// Empties some extents.
    Clean,
    /// Deletes all keys.
    Clear,
}

/// Operations, as they come.
pub fn ops() -> impl Strategy<Value = Op> {
    let key = || 0..250_u8;
    let size = || prop_oneof![9 => 0..1200_usize, 2 => 3000..4100_usize, 1 => 4100..15_000_usize];
    prop_oneof![
        20 => (key(), size()).prop_map(|(key, size)| Op::Put(key, size)),
        20 => key().prop_map(Op::Get),
        3 => key().prop_map(Op::Delete),
        3 => key().prop_map(Op::Incr),
        3 => (key(), size()).prop_map(|(key, size)| Op::Append(key, size)),
        2 => key().prop_map(Op::Take),
        1 => Just(Op::Clean),
        1 => Just(Op::Clear),
    ]
}

/// A cache with one session, and what may be there.
pub struct Cache<S: Shim> {
    /// The store.
    pub store: Store<S>,
    session: Session,
    /// Each key has this value, or none.
    pub model: Model,
    turn: usize,
}

impl<S: Shim> Cache<S> {
    /// A new one.
    pub fn new(options: &CreateOptions) -> Self {
        Self::over(private_on_heap(options, 7).expect("a tiny store"), Model::new())
    }

    /// A store that may hold `model`.
    pub fn over(store: Store<S>, model: Model) -> Self {
        let session = store.open_session().expect("a client entry");
        Self { store, session, model, turn: 0 }
    }

    /// Puts; eviction makes room.
    pub fn put(&self, key: &[u8], value: &[u8]) {
        let (options, always) = (PutOptions::new(), Condition::Always);
        self.store.put(&self.session, key, value, &options, always).expect("eviction makes room");
    }

    /// Does `op` to both; panics where they differ.
    pub fn apply(&mut self, op: &Op) {
        self.turn += 1;
        match *op {
            Op::Put(number, size) => {
                let value = value(number, size, self.turn);
                self.put(&key(number), &value);
                assert_eq!(self.store.get(&key(number)).as_ref(), Ok(&Some(value.clone())));
                self.model.insert(key(number), value);
            }
            Op::Get(number) => {
                let found = self.store.get(&key(number)).expect("a lookup");
                self.agrees(&key(number), found);
            }
            Op::Delete(number) => {
                self.store.delete(&self.session, &key(number)).expect("a delete");
                assert_eq!(self.store.get(&key(number)), Ok(None));
                self.model.remove(&key(number));
            }
            Op::Incr(number) => {
                // What reads as no number is refused, and stays.
                let Ok(sum) = self.store.add_to(&self.session, &key(number), 7) else { return };
                let before = self.model.insert(key(number), sum.to_string().into_bytes());
                let before = before.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
                assert!(sum == 7 || Some(sum - 7) == before, "{sum}, {before:?}");
            }
            Op::Append(number, size) => {
                let more = value(number, size, self.turn);
                if self.store.append(&self.session, &key(number), &more).is_err() {
                    // Larger than any value may be.
                    return;
                }
                let found = self.store.get(&key(number)).expect("a lookup").expect("was put");
                let before = self.model.insert(key(number), found.clone()).unwrap_or_default();
                assert!(found == more || found == [before, more].concat());
            }
            Op::Take(number) => {
                let taken = self.store.take(&self.session, &key(number)).expect("a take");
                self.agrees(&key(number), taken);
                self.model.remove(&key(number));
            }
            Op::Clean => drop(self.store.clean(&self.session, 2).expect("cleaning")),
            Op::Clear => {
                self.store.clear(&self.session).expect("a clear");
                self.model.clear();
            }
        }
    }

    fn agrees(&mut self, key: &[u8], found: Option<Vec<u8>>) {
        match found {
            Some(found) => assert_eq!(Some(&found), self.model.get(key)),
            // It was evicted, and does not come back.
            None => drop(self.model.remove(key)),
        }
    }

    /// Panics unless `check` finds nothing, and all that is there was put last.
    pub fn verify(&self) {
        let report = self.store.check(|_, _| {});
        assert_eq!(report.violations, Vec::<String>::new());
        for (key, value) in contents(&self.store) {
            assert_eq!(self.model.get(&key), Some(&value));
        }
    }

    /// What eviction did.
    pub fn eviction(&self) -> EvictionStats {
        self.store.stats().expect("stats").eviction.expect("it is a cache")
    }
}

impl Live for Cache<Logging> {
    type Op = Op;
    type Model = Model;

    fn store(&self) -> &Store<Logging> {
        &self.store
    }

    fn model(&self) -> Model {
        self.model.clone()
    }

    fn name(op: &Op) -> &'static str {
        match op {
            Op::Put(..) => "put",
            Op::Get(_) => "get",
            Op::Delete(_) => "delete",
            Op::Incr(_) => "incr",
            Op::Append(..) => "append",
            Op::Take(_) => "take",
            Op::Clean => "clean",
            Op::Clear => "clear",
        }
    }

    fn apply(&mut self, op: &Op) {
        Self::apply(self, op);
    }

    /// Nothing is found that was not put last before the death, by it, or is on its way.
    fn judge(image: &[u8], _: &Op, before: &Model, after: &Model) -> Result<(), String> {
        let mut image = image.to_vec();
        kill_clients(&mut image);
        let store: Store<Logging> = from_image(&image).map_err(|error| error.to_string())?;
        let allowed = |key: &Vec<u8>, value: &Vec<u8>| {
            before.get(key) == Some(value) || after.get(key) == Some(value)
        };
        // Readers need no repair.
        for key in before.keys().chain(after.keys()) {
            let found = store.get(key).map_err(|error| error.to_string())?;
            if found.is_some_and(|value| !allowed(key, &value)) {
                return Err(format!("key {key:?} has a value that was not put last"));
            }
        }
        let mut cache = Self::over(store, Model::new());
        cache.store.reap(&cache.session).map_err(|error| error.to_string())?;
        sound(&cache.store)?;
        if let Some((key, _)) =
            contents(&cache.store).iter().find(|(key, value)| !allowed(key, value))
        {
            return Err(format!("key {key:?} has a value that was not put last, once repaired"));
        }
        for number in 0..60 {
            cache.apply(&Op::Put(number, 700));
        }
        cache.apply(&Op::Clear);
        cache.store.clean(&cache.session, 1000).map_err(|error| error.to_string())?;
        nothing_lives(&cache.store)
    }
}

/// The operation that a walk does in turn `turn`: mostly puts, so that each evicts.
pub fn turn_of(turn: usize) -> Op {
    let number = (turn * 37 % 250) as u8;
    match turn % 40 {
        13 => Op::Put(number, 9000),
        17 => Op::Take(number),
        19 => Op::Clean,
        23 => Op::Delete(number),
        29 => Op::Incr(number),
        31 => Op::Get((turn * 37 % 50) as u8),
        37 => Op::Append(number, 100),
        _ => Op::Put(number, turn * 131 % 1500),
    }
}
