//! Operations that read and write are one step for everybody else: threads and processes that meet
//! at the same keys lose nothing and get nothing twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use store_client::{CreateOptions, PutOptions, Spec, Swapped, Writer, create, destroy};

/// A store of 16 MiB with a name of its own, removed when the test ends.
struct Named {
    spec: Spec,
    writer: Writer,
}

impl Named {
    fn new(test: &str) -> Self {
        let spec = format!("posix:atomic-{test}-{}", std::process::id()).parse().expect("a spec");
        let _ = destroy(&spec);
        let writer = create(&spec, &CreateOptions::new(16 << 20)).expect("a store");
        Self { spec, writer }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = destroy(&self.spec);
    }
}

/// Runs `work` in so many child processes, each with its number, and waits for them.
fn in_processes(count: u32, work: impl Fn(u32) -> bool) {
    let children: Vec<_> = (0..count)
        .map(|number| {
            #[expect(unsafe_code, reason = "other processes are what is tested")]
            // SAFETY: the child only uses the store and leaves by `_exit`.
            let forked = unsafe { fork() }.expect("fork");
            match forked {
                ForkResult::Parent { child } => child,
                ForkResult::Child => {
                    let code = if work(number) { 0 } else { 1 };
                    #[expect(unsafe_code, reason = "no destructors of the harness in the child")]
                    // SAFETY: ends the process at once.
                    unsafe {
                        nix::libc::_exit(code)
                    }
                }
            }
        })
        .collect();
    for child in children {
        assert_eq!(waitpid(child, None).expect("wait"), WaitStatus::Exited(child, 0));
    }
}

fn is_sound(writer: &Writer) {
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn each_key_is_taken_once() {
    let named = Named::new("take");
    let keys: Vec<String> = (0..2_000).map(|number| format!("job:{number}")).collect();
    for key in &keys {
        named.writer.put(key.as_bytes(), key.as_bytes()).unwrap();
    }
    let taken: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let own = Writer::attach(&named.spec).unwrap();
                    let mut taken = Vec::new();
                    for key in &keys {
                        if let Some(value) = own.take(key.as_bytes()).unwrap() {
                            assert_eq!(value, key.as_bytes());
                            taken.push(key.clone());
                        }
                    }
                    taken
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(taken.len(), keys.len());
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert!(named.writer.is_empty());
    is_sound(&named.writer);
}

/// What is put again while others take: each value is taken as it was put, none twice.
#[test]
fn a_value_that_is_put_again_is_taken_whole() {
    let named = Named::new("refill");
    let writer = &named.writer;
    let ended = AtomicBool::new(false);
    let taken: Vec<Vec<u8>> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2_000_u32 {
                let value = number.to_le_bytes().repeat(1 + number as usize % 40);
                while !writer.add(b"slot", &value, &PutOptions::new()).unwrap() {
                    std::thread::yield_now();
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        let takers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut taken = Vec::new();
                    while !ended.load(Ordering::Relaxed) {
                        taken.extend(writer.take(b"slot").unwrap());
                        std::thread::yield_now();
                    }
                    taken
                })
            })
            .collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    let mut numbers = BTreeSet::new();
    for value in taken.iter().chain(&writer.take(b"slot").unwrap()) {
        let number = u32::from_le_bytes(value[..4].try_into().unwrap());
        assert_eq!(*value, number.to_le_bytes().repeat(1 + number as usize % 40));
        assert!(numbers.insert(number), "{number} was taken twice");
    }
    assert_eq!(numbers.len(), 2_000);
    is_sound(writer);
}

#[test]
fn nothing_that_four_processes_append_is_lost() {
    const EACH: u32 = 250;
    let named = Named::new("append");
    in_processes(4, |process| {
        let Ok(own) = Writer::attach(&named.spec) else { return false };
        (0..EACH).all(|turn| {
            let record = format!("{process}.{turn};");
            let one = own.append(b"behind", record.as_bytes());
            let other = own.prepend(b"before", record.as_bytes());
            one.is_ok() && other.is_ok()
        })
    });
    let records = |key: &[u8]| {
        let text = String::from_utf8(named.writer.get(key).unwrap().unwrap()).unwrap();
        let all: Vec<String> = text.split_terminator(';').map(str::to_owned).collect();
        assert_eq!(all.len(), 4 * EACH as usize);
        all
    };
    let (behind, before) = (records(b"behind"), records(b"before"));
    for process in 0..4 {
        let own = format!("{process}.");
        let of = |all: &[String]| -> Vec<String> {
            all.iter().filter(|record| record.starts_with(&own)).cloned().collect()
        };
        // In the order in which it appended them.
        let expected: Vec<String> = (0..EACH).map(|turn| format!("{own}{turn}")).collect();
        assert_eq!(of(&behind), expected);
        assert_eq!(of(&before).into_iter().rev().collect::<Vec<_>>(), expected);
    }
    is_sound(&named.writer);
}

#[test]
fn every_value_of_a_chain_is_handed_out_once() {
    const EACH: u32 = 1_000;
    let named = Named::new("chain");
    let none = PutOptions::new();
    let swap = |process: u32| {
        let Ok(own) = Writer::attach(&named.spec) else { return false };
        (0..EACH).all(|turn| {
            let mine = format!("{process}.{turn}");
            match own.get_and_put(b"baton", mine.as_bytes(), &none) {
                // What was handed out is noted where nobody else notes.
                Ok(Some(old)) => own.incr(&[b"had ", &old[..]].concat(), 1).is_ok(),
                Ok(None) => own.incr(b"firsts", 1).is_ok(),
                Err(_) => false,
            }
        })
    };
    in_processes(4, swap);
    let last = named.writer.take(b"baton").unwrap().unwrap();
    assert_eq!(named.writer.incr(&[b"had ", &last[..]].concat(), 1).unwrap(), 1);
    assert_eq!(named.writer.get(b"firsts").unwrap().as_deref(), Some(&b"1"[..]));
    for process in 0..4 {
        for turn in 0..EACH {
            let had = named.writer.get(format!("had {process}.{turn}").as_bytes()).unwrap();
            assert_eq!(had.as_deref(), Some(&b"1"[..]), "{process}.{turn}");
        }
    }
    is_sound(&named.writer);
}

/// A counter moves to a new item each time its time to live is set, and loses no step by it; and
/// those who set it get their turn, however fast others count.
#[test]
fn a_counter_counts_on_while_its_time_to_live_changes() {
    let named = Named::new("touch");
    let writer = &named.writer;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..3_000 {
                    writer.incr(b"n", 1).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for turn in 0..1_000_u64 {
                writer.expire(b"n", Duration::from_secs(3600 + turn)).unwrap();
                writer.persist(b"n").unwrap();
            }
        });
    });
    assert_eq!(writer.get(b"n").unwrap().as_deref(), Some(&b"9000"[..]));
    assert_eq!(writer.incr(b"n", 1).unwrap(), 9001);
    is_sound(writer);
}

#[test]
fn of_deletes_at_one_version_one_is_done() {
    let named = Named::new("delete-if");
    let writer = &named.writer;
    for _ in 0..200 {
        writer.put(b"k", b"v").unwrap();
        let version = writer.get_entry(b"k").unwrap().unwrap().version;
        let done: usize = std::thread::scope(|scope| {
            let delete = || writer.delete_if(b"k", version).unwrap();
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(delete)).collect();
            let outcomes = threads.into_iter().map(|thread| thread.join().unwrap());
            outcomes.filter(|outcome| *outcome == Swapped::Done).count()
        });
        assert_eq!(done, 1);
    }
    writer.put(b"k", b"v").unwrap();
    let old = writer.get_entry(b"k").unwrap().unwrap().version;
    writer.put(b"k", b"v").unwrap();
    let new = writer.get_entry(b"k").unwrap().unwrap().version;
    assert_eq!(writer.delete_if(b"k", old).unwrap(), Swapped::Changed(new));
    assert_eq!(writer.delete_if(b"k", new).unwrap(), Swapped::Done);
    assert_eq!(writer.delete_if(b"k", new).unwrap(), Swapped::Absent);
}
