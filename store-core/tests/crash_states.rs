//! Every prefix of the stores of an operation, applied to a copy of the segment: another process
//! recovers, and finds the state from before or from after.

mod common;

use std::cell::RefCell;
use std::collections::HashSet;

use common::{Model, Op, Pair, compare, contents, geometries, key, kill_clients, value};
use store_core::{CreateOptions, Mutation, Plain, Shim, Store, WriteError, from_image};

thread_local! {
    /// Address, value and size of each store since the log was emptied.
    static LOG: RefCell<Vec<(usize, u64, usize)>> = const { RefCell::new(Vec::new()) };
}

fn log(address: usize, value: u64, bytes: usize) {
    LOG.with_borrow_mut(|log| log.push((address, value, bytes)));
}

/// Logs each store.
struct Logging;

impl Shim for Logging {
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        log(address, value, bytes);
    }
}

/// Logs each store, and links an overflow line before the displaced slot is in it.
struct LinksTooEarly;

impl Shim for LinksTooEarly {
    const MUTATION: Option<Mutation> = Some(Mutation::LinkBeforeCopy);
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        log(address, value, bytes);
    }
}

/// Logs each store, and clears what a split moves before the new bucket is there.
struct ClearsEarly;

impl Shim for ClearsEarly {
    const MUTATION: Option<Mutation> = Some(Mutation::ClearBeforeSize);
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        log(address, value, bytes);
    }
}

/// Logs each store, and rewrites values under the guard, as after many attempts apart from it.
struct UnderGuard;

impl Shim for UnderGuard {
    const MUTATION: Option<Mutation> = Some(Mutation::RewriteUnderGuard);
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        log(address, value, bytes);
    }
}

/// Recovers without repairing.
struct NeverRepairs;

impl Shim for NeverRepairs {
    const MUTATION: Option<Mutation> = Some(Mutation::SkipRepair);
}

/// What a run over crash states saw.
#[derive(Default)]
struct Seen {
    states: HashSet<u64>,
    /// Of the index in the end.
    buckets: u64,
    violations: Vec<String>,
}

fn fingerprint(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Does `op` to a copy of `pair` and looks at each state that a crash in it can leave.
fn crash_in<W: Shim, R: Shim>(pair: &Pair<Plain>, op: &Op, seen: &mut Seen) -> Model {
    let base = pair.store.image().expect("an image");
    let writer: Store<W> = from_image(&base).expect("a store");
    let address = writer.info().expect("info").address as usize;
    let mut writer = Pair::with_model(writer, pair.model.clone());
    let before = writer.store.image().expect("an image");
    LOG.take();
    writer.apply(op);
    let stores = LOG.take();
    let after = writer.model.clone();
    let mut image = before;
    for done in 0..=stores.len() {
        if done > 0 {
            let (at, value, bytes) = stores[done - 1];
            let at = at - address;
            image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        if seen.states.insert(fingerprint(&image)) {
            let done = format!("{op:?}, {done} of {} stores", stores.len());
            for bystander in [None, op.key()] {
                if let Err(violation) = recover::<R>(&image, &pair.model, &after, bystander) {
                    seen.violations.push(format!("{done}, {bystander:?}: {violation}"));
                }
            }
        }
    }
    after
}

/// Recovers from `image` as another process would, and compares.
///
/// With `avoid`, somebody else works on other keys between the death and the recovery: what the
/// dead one gave back or held on to may be in other hands by then.
fn recover<R: Shim>(
    image: &[u8],
    before: &Model,
    after: &Model,
    avoid: Option<u8>,
) -> Result<(), String> {
    let (mut before, mut after) = (before.clone(), after.clone());
    let mut image = image.to_vec();
    kill_clients(&mut image);
    let store: Store<R> = from_image(&image).map_err(|error| error.to_string())?;
    // Readers need no repair: they see one of the two at once.
    let is_before = compare(&store, &before).is_ok();
    if !is_before {
        compare(&store, &after)?;
    }
    let store = match avoid {
        None => store,
        Some(avoid) => {
            let now = if is_before { before.clone() } else { after.clone() };
            let mut pair = Pair::with_model(store, now);
            for (number, size) in [(1, 9000), (2, 60), (3, 4200), (4, 3000), (5, 9000)] {
                // Chosen apart from the key in doubt, which only a repair may decide.
                let number = (avoid + number * 7) % 48;
                if number != avoid {
                    pair.apply(&Op::Put(number, size));
                    let value = pair.model.get(&key(number)).cloned();
                    for model in [&mut before, &mut after] {
                        match &value {
                            Some(value) => drop(model.insert(key(number), value.clone())),
                            None => drop(model.remove(&key(number))),
                        }
                    }
                }
            }
            pair.store
        }
    };
    let session = store.open_session().map_err(|error| error.to_string())?;
    store.reap(&session).map_err(|error| error.to_string())?;
    let report = store.check(|_, _| {});
    if let Some(violation) = report.violations.first() {
        return Err(format!("check: {violation}"));
    }
    let found = contents(&store);
    if found != *(if is_before { &before } else { &after }) {
        return Err("not the contents that readers saw before the repair".to_owned());
    }
    if store.len() != found.len() as u64 {
        return Err(format!("{} items are counted, {} are there", store.len(), found.len()));
    }
    // And it goes on: every key can be written and deleted.
    let mut pair = Pair::with_model(store, found);
    for number in 0..48 {
        pair.apply(&Op::Delete(number));
        pair.apply(&if number % 2 == 0 { Op::Put(number, 1) } else { Op::Load(number, 1) });
    }
    compare(&pair.store, &pair.model)?;
    // And nothing is lost for good: without items, no byte counts as live.
    pair.apply(&Op::Clear);
    pair.store.clean(&pair.session, 1000).map_err(|error| error.to_string())?;
    match pair.store.stats().map_err(|error| error.to_string())?.live_bytes {
        0 => Ok(()),
        live => Err(format!(
            "{live} bytes are counted live in an empty store: {:?}",
            pair.store.stats()
        )),
    }
}

/// A deterministic sequence of operations that meets every form of write.
fn sequence(seed: u64, len: usize) -> Vec<Op> {
    let mut state = seed | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    // All keys first, so that chains grow and overflow lines are linked.
    let fill = (0..48).map(|key| Op::Put(key * 5 % 48, usize::from(key) % 9));
    let mixed = (0..len)
        .map(|_| {
            let key = next(48) as u8;
            let size = match next(12) {
                0 => 4200 + next(6000) as usize,
                1 => 3900 + next(300) as usize,
                _ => next(120) as usize,
            };
            match next(30) {
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
                // More keys than one are more steps than one.
                _ => Op::PutMany(key, 1, size),
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
        ]);
    // And all gone in the end, so that they are unlinked.
    fill.chain(rewritten).chain(mixed).chain((0..48).map(Op::Delete)).chain([Op::Clear]).collect()
}

/// Walks a sequence, looking at the crash states of each operation.
fn run<W: Shim, R: Shim>(options: &CreateOptions, seed: u64, len: usize) -> Seen {
    let mut seen = Seen::default();
    let mut pair = Pair::<Plain>::new(options);
    for op in sequence(seed, len) {
        let after = crash_in::<W, R>(&pair, &op, &mut seen);
        pair.apply(&op);
        // Versions differ between the two runs, so a swap may end otherwise; the rest may not.
        if !matches!(op, Op::Swap(..)) {
            assert_eq!(pair.model.keys().len(), after.keys().len(), "{op:?}");
        }
    }
    seen.buckets = pair.store.info().expect("info").buckets;
    seen
}

#[test]
fn every_prefix_of_every_write_recovers() {
    let (mut states, mut violations) = (0, Vec::new());
    let len = if cfg!(debug_assertions) { 80 } else { 150 };
    for (number, options) in geometries().iter().enumerate() {
        let seen = run::<Logging, Plain>(options, 0x9E37_79B9 + number as u64, len);
        // Laid out for 8 items, and split on the way.
        assert!(number > 0 || seen.buckets > 4);
        states += seen.states.len();
        violations.extend(seen.violations);
    }
    eprintln!("{states} crash states");
    assert!(states > 2_000, "only {states} states");
    assert!(violations.is_empty(), "{} violations: {violations:#?}", violations.len());
}

#[test]
fn every_prefix_of_a_rewrite_under_the_guard_recovers() {
    for options in &geometries()[..1] {
        let seen = run::<UnderGuard, Plain>(options, 5, 40);
        assert!(seen.states.len() > 500, "only {} states", seen.states.len());
        assert!(seen.violations.is_empty(), "{:#?}", seen.violations);
    }
}

#[test]
fn a_dead_loader_is_followed_without_a_reaper() {
    for options in &geometries() {
        let pair = Pair::<Plain>::new(options);
        let base = pair.store.image().expect("an image");
        let writer: Store<Logging> = from_image(&base).expect("a store");
        let address = writer.info().expect("info").address as usize;
        let mut writer = Pair::with_model(writer, Model::new());
        let mut image = writer.store.image().expect("an image");
        LOG.take();
        writer.apply(&Op::Load(5, 100));
        let mut leases = 0;
        for (at, value, bytes) in LOG.take() {
            let at = at - address;
            image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            let mut image = image.clone();
            kill_clients(&mut image);
            let store: Store = from_image(&image).expect("a store");
            leases += store.held_leases().expect("leases").len();
            // What stands is its value, or nothing.
            let found = contents(&store);
            assert!(found.is_empty() || found == writer.model);
            let mut pair = Pair::with_model(store, found);
            pair.apply(&Op::Load(5, 200));
            // A value that stood was read without a guard, so what else was left is still there.
            pair.store.reap(&pair.session).expect("reaps");
            pair.verify();
        }
        assert!(leases > 20, "{leases} states with a lease of a dead client");
    }
}

#[test]
fn negative_control_without_repair() {
    let seen = run::<Logging, NeverRepairs>(&geometries()[0], 3, 20);
    assert!(!seen.violations.is_empty(), "the harness does not need the repair");
}

#[test]
fn negative_control_link_before_copy() {
    let seen = run::<LinksTooEarly, Plain>(&geometries()[0], 3, 0);
    assert!(!seen.violations.is_empty(), "the harness does not see a link that comes too early");
}

#[test]
fn negative_control_size_before_clear() {
    let seen = run::<ClearsEarly, Plain>(&geometries()[0], 3, 0);
    assert!(!seen.violations.is_empty(), "the harness does not see what a split clears too early");
}

#[test]
fn a_full_store_refuses_and_changes_nothing() {
    let mut pair = Pair::<Plain>::new(&geometries()[0]);
    for number in 0..48 {
        pair.apply(&Op::Put(number, 3000));
    }
    let image = pair.store.image().expect("an image");
    let big = value(1, 3500, 1);
    let mut refused = 0;
    for number in 0..48 {
        let key = key(number);
        let options = store_core::PutOptions::new();
        let condition = store_core::Condition::Always;
        match pair.store.put(&pair.session, &key, &big, &options, condition) {
            Err(WriteError::Full(full)) => {
                refused += 1;
                assert!(full.needed > 3500 && full.capacity > 0);
            }
            Ok(_) => {
                pair.model.insert(key, big.clone());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0 && !image.is_empty());
    pair.verify();
}
