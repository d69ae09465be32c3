//! What the handles promise to a process: threads, forks, drops, two mappings, names, permissions.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getpid};
use store_client::{
    AttachError, CreateError, CreateOptions, PutOptions, ReadError, Reader, Spec, Stored, Swapped,
    Ttl, WriteError, Writer, create, destroy,
};

/// A store with a name of its own, removed when the test ends.
struct Named {
    spec: Spec,
}

impl Named {
    fn new(test: &str) -> Self {
        let spec = format!("posix:test-{test}-{}", std::process::id()).parse().expect("a spec");
        let _ = destroy(&spec);
        Self { spec }
    }

    fn create(&self) -> Writer {
        create(&self.spec, &CreateOptions::new(4 << 20)).expect("a store")
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = destroy(&self.spec);
    }
}

#[test]
fn two_mappings_are_one_store() {
    let named = Named::new("two");
    let first = named.create();
    let second = Writer::attach(&named.spec).expect("the store");
    let reader = Reader::attach(&named.spec).expect("the store");
    assert_ne!(first.info().unwrap().address, reader.info().unwrap().address);
    assert_eq!(first.put(b"k", b"1").unwrap(), Stored::Inserted);
    assert_eq!(second.put(b"k", b"22").unwrap(), Stored::Replaced);
    assert_eq!(reader.get(b"k").unwrap().as_deref(), Some(&b"22"[..]));
    let entry = reader.get_entry(b"k").unwrap().expect("it is there");
    let none = PutOptions::new();
    assert_eq!(first.compare_and_swap(b"k", entry.version, b"3", &none).unwrap(), Swapped::Done);
    let changed = second.compare_and_swap(b"k", entry.version, b"4", &none).unwrap();
    assert!(matches!(changed, Swapped::Changed(_)));
    assert_eq!(second.compare_and_swap(b"x", entry.version, b"", &none).unwrap(), Swapped::Absent);
    assert_eq!(reader.info().unwrap().clients.len(), 2);
    drop(second);
    assert_eq!(reader.info().unwrap().clients.len(), 1, "dropping a writer detaches it");
    let writable = first.info().unwrap().writable;
    assert!(writable && !reader.info().unwrap().writable);
}

#[test]
fn threads_share_a_writer() {
    let writer = Writer::private(&CreateOptions::new(32 << 20)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let writer = &writer;
            scope.spawn(move || {
                for turn in 0..2_000_u32 {
                    let own = format!("{thread}:{}", turn % 100);
                    writer.put(own.as_bytes(), &turn.to_le_bytes()).unwrap();
                    let seen = writer.get(own.as_bytes()).unwrap();
                    assert_eq!(seen.as_deref(), Some(&turn.to_le_bytes()[..]));
                    writer.incr(b"all", 1).unwrap();
                }
            });
        }
    });
    assert_eq!(writer.get(b"all").unwrap().as_deref(), Some(&b"16000"[..]));
    assert_eq!(writer.len(), 801);
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn a_forked_child_is_a_client_of_its_own() {
    let named = Named::new("fork");
    let writer = named.create();
    writer.put(b"parent", b"1").unwrap();
    #[expect(unsafe_code, reason = "fork is what is tested")]
    // SAFETY: the child only uses the store and leaves by `_exit`.
    let forked = unsafe { fork() }.expect("fork");
    match forked {
        ForkResult::Child => {
            let wrote = writer.put(b"child", b"2").is_ok();
            let clients = writer.info().map_or(0, |info| info.clients.len());
            drop(writer);
            let code = if wrote && clients == 2 { 0 } else { 1 };
            #[expect(unsafe_code, reason = "no destructors of the test harness in the child")]
            // SAFETY: ends the process at once.
            unsafe {
                nix::libc::_exit(code)
            }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("wait");
            assert_eq!(status, WaitStatus::Exited(child, 0));
        }
    }
    assert_eq!(writer.get(b"child").unwrap().as_deref(), Some(&b"2"[..]));
    writer.put(b"parent", b"3").unwrap();
    assert_eq!(writer.info().unwrap().clients.len(), 1, "the child's entry is free again");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn what_a_dead_process_had_pinned_is_used_again() {
    let named = Named::new("pins");
    let writer = named.create();
    writer.put(b"pinned", &[7; 1000]).unwrap();
    #[expect(unsafe_code, reason = "fork is what is tested")]
    // SAFETY: the child only uses the store and is killed by its own hand.
    let forked = unsafe { fork() }.expect("fork");
    let ForkResult::Parent { child } = forked else {
        // Kept by the child until it dies; what the parent pinned would be left alone.
        let _pinned = writer.get_pinned(b"pinned");
        let _ = kill(getpid(), Signal::SIGKILL);
        unreachable!("it was killed");
    };
    let status = waitpid(child, None).expect("wait");
    assert_eq!(status, WaitStatus::Signaled(child, Signal::SIGKILL, false));
    let fill = |writer: &Writer| {
        let mut stored = 0_u32;
        while writer.put(&stored.to_le_bytes(), &[1; 1000]).is_ok() {
            stored += 1;
        }
        stored
    };
    assert_eq!(writer.reap().unwrap().clients, 1);
    writer.clear().unwrap();
    writer.clean(1000).unwrap();
    let fresh = Writer::private(&CreateOptions::new(4 << 20)).expect("a store of that size");
    assert_eq!(fill(&writer), fill(&fresh), "as much fits as in a new store");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn names_are_taken_once_and_gone_when_destroyed() {
    let named = Named::new("names");
    assert!(matches!(Reader::attach(&named.spec), Err(AttachError::NotFound { .. })));
    assert!(matches!(destroy(&named.spec), Err(AttachError::NotFound { .. })));
    let writer = named.create();
    let again = create(&named.spec, &CreateOptions::new(4 << 20));
    assert!(matches!(again, Err(CreateError::Exists { .. })));
    writer.put(b"k", b"v").unwrap();
    destroy(&named.spec).unwrap();
    assert!(writer.is_retired());
    // The mapping goes on, but nobody would find what is written to it.
    for refused in [writer.put(b"k", b"w").err(), writer.delete(b"k").err()] {
        assert!(matches!(refused, Some(WriteError::Retired { .. })), "{refused:?}");
    }
    assert_eq!(writer.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    let fresh = named.create();
    assert_eq!(fresh.get(b"k").unwrap(), None);
    assert!(!fresh.is_retired());
}

#[test]
fn a_file_outlives_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    let spec: Spec = format!("file:{}", folder.path().join("store").display()).parse().unwrap();
    let writer = create(&spec, &CreateOptions::new(4 << 20)).unwrap();
    writer.put(b"k", &[7; 10_000]).unwrap();
    assert!(writer.info().unwrap().checksums);
    drop(writer);
    let reader = Reader::attach(&spec).unwrap();
    assert_eq!(reader.get(b"k").unwrap(), Some(vec![7; 10_000]));
    let report = reader.check(|_, _| {});
    assert_eq!((report.checksums, report.violations_total), (1, 0));
}

#[test]
fn what_is_no_store_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Reader::attach(&Spec::File(path)).expect_err(name)
    };
    assert!(matches!(at("text", b"hello, world"), AttachError::NotAStore { .. }));
    assert!(matches!(at("empty", b""), AttachError::Empty { .. }));
    assert!(matches!(
        at("newer", b"CISTERN\x02........"),
        AttachError::OtherVersion { found: 2, supported: 1, .. }
    ));
    assert!(matches!(at("cut", b"CISTERN\x01"), AttachError::Truncated { .. }));
    let text = Spec::File(folder.path().join("text"));
    assert!(matches!(destroy(&text), Err(AttachError::NotAStore { .. })), "it is somebody's file");
    assert!(matches!(Reader::attach(&text), Err(AttachError::NotAStore { .. })));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("text", &link).unwrap();
    let Err(AttachError::SymbolicLink { target, .. }) = Reader::attach(&Spec::File(link)) else {
        panic!("a link is no store");
    };
    assert_eq!(target, folder.path().join("text").canonicalize().unwrap().to_str().unwrap());
    let folder = Spec::File(folder.path().to_owned());
    assert!(matches!(Reader::attach(&folder), Err(AttachError::NotAFile { .. })));
    let nothing = Spec::Fd(1 << 20);
    assert!(matches!(Reader::attach(&nothing), Err(AttachError::NotFound { .. })));
    assert!(matches!(destroy(&nothing), Err(AttachError::Unsupported { .. })));
}

#[test]
fn limits_are_kept_and_said() {
    let writer = Writer::private(&CreateOptions::new(4 << 20).extent_size(256 << 10)).unwrap();
    let long = vec![7; 65_536];
    assert!(matches!(
        writer.put(&long, b""),
        Err(WriteError::KeyTooLong { len: 65_536, limit: 65_535 })
    ));
    assert_eq!(writer.put(&long[1..], b"v").unwrap(), Stored::Inserted);
    assert_eq!(writer.get(&long[1..]).unwrap().as_deref(), Some(&b"v"[..]));
    let limit = writer.info().unwrap().value_bytes_max as usize;
    let value = vec![9; limit + 100];
    assert!(matches!(writer.put(b"k", &value), Err(WriteError::ValueTooLarge { .. })));
    writer.put(b"k", &value[..limit]).unwrap();
    // A key lies in one piece with what belongs to it.
    let small = Writer::private(&CreateOptions::new(4 << 20).extent_size(4 << 10)).unwrap();
    let limit_of_small = small.info().unwrap().key_bytes_max as usize;
    assert!((1900..2048).contains(&limit_of_small));
    assert_eq!(small.put(&long[..limit_of_small], &value[..30_000]).unwrap(), Stored::Inserted);
    assert_eq!(small.get(&long[..limit_of_small]).unwrap().as_deref(), Some(&value[..30_000]));
    assert!(matches!(small.put(&long[..2048], b""), Err(WriteError::KeyTooLong { .. })));
    let mut short = [0; 10];
    assert_eq!(
        writer.get_into(b"k", &mut short),
        Err(ReadError::BufferTooSmall { needed: limit, given: 10 })
    );
    assert_eq!(writer.get(b"k").unwrap().map(|value| value.len()), Some(limit));
    assert_eq!(writer.put(b"", b"").unwrap(), Stored::Inserted);
    assert_eq!(writer.get(b"").unwrap(), Some(Vec::new()));
    for ttl in [Duration::ZERO, Duration::from_micros(900), Duration::MAX] {
        let refused = writer.put_with(b"t", b"", &PutOptions::new().ttl(ttl));
        assert!(matches!(refused, Err(WriteError::InvalidTtl { .. })), "{ttl:?}");
    }
}

#[test]
fn items_expire() {
    let writer = Writer::private(&CreateOptions::new(4 << 20)).unwrap();
    let soon = PutOptions::new().ttl(Duration::from_millis(60));
    let late = PutOptions::new().ttl(Duration::from_secs(3600));
    writer.put_with(b"soon", b"1", &soon).unwrap();
    writer.put_with(b"late", b"1", &late).unwrap();
    writer.put(b"never", b"1").unwrap();
    assert_eq!(writer.incr(b"late", 1).unwrap(), 2);
    assert!(
        matches!(writer.ttl(b"soon").unwrap(), Some(Ttl::Left(left)) if left <= Duration::from_millis(60))
    );
    assert!(
        matches!(writer.ttl(b"late").unwrap(), Some(Ttl::Left(left)) if left > Duration::from_secs(3590))
    );
    assert_eq!(writer.ttl(b"never").unwrap(), Some(Ttl::Never));
    assert_eq!(writer.get(b"soon").unwrap().as_deref(), Some(&b"1"[..]));
    std::thread::sleep(Duration::from_millis(80));
    assert_eq!(writer.get(b"soon").unwrap(), None);
    assert_eq!(writer.ttl(b"soon").unwrap(), None);
    assert_eq!(writer.get_many(&[&b"soon"[..], b"late"]).unwrap(), [None, Some(b"2".to_vec())]);
    assert!(!writer.delete(b"soon").unwrap(), "expired is absent");
    assert!(writer.add(b"soon", b"2", &PutOptions::new()).unwrap());
    assert_eq!(writer.incr(b"soon", 5).unwrap(), 7);
}

#[test]
fn expired_items_make_room() {
    let writer = Writer::private(&CreateOptions::new(2 << 20)).unwrap();
    let soon = PutOptions::new().ttl(Duration::from_millis(30));
    let mut stored = 0;
    while writer.put_with(format!("a{stored}").as_bytes(), &[1; 1000], &soon).is_ok() {
        stored += 1;
    }
    assert!(stored > 1000);
    std::thread::sleep(Duration::from_millis(50));
    for number in 0..stored {
        writer.put(format!("b{number}").as_bytes(), &[2; 900]).unwrap();
    }
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
    assert!(writer.sweep(u64::MAX).unwrap() + writer.len() >= stored);
}
