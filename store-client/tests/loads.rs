//! `get_or_insert_with`: computed once, whoever asks; by another if the first one fails.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use store_client::{CreateOptions, LoadError, LoadOptions, WriteError, Writer};

const MIB: u64 = 1 << 20;

fn options() -> LoadOptions {
    LoadOptions::new().wait(Duration::from_secs(20))
}

fn private() -> Writer {
    Writer::private(&CreateOptions::new(4 * MIB)).expect("a store")
}

#[test]
fn threads_that_miss_a_key_compute_it_once() {
    let writer = private();
    let (computed, barrier) = (AtomicU32::new(0), Barrier::new(16));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                barrier.wait();
                let value = writer.get_or_insert_with(b"k", &options(), || {
                    computed.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(100));
                    Ok::<_, ()>(b"v".to_vec())
                });
                assert_eq!(value.expect("a value"), b"v");
            });
        }
    });
    assert_eq!(computed.into_inner(), 1);
    assert!(writer.info().expect("info").leases.is_empty());
}

#[test]
fn a_failure_is_its_callers_and_another_computes() {
    let writer = private();
    let failed = writer.get_or_insert_with(b"k", &options(), || Err("no database"));
    assert!(matches!(failed, Err(LoadError::Failed("no database"))));
    assert_eq!(writer.get(b"k").expect("a get"), None);

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        writer.get_or_load(b"k", || panic!("a bug"))
    }));
    assert!(panicked.is_err());
    assert!(writer.info().expect("info").leases.is_empty());
    assert_eq!(writer.get_or_load(b"k", || b"v".to_vec()).expect("a value"), b"v");
}

#[test]
fn the_first_of_those_who_wait_follows_one_that_failed() {
    let writer = private();
    let (computed, barrier) = (AtomicU32::new(0), Barrier::new(8));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let value = writer.get_or_insert_with(b"k", &options(), || {
                    std::thread::sleep(Duration::from_millis(30));
                    match computed.fetch_add(1, Ordering::Relaxed) {
                        0..3 => Err("not yet"),
                        _ => Ok(b"v".to_vec()),
                    }
                });
                assert!(matches!(value.as_deref(), Ok(b"v") | Err(LoadError::Failed("not yet"))));
            });
        }
    });
    assert_eq!(computed.into_inner(), 4);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_refused_is_refused_before_it_is_computed() {
    let writer = private();
    let unused = || -> Result<Vec<u8>, ()> { panic!("computed for nothing") };
    let long = writer.get_or_insert_with(&[7; 70_000], &options(), unused);
    assert!(matches!(long, Err(LoadError::Store(WriteError::KeyTooLong { .. }))));
    let never = writer.get_or_insert_with(b"k", &options().ttl(Duration::ZERO), unused);
    assert!(matches!(never, Err(LoadError::Store(WriteError::InvalidTtl { .. }))));
    // The size of a value shows when it is there.
    match writer.get_or_load(b"k", || vec![7; 3 << 20]) {
        Err(LoadError::NotStored { value, source: WriteError::ValueTooLarge { .. } }) => {
            assert_eq!(value.len(), 3 << 20);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_others_put_meanwhile_stays() {
    let writer = private();
    let value = writer.get_or_load(b"k", || {
        writer.put(b"k", b"newer").expect("a put");
        b"older".to_vec()
    });
    assert_eq!(value.expect("a value"), b"newer");
    assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"newer"[..]));
}

#[test]
fn loads_may_nest() {
    let writer = private();
    let begin = Instant::now();
    let value = writer.get_or_load(b"outer", || {
        let inner = writer.get_or_load(b"inner", || {
            // Its own key, and the one around it.
            let own = writer.get_or_load(b"inner", || b"own".to_vec()).expect("a value");
            let outer = writer.get_or_load(b"outer", || b"around".to_vec()).expect("a value");
            [own, outer].concat()
        });
        inner.expect("a value")
    });
    // Whoever stores first is not overwritten.
    assert_eq!(value.expect("a value"), b"around");
    assert_eq!(writer.get(b"inner").expect("a get").as_deref(), Some(&b"own"[..]));
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(writer.info().expect("info").leases.is_empty());
}

#[test]
fn more_loaders_than_leases_come_to_an_end() {
    let writer = Writer::private(&CreateOptions::new(2 * MIB)).expect("a store");
    assert_eq!(writer.info().expect("info").leases_max, 32);
    let computed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..64_u32 {
            let (writer, computed) = (&writer, &computed);
            scope.spawn(move || {
                for number in 0..100_u32 {
                    // Two threads ask for each key, and each key needs another one.
                    let key = (thread / 2 * 100 + number).to_le_bytes();
                    let value = writer.get_or_insert_with(&key, &options(), || {
                        computed.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_micros(200));
                        writer.get_or_insert_with(&[b"of ", &key[..]].concat(), &options(), || {
                            Ok::<_, LoadError<()>>(key.to_vec())
                        })
                    });
                    assert_eq!(value.expect("a value"), key);
                }
            });
        }
    });
    // Without a lease some are computed twice.
    assert!((3_200..=6_400).contains(&computed.into_inner()));
    assert_eq!(writer.len(), 6_400);
    assert!(writer.info().expect("info").leases.is_empty());
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn a_stale_value_is_given_while_one_refreshes() {
    let writer = private();
    let options = options().ttl(Duration::from_millis(50)).stale(Duration::from_secs(60));
    let load = |value: &[u8]| {
        let value = value.to_vec();
        writer.get_or_insert_with(b"k", &options, || Ok::<_, ()>(value)).expect("a value")
    };
    assert_eq!(load(b"first"), b"first");
    assert_eq!(load(b"none"), b"first", "it is fresh");
    std::thread::sleep(Duration::from_millis(80));
    let second = writer.get_or_insert_with(b"k", &options, || {
        // Everybody else gets the old value at once meanwhile.
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(load(b"none"), b"first"));
            }
        });
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert_eq!(load(b"none"), b"first", "and so does the loader");
        Ok::<_, ()>(b"second".to_vec())
    });
    assert_eq!(second.expect("a value"), b"second");
    assert_eq!(load(b"none"), b"second");
    std::thread::sleep(Duration::from_millis(80));
    let failed = writer.get_or_insert_with(b"k", &options, || Err("down"));
    assert!(matches!(failed, Err(LoadError::Failed("down"))));
    assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"second"[..]));
}

/// A forked process that computes `k` for a long time.
fn slow_loader(writer: &Writer) -> Pid {
    #[expect(unsafe_code, reason = "fork; the child only computes and exits")]
    // SAFETY: the child uses the store, sleeps and exits.
    match unsafe { fork() }.expect("forks") {
        ForkResult::Child => {
            let _ = writer.get_or_load(b"k", || {
                std::thread::sleep(Duration::from_secs(60));
                b"late".to_vec()
            });
            #[expect(unsafe_code, reason = "leaves without the test harness's cleaning up")]
            // SAFETY: `_exit` has no preconditions.
            unsafe {
                nix::libc::_exit(0)
            }
        }
        ForkResult::Parent { child } => {
            while writer.info().expect("info").leases.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            child
        }
    }
}

#[test]
fn a_stopped_loader_is_named_and_a_dead_one_followed() {
    let writer = Writer::anonymous(&CreateOptions::new(4 * MIB)).expect("a store");
    let child = slow_loader(&writer);
    kill(child, Signal::SIGSTOP).expect("sends");
    let stopped = waitpid(child, Some(WaitPidFlag::WUNTRACED)).expect("waits");
    assert!(matches!(stopped, WaitStatus::Stopped(..)));
    let short = LoadOptions::new().wait(Duration::from_millis(100));
    let load = || Ok::<_, ()>(b"v".to_vec());
    match writer.get_or_insert_with(b"k", &short, load) {
        Err(LoadError::Busy { pid, waited }) => {
            assert_eq!(pid, child.as_raw().cast_unsigned());
            assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(5));
        }
        other => panic!("{other:?}"),
    }
    kill(child, Signal::SIGKILL).expect("sends");
    waitpid(child, None).expect("waits");
    assert!(writer.check(|_, _| {}).notes.iter().any(|note| note.contains("loader lease")));
    // Found dead also by one that has no time to wait.
    let now = LoadOptions::new().wait(Duration::ZERO);
    assert_eq!(writer.get_or_insert_with(b"k", &now, load).expect("a value"), b"v");
    assert!(writer.info().expect("info").leases.is_empty());
}

#[test]
fn reaping_gives_the_leases_of_the_dead_back() {
    let writer = Writer::anonymous(&CreateOptions::new(4 * MIB)).expect("a store");
    let child = slow_loader(&writer);
    assert_eq!(writer.reap().expect("reaps").leases, 0);
    kill(child, Signal::SIGKILL).expect("sends");
    waitpid(child, None).expect("waits");
    assert_eq!(writer.reap().expect("reaps").leases, 1);
    assert!(writer.info().expect("info").leases.is_empty());
}
