//! On each kind of memory, with each kind of guard: what one process loads another one reads, byte
//! for byte; and another user reads, and is refused writing.
//!
//! The records are those of the demo. `CISTERN_TEST_RECORDS` names another file of JSON lines
//! (`just records` makes one of all of Debian's packages).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork, setuid};
use store_client::{CreateOptions, GuardKind, Reader, Sealing, Writer};

use crate::harness::{KV, Run, Store, inheriting, program_for_all, run_as};

const GUARDS: [GuardKind; 2] = [GuardKind::Futex, GuardKind::SystemV];
const NOBODY: u32 = 65_534;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The file that is loaded.
fn source() -> PathBuf {
    let own = || concat!(env!("CARGO_MANIFEST_DIR"), "/data/debian-packages.jsonl").into();
    std::env::var_os("CISTERN_TEST_RECORDS").unwrap_or_else(own).into()
}

/// What is in JSON lines, read without any code of the program.
#[track_caller]
fn parsed(lines: &[u8]) -> Records {
    let mut records = Records::new();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let object: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let bytes = |name: &str| match object[name].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => {
                let base64 = object[format!("{name}_b64")].as_str().expect("text or base64");
                STANDARD.decode(base64).expect("base64")
            }
        };
        assert!(records.insert(bytes("key"), bytes("value")).is_none(), "each key is there once");
    }
    records
}

#[track_caller]
fn records() -> Records {
    let records = parsed(&std::fs::read(source()).expect("the records"));
    assert!(records.len() >= 420);
    records
}

/// Room for all of them.
fn size() -> u64 {
    (16 << 20) + 3 * source().metadata().expect("the records").len()
}

/// Compares without printing megabytes.
#[track_caller]
fn same(dump: &Run, expected: &Records) {
    let found = parsed(&dump.stdout);
    assert_eq!(found.len(), expected.len());
    for (key, value) in expected {
        assert_eq!(found.get(key), Some(value), "{}", String::from_utf8_lossy(key));
    }
}

/// Each run is a process of its own: `own` of this user, `nobody` of one who may only read.
#[track_caller]
fn holds_records(own: impl Fn(&[&str]) -> Run, nobody: Option<impl Fn(&[&str]) -> Run>) {
    let expected = records();
    let file = source();
    own(&["load", file.to_str().expect("text")]).ends(0);
    same(&own(&["dump"]).ends(0), &expected);
    assert_eq!(own(&["check", "--format", "json"]).ends(0).json()["clean"], true);
    let Some(nobody) = nobody else {
        eprintln!("only root can become another user");
        return;
    };
    same(&nobody(&["dump"]).ends(0), &expected);
    assert_eq!(nobody(&["check", "--format", "json"]).ends(0).json()["clean"], true);
    let (key, value) = expected.first_key_value().expect("records");
    let key = str::from_utf8(key).expect("a name");
    assert_eq!(&nobody(&["get", key]).exits(0).stdout, value);
    nobody(&["put", key, "another value"]).fails(4, "writing");
    nobody(&["del", key]).fails(4, "writing");
    same(&own(&["dump"]).ends(0), &expected);
}

#[track_caller]
fn holds_records_by_name(spec: &str, backing: &str, program: &Path, guard: GuardKind) {
    let own = |args: &[&str]| {
        let id = (Uid::current().as_raw(), nix::unistd::Gid::current().as_raw());
        run_as(Path::new(KV), id.0, id.1, spec, args)
    };
    let nobody = |args: &[&str]| run_as(program, NOBODY, NOBODY, spec, args);
    let (size, guards) = (size().to_string(), guard.to_string());
    own(&["create", "--size", &size, "--guard", &guards, "--permissions", "0644"]).ends(0);
    let info = own(&["info", "--format", "json"]).exits(0).json();
    assert_eq!((info["backing"].as_str(), info["guard"].as_str()), (Some(backing), Some(&*guards)));
    let is_root = Uid::current().is_root();
    holds_records(own, is_root.then_some(nobody));
    if is_root {
        nobody(&["rm", "--yes"]).fails(4, "removing");
    }
    own(&["rm", "--yes"]).exits(0);
}

#[test]
fn posix_shared_memory() {
    let (_directory, program) = program_for_all();
    for guard in GUARDS {
        let store = Store::unmade();
        holds_records_by_name(&store.spec, "POSIX shared memory", &program, guard);
    }
}

#[test]
fn system_v_shared_memory_by_name() {
    let (_directory, program) = program_for_all();
    for guard in GUARDS {
        let store = Store::unmade_system_v();
        holds_records_by_name(&store.spec, "System V shared memory", &program, guard);
    }
}

#[test]
fn system_v_shared_memory_by_key() {
    let (_directory, program) = program_for_all();
    for guard in GUARDS {
        let store = Store::unmade_keyed();
        holds_records_by_name(&store.spec, "System V shared memory", &program, guard);
    }
}

#[test]
fn a_file() {
    // Its directory must be open to the other user too.
    let (directory, program) = program_for_all();
    for guard in GUARDS {
        let spec = format!("file:{}/{guard}.kv", directory.path().display());
        holds_records_by_name(&spec, "file", &program, guard);
    }
}

#[test]
fn a_memfd() {
    let (_directory, program) = program_for_all();
    for guard in GUARDS {
        let options = CreateOptions::new(size()).guard(guard).permissions(0o644);
        let writer = Writer::memfd(&options, Sealing::SharedWriters).expect("a store");
        let descriptor = writer.descriptor().expect("a memfd has one");
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        let own = |args: &[&str]| {
            let passed = descriptor.try_clone_to_owned().expect("dup");
            Run::of(inheriting(Path::new(KV), passed, args))
        };
        let nobody = |passed: OwnedFd, args: &[&str]| {
            let mut command = inheriting(&program, passed, args);
            command.uid(NOBODY);
            Run::of(command)
        };
        // Rights are those of the descriptor, whoever has it: this one was opened for reading.
        let reads = |args: &[&str]| nobody(File::open(&path).expect("opens").into(), args);
        let is_root = Uid::current().is_root();
        holds_records(own, is_root.then_some(reads));
        if is_root {
            let mut again = Command::new("sh");
            again.args(["-c", "exec 4<>/proc/self/fd/0"]).uid(NOBODY);
            again.stdin(File::open(&path).expect("opens"));
            let refused = Run::of(again);
            assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
            // The guards may be objects of the kernel, with a mode of their own.
            let both = descriptor.try_clone_to_owned().expect("dup");
            let put = nobody(both, &["put", "by another user", "v"]);
            if guard == GuardKind::Futex {
                put.exits(0);
            } else {
                put.fails(4, "writing");
            }
        }
        assert_eq!(writer.info().expect("info").guard, guard);
    }
}

/// Forks a worker, which ends with whether `work` was right.
#[track_caller]
fn forked(writer: &mut Option<Writer>, work: impl FnOnce(Writer) -> bool) -> Pid {
    #[expect(unsafe_code, reason = "anonymous memory is passed on by fork only")]
    // SAFETY: the child uses the store and memory of its own, and leaves by `_exit`.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let writer = writer.take().expect("the parent's");
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

/// What the kernel says to a write of the first byte of the mapping, by the byte that is there.
fn stray_write(store: &Reader) -> Result<usize, Errno> {
    let base = usize::try_from(store.info().expect("info").address).expect("an address");
    let place = [RemoteIoVec { base, len: 1 }];
    let mut byte = [0];
    process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut byte)], &place)?;
    process_vm_writev(Pid::this(), &[IoSlice::new(&byte)], &place)
}

#[test]
fn shared_anonymous_memory() {
    let expected = records();
    let all_there = |store: &Reader| {
        let same = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            store.get(key).expect("a get").as_ref() == Some(value)
        };
        expected.iter().all(same) && store.check(|_, _| {}).violations.is_empty()
    };
    let is_root = Uid::current().is_root();
    let become_nobody = || !is_root || setuid(Uid::from_raw(NOBODY)).is_ok();
    for guard in GUARDS {
        let options = CreateOptions::new(size()).guard(guard);
        let mut writer = Some(Writer::anonymous(&options).expect("a store"));
        ended_well(forked(&mut writer, |writer| {
            expected.iter().all(|(key, value)| writer.put(key, value).is_ok())
                && stray_write(&writer) == Ok(1)
        }));
        // Users make no difference to who has the mapping; a worker that gives writing up is
        // refused by the kernel.
        ended_well(forked(&mut writer, |writer| {
            let reader = writer.into_protected_reader().expect("mprotect");
            become_nobody()
                && all_there(&reader)
                && !reader.info().expect("info").writable
                && stray_write(&reader) == Err(Errno::EFAULT)
        }));
        // The guards of one that does not are those of the store's maker, if the kernel has them.
        ended_well(forked(&mut writer, |writer| {
            let put = become_nobody().then(|| writer.put(b"by another user", b"v"));
            match put.expect("root becomes anybody") {
                Ok(_) => {
                    (guard == GuardKind::Futex || !is_root)
                        && writer.delete(b"by another user").is_ok()
                }
                Err(error) => {
                    eprintln!("{error}");
                    guard == GuardKind::SystemV && is_root && error.to_string().contains("writing")
                }
            }
        }));
        let writer = writer.expect("the parent's");
        assert_eq!(writer.info().expect("info").guard, guard);
        assert_eq!(writer.len(), expected.len() as u64);
        assert!(all_there(&writer));
    }
}
