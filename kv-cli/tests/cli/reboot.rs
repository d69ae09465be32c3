//! Files after a reboot, which is played by another boot id in the superblock.

use std::process::Command;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use store_client::{Spec, Writer};

use crate::harness::Store;
use crate::semaphores;

/// Offsets in the superblock, as `docs/FORMAT.md` has them.
const CLOCK_OFFSET: usize = 640;
const BOOT_ID: usize = 648;
const GUARD_SET: usize = 664;
const CLEAN: usize = 712;

/// A store in a file, unless files are in memory here: those have no reboot.
fn file() -> Option<Store> {
    let store = Store::file();
    let statfs = statfs(store.path().as_path()).expect("a file system");
    if statfs.filesystem_type() == TMPFS_MAGIC {
        eprintln!("skipped: the build directory is in memory");
        return None;
    }
    Some(store)
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes"))
}

/// The bytes with another boot id.
fn rebooted(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[BOOT_ID..BOOT_ID + 16].copy_from_slice(&[7; 16]);
    bytes[CLOCK_OFFSET..CLOCK_OFFSET + 8].copy_from_slice(&[0; 8]);
    bytes
}

#[test]
fn a_file_that_was_closed_is_good_after_a_reboot() {
    let Some(store) = file() else { return };
    store.kv(["put", "k", "v"]).exits(0);
    store.kv(["put", "late", "v", "--ttl", "1h"]).exits(0);
    let before = std::fs::read(store.path()).expect("reads");
    assert_eq!(word(&before, CLEAN) & 1, 1, "its last writer closed it");
    std::fs::write(store.path(), rebooted(before.clone())).expect("writes");

    // A reader changes nothing.
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
    let read = std::fs::read(store.path()).expect("reads");
    assert_eq!(&read[BOOT_ID..BOOT_ID + 16], &[7; 16]);

    // A writer renews the boot id and the clock.
    store.kv(["put", "k", "w"]).exits(0);
    let after = std::fs::read(store.path()).expect("reads");
    assert_eq!(after[BOOT_ID..BOOT_ID + 16], before[BOOT_ID..BOOT_ID + 16]);
    assert!(word(&after, CLOCK_OFFSET).abs_diff(word(&before, CLOCK_OFFSET)) < 60_000);
    assert_eq!(word(&after, CLEAN) & 1, 1);
    assert!(word(&after, CLEAN) > word(&before, CLEAN), "one more writer");
    let ttl: u64 = store.kv(["ttl", "late"]).exits(0).text().trim().parse().expect("a number");
    assert!((3_000..=3_600_000).contains(&ttl), "{ttl}");
    store.is_clean();
}

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// The bytes of a store whose time is so much ahead of the wall clock, or behind it: as if that had
/// been set since.
fn with_time_moved(store: &Store, ahead_ms: u64) {
    let mut bytes = std::fs::read(store.path()).expect("reads");
    let moved = word(&bytes, CLOCK_OFFSET).wrapping_add(ahead_ms);
    bytes[CLOCK_OFFSET..CLOCK_OFFSET + 8].copy_from_slice(&moved.to_le_bytes());
    std::fs::write(store.path(), bytes).expect("writes");
}

#[track_caller]
fn has_about_an_hour(store: &Store, key: &str) {
    let ttl: u64 = store.kv(["ttl", key]).exits(0).text().trim().parse().expect("a number");
    assert!((3_000_000..=3_600_000).contains(&ttl), "{ttl}");
}

#[test]
fn a_clock_that_is_set_by_a_year_expires_and_revives_nothing() {
    for ahead_ms in [YEAR_MS, YEAR_MS.wrapping_neg()] {
        let Some(store) = file() else { return };
        with_time_moved(&store, ahead_ms);
        store.kv(["put", "late", "v", "--ttl", "1h"]).exits(0);
        store.kv(["put", "soon", "v", "--ttl", "20ms"]).exits(0);
        store.kv(["put", "ever", "v"]).exits(0);
        std::thread::sleep(std::time::Duration::from_millis(40));
        store.kv(["get", "soon"]).ends(1);
        has_about_an_hour(&store, "late");
        store.kv(["get", "ever"]).exits(0);
        store.is_clean();
    }
}

#[test]
fn a_clock_that_is_set_back_by_a_year_before_a_reboot_revives_nothing() {
    let Some(store) = file() else { return };
    with_time_moved(&store, YEAR_MS);
    store.kv(["put", "late", "v", "--ttl", "1h"]).exits(0);
    store.kv(["put", "soon", "v", "--ttl", "20ms"]).exits(0);
    std::thread::sleep(std::time::Duration::from_millis(40));
    // So that it is closed when that has expired; nobody has swept it.
    store.kv(["put", "ever", "v"]).exits(0);
    let bytes = std::fs::read(store.path()).expect("reads");
    assert_eq!(word(&bytes, CLEAN) & 1, 1);
    std::fs::write(store.path(), rebooted(bytes)).expect("writes");
    // A reader first, for which nothing was renewed, then a writer.
    for _ in 0..2 {
        store.kv(["get", "soon"]).ends(1);
        has_about_an_hour(&store, "late");
        store.kv(["put", "ever", "w"]).exits(0);
    }
    store.is_clean();
}

#[test]
fn a_file_that_was_in_use_is_refused_after_a_reboot() {
    let Some(store) = file() else { return };
    store.kv(["put", "k", "v"]).exits(0);
    let spec: Spec = store.spec.parse().expect("a spec");
    let writer = Writer::attach(&spec).expect("the store");
    let other = Writer::attach(&spec).expect("the store");
    let in_use = std::fs::read(store.path()).expect("reads");
    assert_eq!(word(&in_use, CLEAN) & 1, 0);
    drop(other);
    let in_use_still = std::fs::read(store.path()).expect("reads");
    assert_eq!(word(&in_use_still, CLEAN) & 1, 0, "not the last writer");
    drop(writer);
    let closed = std::fs::read(store.path()).expect("reads");
    assert_eq!(word(&closed, CLEAN) & 1, 1);

    std::fs::write(store.path(), rebooted(in_use)).expect("writes");
    for args in [&["get", "k"][..], &["put", "k", "w"], &["dump"], &["info"]] {
        store.kv(args).fails(6, "load it anew");
    }
    store.kv(["rm", "--yes"]).exits(0);
    assert!(!store.path().exists());
}

/// A set of semaphores of another program, of as many as the set with this id has; removed at the
/// end.
struct Foreign(i32);

impl Foreign {
    fn like(id: i32) -> Foreign {
        let list = std::fs::read_to_string("/proc/sysvipc/sem").expect("System V semaphores");
        let rows = list.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let row = rows.into_iter().find(|row| row[1] == id.to_string()).expect("the set");
        let made = Command::new("ipcmk").args(["-S", row[3]]).output().expect("ipcmk");
        let said = String::from_utf8_lossy(&made.stdout);
        Foreign(said.trim().rsplit(' ').next().expect("an id").parse().expect("a number"))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = Command::new("ipcrm").args(["-s", &self.0.to_string()]).status();
    }
}

#[test]
fn a_file_with_semaphores_gets_others_after_a_reboot() {
    let Some(store) = file() else { return };
    store.kv(["rm", "--yes"]).exits(0);
    store.kv(["create", "--size", "4MiB", "--guard", "sysv", "--format", "json"]).exits(0);
    let spec: Spec = store.spec.parse().expect("a spec");
    let writer = Writer::attach(&spec).expect("the store");
    writer.put(b"k", b"v").expect("a put");
    let in_use = std::fs::read(store.path()).expect("reads");
    let id = |bytes: &[u8]| i32::try_from(word(bytes, GUARD_SET) & 0xffff_ffff).expect("an id") - 1;
    let foreign = Foreign::like(id(&in_use));
    drop(writer);
    let mut closed = rebooted(std::fs::read(store.path()).expect("reads"));

    // As the kernel starts anew with its numbers, another program has got that of the set.
    let named = word(&closed, GUARD_SET) & !0xffff_ffff | (foreign.0 as u64 + 1);
    closed[GUARD_SET..GUARD_SET + 8].copy_from_slice(&named.to_le_bytes());
    std::fs::write(store.path(), &closed).expect("writes");
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
    let writer = Writer::attach(&spec).expect("the store");
    writer.put(b"k", b"w").expect("a put");
    let own = id(&std::fs::read(store.path()).expect("reads"));
    assert_ne!(own, foreign.0);
    assert!(semaphores::stands(own));
    // A guard is waited for and taken by others, too.
    store.kv(["put", "k", "x"]).exits(0);
    drop(writer);
    assert!(!semaphores::stands(own) && semaphores::stands(foreign.0));
    store.is_clean();

    // Removing a store of an earlier boot leaves such a set alone too.
    std::fs::write(store.path(), &closed).expect("writes");
    store.kv(["rm", "--yes"]).exits(0);
    assert!(semaphores::stands(foreign.0));

    std::fs::write(store.path(), rebooted(in_use)).expect("writes");
    for args in [&["get", "k"][..], &["put", "k", "w"]] {
        store.kv(args).fails(6, "load it anew");
    }
    store.kv(["rm", "--yes"]).exits(0);
    assert!(semaphores::stands(foreign.0));
}

#[test]
fn a_writer_that_was_killed_leaves_no_mark_and_the_next_one_sets_it() {
    let Some(store) = file() else { return };
    let mut worker = store
        .command(["load", "--input-format", "jsonl"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It has attached when the mark is gone.
    let marked = || word(&std::fs::read(store.path()).expect("reads"), CLEAN) & 1 == 1;
    for _ in 0..2_000 {
        if !marked() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    worker.kill().expect("kill");
    worker.wait().expect("wait");
    assert!(!marked(), "nobody closed it");
    store.kv(["put", "k", "v"]).exits(0);
    assert!(marked(), "the dead one was reaped");
}

#[test]
fn no_writer_ever_sees_the_mark() {
    let Some(store) = file() else { return };
    let spec: Spec = store.spec.parse().expect("a spec");
    let bytes = std::fs::File::open(store.path()).expect("opens");
    let marked = || {
        let mut word = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&bytes, &mut word, CLEAN as u64).expect("reads");
        u64::from_le_bytes(word) & 1 == 1
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let writer = Writer::attach(&spec).expect("the store");
                    assert!(!marked());
                    writer.put(b"k", b"v").expect("a put");
                    assert!(!marked());
                    drop(writer);
                }
            });
        }
    });
    assert!(marked(), "the last one closed");
    store.is_clean();
}
