//! What handles on each kind of memory promise: growth, forked workers, descriptors, permissions.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use store_client::{
    AttachError, Backing, CreateError, CreateOptions, Reader, Sealing, Spec, Writer, create,
    destroy, set_owner, set_permissions,
};

/// A spec of its own, without a store when the test ends.
struct Named(Spec);

impl Named {
    /// One of each backing that has names.
    fn each(test: &str) -> [Named; 4] {
        let pid = std::process::id();
        let directory = std::env::temp_dir().display().to_string();
        // Tests have names of different lengths, so keys differ too.
        let key = (0x44 << 24) | ((pid & 0xffff) << 8) | test.len() as u32;
        let specs = [
            format!("posix:test-{test}-{pid}"),
            format!("sysv:test-{test}-{pid}"),
            format!("sysv:{key:#x}"),
            format!("file:{directory}/cistern-test-{test}-{pid}"),
        ];
        specs.map(|spec| Named(spec.parse().expect("a spec")))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = destroy(&self.0);
    }
}

/// A store that begins small.
fn growing() -> CreateOptions {
    CreateOptions::new(2 << 20).max_size(24 << 20).items(10_000)
}

/// Fills a store until it is full, which takes all the memory that it may have.
#[track_caller]
fn fill(writer: &Writer) {
    let before = writer.info().expect("info").extents;
    let mut stored = 0_u32;
    while writer.put(&stored.to_le_bytes(), &[7; 10_000]).is_ok() {
        stored += 1;
    }
    assert!(stored > 1_500, "{stored}");
    let info = writer.info().expect("info");
    assert!(info.extents > before && info.extents == info.extents_max);
    assert!(info.resident_bytes > 20 << 20, "{}", info.resident_bytes);
    assert_eq!(
        writer.get(&7_u32.to_le_bytes()).expect("a get").map(|value| value.len()),
        Some(10_000)
    );
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

/// Forks. The child has the handle, runs `work` and ends with whether it was right; the parent has
/// it back.
#[track_caller]
fn forked(writer: Writer, work: impl FnOnce(Writer) -> bool) -> (Writer, Pid) {
    #[expect(unsafe_code, reason = "fork is what is tested")]
    // SAFETY: the child only uses the store and leaves by `_exit`.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => (writer, child),
        ForkResult::Child => {
            let right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(writer)));
            #[expect(unsafe_code, reason = "no destructors of the test harness in the child")]
            // SAFETY: ends the process at once.
            unsafe {
                nix::libc::_exit(i32::from(!right.unwrap_or(false)))
            }
        }
    }
}

#[track_caller]
fn ended_well(child: Pid) {
    assert_eq!(waitpid(child, None).expect("wait"), WaitStatus::Exited(child, 0));
}

#[test]
fn every_backing_grows() {
    for named in Named::each("growth") {
        let writer = create(&named.0, &growing()).expect("a store");
        fill(&writer);
    }
    let sealed = [Sealing::SharedWriters, Sealing::ReadOnlyForOthers];
    for sealing in sealed {
        fill(&Writer::memfd(&growing(), sealing).expect("a store"));
    }
    fill(&Writer::anonymous(&growing()).expect("a store"));
}

/// Gives the memory of a store back that has been emptied; what is put then stays readable.
#[track_caller]
fn trim_all_but_a_key(writer: &Writer) {
    writer.put(b"stays", b"here").expect("a put");
    let before = writer.info().expect("info");
    let trimmed = writer.trim(1 << 20, |_, _| {}).expect("trims");
    let info = writer.info().expect("info");
    assert!(trimmed.bytes > 18 << 20, "{trimmed:?}");
    assert_eq!(info.segment_bytes, before.segment_bytes - trimmed.bytes);
    // A private store's memory is not told.
    if before.resident_bytes > 0 {
        let less = before.resident_bytes - info.resident_bytes;
        assert!(less + (64 << 10) >= trimmed.bytes, "{less}: {trimmed:?}");
    }
    assert_eq!(writer.reader().get(b"stays").expect("a get").as_deref(), Some(&b"here"[..]));
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn every_backing_gives_memory_back_and_grows_again() {
    let options = growing();
    let named = Named::each("trim");
    let mut writers: Vec<Writer> =
        named.iter().map(|named| create(&named.0, &options).expect("a store")).collect();
    writers.push(Writer::memfd(&options, Sealing::SharedWriters).expect("a memfd"));
    writers.push(Writer::anonymous(&options).expect("anonymous memory"));
    for writer in &writers {
        fill(writer);
        for _ in 0..2 {
            writer.clear().expect("a clear");
            trim_all_but_a_key(writer);
            writer.delete(b"stays").expect("a delete");
            fill(writer);
        }
    }
    let private = Writer::private(&options).expect("a private store");
    for key in 0..1500_u32 {
        private.put(&key.to_le_bytes(), &[7; 10_000]).expect("a put");
    }
    private.clear().expect("a clear");
    assert!(private.trim(0, |_, _| {}).expect("trims").bytes > 10 << 20);
    private.put(b"k", &[8; 10_000]).expect("a put");
    assert_eq!(private.get(b"k").expect("a get"), Some(vec![8; 10_000]));
}

/// Several clients take memory and give it back, while one trims all the time. An extent that counts
/// as having memory and has none would be missing from what the kernel counts.
#[test]
fn memory_goes_back_and_forth_under_many_hands() {
    let maker = Writer::memfd(&growing(), Sealing::SharedWriters).expect("a memfd");
    let spec = Spec::Fd(maker.descriptor().expect("a descriptor").as_raw_fd());
    let (done, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    let trimmed = std::thread::scope(|scope| {
        for client in 0..3_u8 {
            let (spec, done, refused) = (&spec, &done, &refused);
            scope.spawn(move || {
                let writer = Writer::attach(spec).expect("a client");
                for round in (0..=u8::MAX).cycle() {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    // Some in an extent, some in several.
                    let value = |key: u8| {
                        let bytes = if key.is_multiple_of(10) { 300_000 } else { 3000 };
                        vec![round ^ key; bytes]
                    };
                    let stored: Vec<u8> = (0..60)
                        .filter(|key| writer.put(&[client, *key], &value(*key)).is_ok())
                        .collect();
                    refused.fetch_add(60 - stored.len() as u32, Ordering::Relaxed);
                    for key in stored {
                        let found = writer.get(&[client, key]).expect("a get");
                        assert!(found == Some(value(key)), "client {client}, key {key}");
                        assert!(writer.delete(&[client, key]).expect("a delete"));
                    }
                }
            });
        }
        let start = Instant::now();
        let mut trimmed = 0;
        while start.elapsed() < Duration::from_secs(2) {
            trimmed += maker.trim(0, |_, _| {}).expect("trims").bytes;
        }
        done.store(true, Ordering::Relaxed);
        trimmed
    });
    assert!(trimmed > 8 << 20, "{trimmed}");
    let info = maker.info().expect("info");
    assert!(info.resident_bytes >= info.segment_bytes, "{info:?}");
    assert_eq!(maker.check(|_, _| {}).violations, Vec::<String>::new());
    eprintln!("{trimmed} bytes given back, {refused:?} puts refused");
}

#[test]
fn a_sealed_memfd_keeps_its_memory() {
    let writer = Writer::memfd(&growing(), Sealing::ReadOnlyForOthers).expect("a memfd");
    let before = writer.info().expect("info").extents;
    let refused = writer.trim(0, |_, _| {}).expect_err("refused");
    assert!(refused.to_string().contains("sealed"), "{refused}");
    assert_eq!(writer.info().expect("info").extents, before);
}

#[test]
fn every_named_backing_is_made_once_and_told_when_it_is_gone() {
    for named in Named::each("names") {
        let spec = &named.0;
        assert!(matches!(Reader::attach(spec), Err(AttachError::NotFound { .. })), "{spec}");
        assert!(matches!(destroy(spec), Err(AttachError::NotFound { .. })), "{spec}");
        let options = CreateOptions::new(2 << 20);
        let writer = create(spec, &options).expect("a store");
        assert!(matches!(create(spec, &options), Err(CreateError::Exists { .. })), "{spec}");
        writer.put(b"k", b"v").expect("a put");
        let reader = Reader::attach(spec).expect("the store");
        assert_eq!(reader.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
        assert!(!reader.info().expect("info").writable);
        destroy(spec).expect("it is ours");
        assert!(reader.is_retired() && writer.is_retired(), "{spec}");
        assert!(matches!(Reader::attach(spec), Err(AttachError::NotFound { .. })), "{spec}");
        let again = create(spec, &options).expect("the name is free");
        assert_eq!(again.get(b"k").expect("a get"), None);
        assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn creators_and_destroyers_of_one_name_do_not_lose_a_store() {
    for named in Named::each("races") {
        let spec = &named.0;
        let options = CreateOptions::new(1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        if let Ok(writer) = create(spec, &options) {
                            // Nobody but its maker destroys it.
                            assert!(!writer.is_retired(), "{spec}");
                            writer.put(b"k", b"v").expect("a put");
                            let seen = Reader::attach(spec).expect("it is there");
                            assert_eq!(seen.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
                            destroy(spec).expect("it is ours");
                            assert!(writer.is_retired(), "{spec}");
                        }
                    }
                });
            }
        });
        assert!(matches!(Reader::attach(spec), Err(AttachError::NotFound { .. })), "{spec}");
    }
}

#[test]
fn workers_share_anonymous_memory() {
    let mut writer = Writer::anonymous(&CreateOptions::new(4 << 20)).expect("a store");
    assert_eq!(writer.info().expect("info").backing, Backing::Anonymous);
    assert!(writer.descriptor().is_none());
    writer.put(b"from the parent", b"1").expect("a put");
    let mut workers = Vec::new();
    for worker in 0..4_u32 {
        let (back, child) = forked(writer, |writer| {
            let seen = writer.get(b"from the parent").expect("a get").is_some();
            for _ in 0..1_000 {
                writer.incr(b"sum", 1).expect("an incr");
            }
            writer.put(&worker.to_le_bytes(), b"done").expect("a put");
            seen
        });
        writer = back;
        workers.push(child);
    }
    workers.into_iter().for_each(ended_well);
    assert_eq!(writer.get(b"sum").expect("a get").as_deref(), Some(&b"4000"[..]));
    assert_eq!(writer.info().expect("info").clients.len(), 1, "the workers' entries are free");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

/// The protection of the mapping at an address, as `/proc` shows it.
fn protection(address: u64) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.starts_with(&format!("{address:x}-")))?;
    line.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn a_worker_gives_writing_up() {
    let writer = Writer::anonymous(&CreateOptions::new(4 << 20)).expect("a store");
    writer.put(b"k", b"1").expect("a put");
    let address = writer.info().expect("info").address;
    assert_eq!(protection(address).as_deref(), Some("rw-s"));
    let (writer, worker) = forked(writer, |writer| {
        let reader = writer.into_protected_reader().expect("mprotect");
        let protected = protection(address).as_deref() == Some("r--s");
        protected && !reader.info().expect("info").writable && reader.get(b"k").is_ok()
    });
    ended_well(worker);
    // A worker that wrote before is no client any more.
    let (writer, worker) = forked(writer, |writer| {
        writer.put(b"k", b"2").expect("a put");
        let reader = writer.into_protected_reader().expect("mprotect");
        reader.info().expect("info").clients.len() == 1
    });
    ended_well(worker);
    writer.put(b"k", b"3").expect("its parent writes");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn a_sealed_memfd_is_written_by_its_maker_and_forked_workers_only() {
    let options = CreateOptions::new(4 << 20);
    let writer = Writer::memfd(&options, Sealing::ReadOnlyForOthers).expect("a store");
    let spec = Spec::Fd(writer.descriptor().expect("a memfd has one").as_raw_fd());
    assert!(matches!(Writer::attach(&spec), Err(AttachError::Sealed { .. })));
    let reader = Reader::attach(&spec).expect("a reader");
    let (writer, worker) = forked(writer, |writer| writer.put(b"worker", b"1").is_ok());
    ended_well(worker);
    assert!(reader.contains(b"worker").expect("a get"));
    writer.put(b"maker", b"1").expect("a put");
    assert!(reader.info().expect("info").seals.contains(&"future-write"));
    let file = reader.descriptor().expect("a memfd has one").try_clone_to_owned().expect("dup");
    let file = std::fs::File::from(file);
    file.set_len(1 << 20).expect_err("its length is sealed");
    std::os::unix::fs::FileExt::write_at(&file, b"x", 0).expect_err("its bytes are sealed");
}

#[test]
fn descriptors_of_named_stores_attach_too() {
    for named in Named::each("descriptors") {
        let writer = create(&named.0, &CreateOptions::new(2 << 20)).expect("a store");
        writer.put(b"k", b"v").expect("a put");
        let Some(descriptor) = writer.descriptor() else {
            assert_eq!(writer.info().expect("info").backing, Backing::SystemV);
            continue;
        };
        let spec = Spec::Fd(descriptor.as_raw_fd());
        let other = Writer::attach(&spec).expect("a writer");
        assert_eq!(other.info().expect("info").backing, writer.info().expect("info").backing);
        other.put(b"k", b"w").expect("a put");
        assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"w"[..]));
    }
}

#[test]
fn owner_and_mode_can_be_set() {
    for named in Named::each("permissions") {
        let writer = create(&named.0, &CreateOptions::new(2 << 20)).expect("a store");
        set_permissions(&named.0, 0o640).expect("it is ours");
        let own = nix::unistd::Uid::current().as_raw();
        set_owner(&named.0, Some(own), None).expect("it is ours already");
        let name = named.0.to_string();
        let listed = store_client::list().expect("a list");
        let listing = listed.iter().find(|one| one.name == name);
        match &named.0 {
            Spec::File(path) => {
                let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().expect("a file"));
                assert_eq!(mode & 0o777, 0o640);
            }
            _ => {
                let listing = listing.expect("it is listed");
                assert_eq!((listing.permissions, listing.owner_uid), (0o640, own));
                assert_eq!(listing.attached, 1);
            }
        }
        drop(writer);
    }
}

#[test]
fn a_store_that_is_too_large_leaves_nothing() {
    for named in Named::each("too-large") {
        if matches!(named.0, Spec::File(_)) {
            continue;
        }
        // More than any memory has.
        let refused = create(&named.0, &CreateOptions::new(1 << 40)).map(drop);
        assert!(matches!(refused, Err(CreateError::NoRoom { .. })), "{refused:?}");
        assert!(matches!(Reader::attach(&named.0), Err(AttachError::NotFound { .. })));
    }
}
