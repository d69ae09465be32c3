//! Interleavings of threads over the core's own code, chosen before each access to shared memory: the
//! guard, publication, reuse of extents, splits, links and pins; and the same with a rule taken
//! out, which must be seen. Accesses take effect in one order here, as if every one were sequentially
//! consistent: fences are not what this is about. All threads of an explorer are one of the system, so
//! what is a thread's own (leases of loaders) is not for it.
//!
//! `RUSTFLAGS="--cfg interleave" cargo test --release -p store-core --test interleavings`, in a target
//! directory of its own
#![cfg(interleave)]

use std::ops::Range;
use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use store_core::{
    Condition, CreateOptions, Mutation, PinError, Plain, PutOptions, ReadError, Session, Shim,
    Step, Store, at_each_step, private_on_heap,
};

/// Schedules of each kind that a scenario is run with; of a control, until one fails.
const SCHEDULES: usize = 100;
const CONTROL_SCHEDULES: usize = 2_000;
/// Values that a writer puts: so many that extents are used again.
const TURNS: u64 = 50;

/// A store without a rule.
macro_rules! without {
    ($name:ident) => {
        struct $name;

        impl Shim for $name {
            const OVERWRITE_APART: i64 = 1;

            fn leaves_out(rule: Mutation) -> bool {
                rule == Mutation::$name
            }
        }
    };
}

without!(SkipGenerationCheck);
without!(SkipGenerationBump);
without!(ClearBeforeSize);
without!(SkipEpochBump);
without!(SkipInFlight);
without!(SkipPins);
without!(SkipStampCheck);

/// A store whose values are overwritten where they stand as soon as they can be.
struct Hasty;

impl Shim for Hasty {
    const OVERWRITE_APART: i64 = 1;
}

/// Runs `scenario` under many schedules; panics where one does.
fn explore(schedules: usize, scenario: fn()) {
    let schedulers: [Box<dyn Scheduler + Send>; 2] = [
        Box::new(RandomScheduler::new_from_seed(7, schedules)),
        Box::new(PctScheduler::new_from_seed(7, 3, schedules)),
    ];
    for scheduler in schedulers {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        config.failure_persistence = FailurePersistence::None;
        config.max_steps = MaxSteps::ContinueAfter(3_000_000);
        config.silence_warnings = true;
        Runner::new(scheduler, config).run(move || {
            at_each_step(switch);
            scenario();
            at_each_step(|_| {});
        });
    }
}

thread_local! {
    /// Whatever is done to it, the scheduler chooses who goes on.
    static POINT: AtomicBool = const { AtomicBool::new(false) };
}

fn switch(step: Step) {
    match step {
        Step::Access => drop(POINT.with(|point| point.load(Ordering::SeqCst))),
        Step::Wait => shuttle::thread::yield_now(),
    }
}

/// Whether some schedule makes `scenario` fail.
fn fails(scenario: fn()) -> bool {
    let result = std::panic::catch_unwind(|| explore(CONTROL_SCHEDULES, scenario));
    at_each_step(|_| {});
    result.is_err()
}

struct World<S: Shim> {
    store: Store<S>,
}

impl<S: Shim> World<S> {
    fn new(size: u64, items: u64) -> Arc<Self> {
        let options = CreateOptions::new(size).extent_size(4 << 10).items(items);
        Arc::new(Self { store: private_on_heap(&options, 3).expect("a tiny store") })
    }

    fn session(&self) -> Session {
        self.store.open_session().expect("an entry")
    }

    fn put(&self, session: &Session, key: u64, value: &[u8]) {
        let (options, always) = (PutOptions::new(), Condition::Always);
        self.store.put(session, &key.to_le_bytes(), value, &options, always).expect("room");
    }

    fn get(&self, key: u64) -> Option<Vec<u8>> {
        loop {
            match self.store.get(&key.to_le_bytes()) {
                Err(ReadError::Contended { .. }) => shuttle::thread::yield_now(),
                found => return found.expect("a lookup"),
            }
        }
    }

    /// All of these keys, in one batch.
    fn get_many(&self, keys: Range<u64>) -> Vec<Option<Vec<u8>>> {
        let keys: Vec<_> = keys.map(u64::to_le_bytes).collect();
        loop {
            match self.store.get_many(&keys) {
                Err(ReadError::Contended { .. }) => shuttle::thread::yield_now(),
                found => return found.expect("lookups"),
            }
        }
    }

    fn verify(&self) {
        assert_eq!(self.store.check(|_, _| {}).violations, [""; 0]);
    }
}

/// Two of them fill an extent.
fn value(key: u64, turn: u64) -> Vec<u8> {
    vec![(key * 31 + turn * 7) as u8; 1900 + (turn % 3) as usize * 8]
}

/// Whether it is one of the values that a key may have had.
fn is_whole(key: u64, found: &[u8]) -> bool {
    (0..TURNS).any(|turn| found == value(key, turn))
}

/// A reader beside a writer that overwrites so much that extents are used again.
fn reuse<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let session = world.session();
    (0..3).for_each(|key| world.put(&session, key, &value(key, 0)));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            for key in (0..3).cycle().take_while(|_| Arc::strong_count(&world) > 1) {
                let found = world.get(key).expect("it stands");
                assert!(is_whole(key, &found), "a torn value of key {key}");
            }
        })
    };
    for turn in 1..TURNS {
        world.put(&session, turn % 3, &value(turn % 3, turn));
    }
    world.verify();
    drop(world);
    reader.join().expect("a reader");
}

/// A reader of a key that stands, beside a writer that makes the index split.
fn split<S: Shim>() {
    let world = World::<S>::new(256 << 10, 8);
    let session = world.session();
    (0..12).for_each(|key| world.put(&session, key, &[key as u8; 8]));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            for key in 0..12 {
                assert_eq!(world.get(key), Some(vec![key as u8; 8]), "key {key} is missed");
            }
            let found = world.get_many(0..12);
            assert!(found.into_iter().eq((0..12).map(|key| Some(vec![key; 8]))), "a key is missed");
        })
    };
    (12..60).for_each(|key| world.put(&session, key, &[key as u8; 8]));
    reader.join().expect("a reader");
    world.verify();
}

/// A reader of keys that stand, beside a writer whose keys come and go in the same chains.
fn chains<S: Shim>() {
    let world = World::<S>::new(256 << 10, 8);
    let session = world.session();
    (0..30).for_each(|key| world.put(&session, key, &[key as u8; 8]));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            for key in 15..30 {
                assert_eq!(world.get(key), Some(vec![key as u8; 8]), "key {key} is missed");
            }
            let found = world.get_many(15..30);
            assert!(
                found.into_iter().eq((15..30).map(|key| Some(vec![key; 8]))),
                "a key is missed"
            );
        })
    };
    for key in 0..15 {
        world.store.delete(&session, &u64::to_le_bytes(key)).expect("a delete");
        world.put(&session, 100 + key, &[9; 8]);
    }
    reader.join().expect("a reader");
    world.verify();
}

/// Two writers of one number.
fn guarded<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let world = Arc::clone(&world);
            shuttle::thread::spawn(move || {
                let session = world.session();
                for _ in 0..5 {
                    world.store.add_to(&session, b"number", 1).expect("a sum");
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    assert_eq!(world.store.get(b"number"), Ok(Some(b"10".to_vec())));
    world.verify();
}

/// A writer beside one that empties extents.
fn cleaning<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let session = world.session();
    for turn in 0..12 {
        world.put(&session, turn % 6, &value(turn % 6, turn));
    }
    let cleaner = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            let session = world.session();
            for _ in 0..3 {
                world.store.clean(&session, 3).expect("cleaning");
            }
        })
    };
    for turn in 12..24 {
        world.put(&session, turn % 6, &value(turn % 6, turn));
    }
    cleaner.join().expect("a cleaner");
    for turn in 18..24 {
        assert_eq!(world.get(turn % 6), Some(value(turn % 6, turn)), "key {}", turn % 6);
    }
    world.verify();
}

/// One that pins a value, beside a writer that overwrites it.
fn pins<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let session = world.session();
    (0..3).for_each(|key| world.put(&session, key, &value(key, 0)));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            let session = world.session();
            for key in (0..3_u64).cycle().take_while(|_| Arc::strong_count(&world) > 1) {
                match world.store.get_pinned(&session, &key.to_le_bytes()) {
                    Ok(Some(pinned)) => {
                        let first = pinned.to_vec();
                        for _ in 0..3 {
                            assert!(pinned.to_vec() == first, "a pinned value changes");
                        }
                        assert!(is_whole(key, &first), "a torn value");
                    }
                    Err(PinError::Read(ReadError::Contended { .. })) => {}
                    Ok(None) => panic!("it stands"),
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    for turn in 1..TURNS {
        // What is pinned can take the room for some of them.
        let (key, turn) = (turn % 3, turn);
        let (options, always) = (PutOptions::new(), Condition::Always);
        let _ = world.store.put(&session, &key.to_le_bytes(), &value(key, turn), &options, always);
    }
    world.verify();
    drop(world);
    reader.join().expect("a reader");
}

/// Short values, all bytes of which are the turn that they were put in.
fn short_value(turn: u64) -> [u8; 40] {
    [turn as u8; 40]
}

/// The turn of a value, if it is one.
fn turn_of(value: &[u8]) -> u8 {
    assert!(value.len() == 40 && value.iter().all(|byte| *byte == value[0]), "torn: {value:?}");
    value[0]
}

/// A reader, and one that pins, beside a writer that overwrites short values where they stand; one
/// that cleans moves them.
fn overwrites<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let session = world.session();
    (0..3).for_each(|key| world.put(&session, key, &short_value(0)));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            let mut last = [0; 3];
            for key in (0..3).cycle().take_while(|_| Arc::strong_count(&world) > 1) {
                let turn = turn_of(&world.get(key).expect("it stands"));
                assert!(turn >= last[key as usize], "key {key} goes back from {last:?} to {turn}");
                last[key as usize] = turn;
            }
        })
    };
    let pinner = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            let session = world.session();
            for key in (0..3_u64).chain(0..3) {
                match world.store.get_pinned(&session, &key.to_le_bytes()) {
                    Ok(pinned) => {
                        let pinned = pinned.expect("it stands");
                        let first = pinned.to_vec();
                        turn_of(&first);
                        for _ in 0..3 {
                            assert!(pinned.to_vec() == first, "a pinned value changes");
                        }
                    }
                    Err(PinError::Read(ReadError::Contended { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    let cleaner = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            let session = world.session();
            (0..2).for_each(|_| {
                world.store.clean(&session, 3).expect("cleaning");
            });
        })
    };
    for turn in 1..TURNS {
        world.put(&session, turn % 3, &short_value(turn));
    }
    cleaner.join().expect("a cleaner");
    pinner.join().expect("one that pins");
    for turn in TURNS - 3..TURNS {
        assert_eq!(world.get(turn % 3), Some(short_value(turn).to_vec()), "key {}", turn % 3);
    }
    world.verify();
    drop(world);
    reader.join().expect("a reader");
}

#[test]
fn overwrites_are_whole() {
    explore(SCHEDULES, overwrites::<Hasty>);
}

#[test]
fn reuse_is_seen_by_readers() {
    explore(SCHEDULES, reuse::<Plain>);
}

#[test]
fn a_split_hides_nothing() {
    explore(SCHEDULES, split::<Plain>);
}

#[test]
fn chains_hide_nothing() {
    explore(SCHEDULES, chains::<Plain>);
}

#[test]
fn a_guard_excludes() {
    explore(SCHEDULES, guarded::<Plain>);
}

#[test]
fn cleaning_loses_nothing() {
    explore(SCHEDULES, cleaning::<Plain>);
}

#[test]
fn a_pin_holds() {
    explore(SCHEDULES, pins::<Plain>);
}

#[test]
fn negative_controls() {
    let controls: [(&str, fn()); 8] = [
        ("the generation check", reuse::<SkipGenerationCheck>),
        ("the bump of the generation", reuse::<SkipGenerationBump>),
        ("the order of size and clear", split::<ClearBeforeSize>),
        ("the epoch", chains::<SkipEpochBump>),
        ("who publishes", cleaning::<SkipInFlight>),
        ("the pins", pins::<SkipPins>),
        ("the pins of what is overwritten", overwrites::<SkipPins>),
        ("the stamp check", overwrites::<SkipStampCheck>),
    ];
    let unseen: Vec<_> = controls
        .into_iter()
        .filter(|(_, scenario)| !fails(*scenario))
        .map(|(what, _)| what)
        .collect();
    assert!(unseen.is_empty(), "no schedule fails without {unseen:?}");
}
