//! Cache mode: a put always finds room, what is found is what was put last, and what is wanted
//! stays.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;

use common::{contents, key, value};
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use proptest::test_runner::FileFailurePersistence;
use store_core::{
    Condition, CreateOptions, EvictionStats, Mode, Plain, PutOptions, Session, Shim, Store,
    from_image, private_on_heap,
};

thread_local! {
    /// Address, value and size of each store since the log was emptied.
    static LOG: RefCell<Vec<(usize, u64, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Logs each store.
struct Logging;

impl Shim for Logging {
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        LOG.with_borrow_mut(|log| log.push((address, value, bytes)));
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn tiny() -> [CreateOptions; 3] {
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

#[derive(Debug, Clone)]
enum Op {
    Put(u8, usize),
    Get(u8),
    Delete(u8),
    Incr(u8),
    Append(u8, usize),
    Take(u8),
    Clean,
    Clear,
}

fn ops() -> impl Strategy<Value = Op> {
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

struct Cache<S: Shim> {
    store: Store<S>,
    session: Session,
    /// What may be there: each key has this value, or none.
    model: Model,
    turn: usize,
}

impl<S: Shim> Cache<S> {
    fn over(store: Store<S>, model: Model) -> Self {
        let session = store.open_session().expect("a client entry");
        Self { store, session, model, turn: 0 }
    }

    fn put(&self, key: &[u8], value: &[u8]) {
        let (options, always) = (PutOptions::new(), Condition::Always);
        self.store.put(&self.session, key, value, &options, always).expect("eviction makes room");
    }

    fn apply(&mut self, op: &Op) {
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

    fn verify(&self) {
        let report = self.store.check(|_, _| {});
        assert_eq!(report.violations, Vec::<String>::new());
        for (key, value) in contents(&self.store) {
            assert_eq!(self.model.get(&key), Some(&value));
        }
    }

    fn eviction(&self) -> EvictionStats {
        self.store.stats().expect("stats").eviction.expect("it is a cache")
    }
}

fn cache<S: Shim>(options: &CreateOptions) -> Cache<S> {
    Cache::over(private_on_heap(options, 7).expect("a tiny store"), Model::new())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 200 },
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_found_was_put_last(which in 0..3_usize, sequence in proptest::collection::vec(ops(), 1..400)) {
        let mut cache = cache::<Plain>(&tiny()[which]);
        for op in &sequence {
            cache.apply(op);
        }
        cache.verify();
    }
}

#[test]
fn what_is_hit_stays_while_others_pass() {
    let cache = cache::<Plain>(&CreateOptions::new(1 << 20).items(4000).mode(Mode::Cache));
    let wanted = |number: u32| format!("wanted {number}").into_bytes();
    for number in 0..200 {
        cache.put(&wanted(number), &[1; 200]);
    }
    // Ten times what fits, and each of the wanted now and then.
    let mut missed = 0;
    for passer in 0..40_000_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
        let number = passer / 3 % 200;
        if cache.store.get(&wanted(number)).expect("a lookup").is_none() {
            missed += 1;
            cache.put(&wanted(number), &[1; 200]);
        }
    }
    // Of two with one byte for their marks, one is not marked.
    assert!(missed < 400, "{missed}");
    let eviction = cache.eviction();
    assert!(eviction.promoted >= 200 && eviction.evicted_small > 30_000, "{eviction:?}");
    // Once nobody asks for them they go, too.
    for passer in 0..400_000_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
        // Some come back while they are known, and fill the main queue.
        if passer % 4 == 0 {
            let ago = 1000 + passer.wrapping_mul(7919) % 2000;
            cache.put(&passer.saturating_sub(ago).to_le_bytes(), &[2; 200]);
        }
    }
    let left = (0..200).filter(|number| cache.store.contains(&wanted(*number)) == Ok(true)).count();
    assert_eq!(left, 0, "{:?}", cache.eviction());
    assert_eq!(cache.store.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn who_comes_back_soon_is_remembered() {
    let cache = cache::<Plain>(&CreateOptions::new(1 << 20).items(4000).mode(Mode::Cache));
    for passer in 0..8_000_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
    }
    let evicted = cache.eviction().evicted_small as u32;
    assert!(evicted > 3000);
    // The last ones that went, and those that went long ago.
    let soon = evicted - 500..evicted;
    for passer in soon.clone() {
        assert_eq!(cache.store.contains(&passer.to_le_bytes()), Ok(false));
        cache.put(&passer.to_le_bytes(), &[2; 200]);
    }
    let known = cache.eviction().came_back;
    assert!(known > 450, "{known} of 500");
    for passer in 0..100_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
    }
    assert!(cache.eviction().came_back - known < 90);
}

/// Overwrites leave dead room, which is used before anything has to go.
#[test]
fn what_was_overwritten_goes_before_what_lives() {
    let mut cache = cache::<Plain>(&CreateOptions::new(1 << 20).items(2000).mode(Mode::Cache));
    // Half of what fits.
    for turn in 0..40_000_usize {
        cache.apply(&Op::Put((turn * 7 % 250) as u8, 900 + turn % 400));
    }
    assert_eq!(cache.store.len(), 250, "{:?}", cache.eviction());
    assert_eq!(cache.eviction().evicted_bytes, 0);
    cache.verify();
}

#[test]
fn large_values_push_each_other_out() {
    let mut cache =
        cache::<Plain>(&CreateOptions::new(2 << 20).extent_size(4 << 10).mode(Mode::Cache));
    for turn in 0..2_000_usize {
        cache.apply(&Op::Put((turn * 11 % 250) as u8, turn * 7919 % 60_000));
    }
    cache.verify();
    assert!(cache.store.len() > 30);
}

/// Writers that stand still have begun to empty extents, and in a small store few are chosen at a
/// time.
#[test]
fn what_others_began_to_empty_is_in_nobodys_way() {
    let options = CreateOptions::new(600 << 10).extent_size(4 << 10).items(1000).mode(Mode::Cache);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a tiny cache");
    let sessions: Vec<_> = (0..5).map(|_| store.open_session().expect("an entry")).collect();
    let mut random = 1_u64;
    let mut put = |session: &Session| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = ((random >> 33) % 2560).to_le_bytes();
        store.put(session, &key, &[1; 200], &PutOptions::new(), Condition::Always)
    };
    for turn in 0..5000 {
        put(&sessions[turn % 4]).expect("eviction makes room");
    }
    for _ in 0..10_000 {
        put(&sessions[4]).expect("eviction makes room");
    }
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
}

/// Every prefix of the stores of an operation that evicts: nothing wrong is found afterwards, the
/// store is sound, and goes on.
#[test]
fn every_prefix_of_an_eviction_recovers() {
    let mut states = 0;
    for (number, options) in tiny().iter().enumerate() {
        let mut cache = cache::<Plain>(options);
        let op = |turn: usize| {
            let number = (turn * 37 % 250) as u8;
            match turn % 40 {
                13 => Op::Put(number, 9000),
                23 => Op::Delete(number),
                31 => Op::Get((turn * 37 % 50) as u8),
                37 => Op::Append(number, 100),
                _ => Op::Put(number, turn * 131 % 1500),
            }
        };
        for turn in 0..400 {
            cache.apply(&op(turn));
            // Some are wanted.
            cache.apply(&Op::Get((turn * 3 % 40) as u8));
        }
        let turns = if cfg!(debug_assertions) { 60 } else { 200 };
        for turn in 400..400 + turns {
            states += crash_in(&cache, &op(turn + number));
            cache.apply(&op(turn + number));
        }
        assert!(cache.eviction().evicted_bytes > 0);
    }
    eprintln!("{states} crash states");
    assert!(states > 3000, "only {states} states");
}

/// Looks at each state that a crash in `op` can leave; how many there are.
fn crash_in(cache: &Cache<Plain>, op: &Op) -> usize {
    let base = cache.store.image().expect("an image");
    let writer: Store<Logging> = from_image(&base).expect("a store");
    let address = writer.info().expect("info").address as usize;
    let mut writer = Cache::over(writer, cache.model.clone());
    writer.turn = cache.turn;
    let mut image = writer.store.image().expect("an image");
    LOG.take();
    writer.apply(op);
    let stores = LOG.take();
    for (number, (at, value, bytes)) in stores.iter().enumerate() {
        let at = at - address;
        image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..*bytes]);
        let mut image = image.clone();
        common::kill_clients(&mut image);
        let store: Store = from_image(&image).expect("a store");
        let seen = |key: &[u8], value: &Vec<u8>| {
            cache.model.get(key) == Some(value) || writer.model.get(key) == Some(value)
        };
        // Readers need no repair.
        for key in cache.model.keys().chain(writer.model.keys()) {
            if let Some(value) = store.get(key).expect("a lookup") {
                assert!(seen(key, &value), "{op:?}, {number} of {}", stores.len());
            }
        }
        let mut after = Cache::over(store, Model::new());
        after.store.reap(&after.session).expect("reaps");
        let report = after.store.check(|_, _| {});
        assert_eq!(report.violations, Vec::<String>::new(), "{op:?}, {number} of {}", stores.len());
        for (key, value) in contents(&after.store) {
            assert!(seen(&key, &value), "{op:?}, {number} of {}", stores.len());
        }
        for number in 0..60 {
            after.apply(&Op::Put(number, 700));
        }
        after.apply(&Op::Clear);
        after.store.clean(&after.session, 1000).expect("cleans");
        let left = after.store.stats().expect("stats").live_bytes;
        assert_eq!(left, 0, "{op:?}, {number} of {}", stores.len());
    }
    stores.len()
}
