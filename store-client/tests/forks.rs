//! Processes that fork while other threads of theirs are in the middle of an operation: with a guard in
//! their hands, an item half written, memory half moved.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};
use store_client::{
    CreateOptions, GuardKind, Mode, Sealing, Spec, WriteError, Writer, create, destroy,
};

const CHILDREN: u32 = 60;

/// What a child does with a handle that its parent's threads are using. It has a copy of them as they
/// were; what those threads held in the store is the parent's, who goes on.
fn in_a_child(writer: &Writer, number: u32) {
    // No key of the parent's threads, who go on meanwhile.
    let own = format!("child {number}").into_bytes();
    writer.put(&own, &[9; 700]).expect("a put");
    assert_eq!(writer.get(&own).expect("a get").map(|value| value.len()), Some(700));
    // Every guard is needed once, those that the threads have too.
    for key in 0..300_u32 {
        match writer.put(&key.to_be_bytes(), &[3; 300]) {
            Ok(_) | Err(WriteError::Full(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    writer.incr(b"sum", 1).expect("an incr");
    writer.reap().expect("reaps");
    writer.delete(&own).expect("a delete");
}

#[track_caller]
fn fork_in_mid_operation(writer: Writer) {
    let writer = Arc::new(writer);
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..3_u8)
        .map(|thread| {
            let (writer, done) = (Arc::clone(&writer), Arc::clone(&done));
            std::thread::spawn(move || {
                for round in 0_u32.. {
                    if done.load(Ordering::Relaxed) {
                        return round;
                    }
                    let bytes = 200 + (round % 40) as usize * 50;
                    match writer.put(&(round % 300).to_be_bytes(), &vec![thread; bytes]) {
                        Ok(_) | Err(WriteError::Full(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                0
            })
        })
        .collect();
    for number in 0..CHILDREN {
        #[expect(unsafe_code, reason = "fork is what is tested")]
        // SAFETY: the child uses the store only, and leaves by `_exit`.
        let child = match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // It waits for nobody who is not there.
                alarm::set(30);
                let work = std::panic::AssertUnwindSafe(|| in_a_child(&writer, number));
                let failed = match std::panic::catch_unwind(work) {
                    Ok(()) => false,
                    Err(reason) => {
                        // The harness keeps what a panic prints in memory, which ends with this process.
                        let reason = reason.downcast_ref::<String>();
                        let _ = writeln!(std::io::stderr(), "child {number}: {reason:?}");
                        true
                    }
                };
                // Its entry is given back as by one that ends in order.
                drop(writer);
                #[expect(unsafe_code, reason = "no destructors of the test harness in the child")]
                // SAFETY: ends the process at once.
                unsafe {
                    nix::libc::_exit(i32::from(failed))
                }
            }
        };
        assert_eq!(waitpid(child, None).expect("wait"), WaitStatus::Exited(child, 0), "{number}");
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().expect("it did not fail") > 0);
    }
    writer.reap().expect("reaps");
    assert_eq!(writer.get(b"sum").expect("a get"), Some(CHILDREN.to_string().into_bytes()));
    let info = writer.info().expect("info");
    assert_eq!((info.clients.len(), info.held.len()), (1, 0));
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn a_fork_in_mid_operation_leaves_parent_and_child_to_work() {
    for guard in [GuardKind::Futex, GuardKind::SystemV] {
        let options = CreateOptions::new(8 << 20).guard(guard);
        let spec: Spec =
            format!("posix:test-forks-{}", std::process::id()).parse().expect("a spec");
        let named = create(&spec, &options).expect("a store");
        fork_in_mid_operation(named);
        destroy(&spec).expect("it is ours");
        fork_in_mid_operation(Writer::anonymous(&options).expect("a store"));
        let memfd = Writer::memfd(&options, Sealing::SharedWriters).expect("a store");
        fork_in_mid_operation(memfd);
    }
}

/// Small, so that puts move and evict what is there.
#[test]
fn a_fork_in_mid_eviction_leaves_parent_and_child_to_work() {
    let options = CreateOptions::new(2 << 20).mode(Mode::Cache);
    fork_in_mid_operation(Writer::anonymous(&options).expect("a cache"));
    fork_in_mid_operation(Writer::anonymous(&CreateOptions::new(1 << 20)).expect("a store"));
}
