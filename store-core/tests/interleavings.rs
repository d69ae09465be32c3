//! Interleavings of threads over the core's own code, chosen before each access to shared memory: the
//! guard, publication, reuse of extents, splits, links, leases and pins; and the same with a rule taken
//! out, which must be seen. Accesses take effect in one order here, as if every one were sequentially
//! consistent: fences are not what this is about.
//!
//! `RUSTFLAGS="--cfg interleave" cargo test --release -p store-core --test interleavings`
#![cfg(interleave)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use store_core::{
    Condition, CreateOptions, LoadOptions, Mutation, PinError, Plain, PutOptions, ReadError,
    Session, Shim, Store, before_each_access, private_on_heap,
};

/// Schedules of each kind that a scenario is run with; of a control, until one fails.
const SCHEDULES: usize = 400;
const CONTROL_SCHEDULES: usize = 20_000;

/// A store without a rule.
macro_rules! without {
    ($name:ident) => {
        struct $name;

        impl Shim for $name {
            fn mutation() -> Option<Mutation> {
                Some(Mutation::$name)
            }
        }
    };
}

without!(SkipGenerationCheck);
without!(SkipGenerationBump);
without!(ClearBeforeSize);
without!(LinkBeforeCopy);
without!(SkipEpochBump);
without!(SkipInFlight);
without!(SkipPins);
without!(SkipSecondLook);

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
            before_each_access(switch);
            scenario();
            before_each_access(|| {});
        });
    }
}

/// Lets the scheduler choose who goes on.
fn switch() {
    shuttle::thread::yield_now();
}

/// Whether some schedule makes `scenario` fail.
fn fails(scenario: fn()) -> bool {
    let result = std::panic::catch_unwind(|| explore(CONTROL_SCHEDULES, scenario));
    before_each_access(|| {});
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

    fn verify(&self) {
        assert_eq!(self.store.check(|_, _| {}).violations, [""; 0]);
    }
}

fn value(key: u64, turn: u64) -> Vec<u8> {
    vec![(key * 31 + turn * 7) as u8; 900 + (turn % 3) as usize * 8]
}

/// A reader beside a writer that overwrites so much that extents are used again.
fn reuse<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let session = world.session();
    (0..3).for_each(|key| world.put(&session, key, &value(key, 0)));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            for key in [0, 1, 2, 0, 1, 2] {
                let found = world.get(key).expect("it stands");
                let whole = (0..40).any(|turn| found == value(key, turn));
                assert!(whole, "a torn value of key {key}");
            }
        })
    };
    for turn in 1..40 {
        world.put(&session, turn % 3, &value(turn % 3, turn));
    }
    reader.join().expect("a reader");
    world.verify();
}

/// A reader of a key that stands, beside a writer that makes the index split.
fn split<S: Shim>() {
    let world = World::<S>::new(256 << 10, 8);
    let session = world.session();
    (0..12).for_each(|key| world.put(&session, key, &[key as u8; 8]));
    let reader = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            for key in (0..12).chain(0..12) {
                assert_eq!(world.get(key), Some(vec![key as u8; 8]), "key {key} is missed");
            }
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

/// Two callers of a key that is missing.
fn loads<S: Shim>() {
    let world = World::<S>::new(96 << 10, 8);
    let computed = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (world, computed) = (Arc::clone(&world), Arc::clone(&computed));
            shuttle::thread::spawn(move || {
                let session = world.session();
                // Who does not compute it goes on without.
                let options = LoadOptions::new().wait(Duration::ZERO);
                let _ = world.store.get_or_insert_with(&session, b"k", &options, || {
                    computed.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, ()>(b"v".to_vec())
                });
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().expect("a caller"));
    assert_eq!(computed.load(Ordering::Relaxed), 1);
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
            for key in [0_u64, 1] {
                match world.store.get_pinned(&session, &key.to_le_bytes()) {
                    Ok(Some(pinned)) => {
                        let first = pinned.to_vec();
                        for _ in 0..3 {
                            assert!(pinned.to_vec() == first, "a pinned value changes");
                        }
                        assert!((0..40).any(|turn| first == value(key, turn)), "a torn value");
                    }
                    Err(PinError::Read(ReadError::Contended { .. })) => {}
                    Ok(None) => panic!("it stands"),
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    for turn in 1..40 {
        world.put(&session, turn % 3, &value(turn % 3, turn));
    }
    reader.join().expect("a reader");
    world.verify();
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
fn a_value_is_computed_once() {
    explore(SCHEDULES, loads::<Plain>);
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
        ("the order of copy and link", split::<LinkBeforeCopy>),
        ("the epoch", chains::<SkipEpochBump>),
        ("who publishes", cleaning::<SkipInFlight>),
        ("the pins", pins::<SkipPins>),
        ("the second look", loads::<SkipSecondLook>),
    ];
    let unseen: Vec<_> = controls
        .into_iter()
        .filter(|(_, scenario)| !fails(*scenario))
        .map(|(what, _)| what)
        .collect();
    assert!(unseen.is_empty(), "no schedule fails without {unseen:?}");
}
