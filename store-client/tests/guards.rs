//! Guards that are System V semaphores: what they leave, and what becomes of writers that die.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use store_client::{
    CreateOptions, GuardKind, Reader, Sealing, Spec, WriteError, Writer, create, destroy,
    set_permissions,
};

/// Sets are counted, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sets of semaphores of this IPC namespace: id and mode.
fn sets() -> BTreeMap<i32, u32> {
    let text = std::fs::read_to_string("/proc/sysvipc/sem").expect("the list");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        (words[1].parse().expect("an id"), u32::from_str_radix(words[2], 8).expect("a mode"))
    };
    text.lines().skip(1).map(line).collect()
}

fn options() -> CreateOptions {
    CreateOptions::new(2 << 20).guard(GuardKind::SystemV)
}

fn named(test: &str) -> [Spec; 3] {
    let own = format!("test-{test}-{}", std::process::id());
    let directory = std::env::temp_dir().display().to_string();
    [format!("posix:{own}"), format!("sysv:{own}"), format!("file:{directory}/{own}")]
        .map(|spec| spec.parse().expect("a spec"))
}

/// A process that puts one key without end.
fn busy_child(writer: &Writer) -> Pid {
    #[expect(unsafe_code, reason = "fork is what is tested")]
    // SAFETY: the child only uses the store, and is killed.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => loop {
            if writer.put(b"k", &[1; 700]).is_err() {
                std::process::abort();
            }
        },
    }
}

#[test]
fn semaphores_come_and_go_with_their_store() {
    let _alone = alone();
    for spec in named("set") {
        let before = sets();
        let writer = create(&spec, &options()).expect("a store");
        let made: Vec<i32> = sets().into_keys().filter(|id| !before.contains_key(id)).collect();
        assert_eq!(made.len(), 1, "{spec}");
        assert_eq!(sets()[&made[0]], 0o600);
        writer.put(b"k", b"v").expect("a put");
        let other = Writer::attach(&spec).expect("attaches");
        other.put(b"k", b"w").expect("a put");
        drop(writer);
        set_permissions(&spec, 0o640).expect("it is ours");
        assert_eq!(sets()[&made[0]], 0o640);
        destroy(&spec).expect("it is there");
        assert_eq!(sets(), before, "{spec}");
        assert!(matches!(other.put(b"k", b"x"), Err(WriteError::Retired { .. })));
    }
    let before = sets();
    let anonymous = Writer::anonymous(&options()).expect("a store");
    let memfd = Writer::memfd(&options(), Sealing::SharedWriters).expect("a store");
    for writer in [anonymous, memfd] {
        assert!(sets().len() > before.len());
        writer.put(b"k", b"v").expect("a put");
        drop(writer);
    }
    assert_eq!(sets(), before);
}

#[test]
fn semaphores_that_somebody_removed_are_made_anew() {
    let _alone = alone();
    for spec in named("removed") {
        let before = sets();
        let writer = create(&spec, &options()).expect("a store");
        writer.put(b"k", b"v").expect("a put");
        let id = sets().into_keys().find(|id| !before.contains_key(id)).expect("a set");
        let removed = Command::new("ipcrm").arg("-s").arg(id.to_string()).status();
        assert!(removed.expect("ipcrm").success());
        assert!(matches!(writer.put(b"k", b"w"), Err(WriteError::GuardsRemoved { .. })));
        let read = Reader::attach(&spec).expect("it reads").get(b"k").expect("a get");
        assert_eq!(read.as_deref(), Some(&b"v"[..]));
        let anew = Writer::attach(&spec).expect("attaches");
        anew.put(b"k", b"x").expect("a put");
        drop((writer, anew));
        destroy(&spec).expect("it is there");
        assert_eq!(sets(), before);
    }
}

#[test]
fn a_killed_holder_is_followed_and_a_stopped_one_is_not_robbed() {
    let _alone = alone();
    let [spec, ..] = named("killed");
    let writer = create(&spec, &options()).expect("a store");
    writer.put(b"k", b"v").expect("a put");
    writer.set_guard_deadline(Duration::from_millis(50)).expect("a deadline");
    let (mut held, mut stuck) = (0, 0);
    let until = Instant::now() + Duration::from_secs(20);
    while (held < 5 || stuck < 1) && Instant::now() < until {
        let child = busy_child(&writer);
        std::thread::sleep(Duration::from_micros(2_300 + 170 * (held + stuck) % 900));
        kill(child, Signal::SIGSTOP).expect("sends");
        while !std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap().contains(") T ") {}
        let holds =
            writer.held_guards().expect("guards").iter().any(|g| g.pid == child.as_raw() as u32);
        if holds {
            held += 1;
            match writer.put(b"k", b"mine") {
                Err(WriteError::Stuck { pid, .. }) if pid == child.as_raw() as u32 => stuck += 1,
                other => panic!("{other:?}"),
            }
        }
        kill(child, Signal::SIGKILL).expect("sends");
        let start = Instant::now();
        // As long as the kernel takes to end it, it is alive.
        writer.set_guard_deadline(Duration::from_secs(5)).expect("a deadline");
        writer.put(b"k", b"mine").expect("its holder is dead");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        writer.set_guard_deadline(Duration::from_millis(50)).expect("a deadline");
        assert_eq!(writer.get(b"k").unwrap().as_deref(), Some(&b"mine"[..]));
        waitpid(child, None).expect("it is ours");
    }
    assert!(held > 0 && stuck > 0, "it was never caught in a put");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
    drop(writer);
    destroy(&spec).expect("it is there");
}

#[test]
fn clients_that_come_and_go_never_lose_their_semaphores() {
    let _alone = alone();
    let before = sets();
    // The last client of either removes them, while others come.
    let [.., file] = named("come-and-go");
    drop(create(&file, &options()).expect("a store"));
    let memfd = Writer::memfd(&options(), Sealing::SharedWriters).expect("a store");
    let descriptor = memfd.descriptor().expect("a memfd has one").try_clone_to_owned();
    let descriptor = descriptor.expect("dup");
    drop(memfd);
    assert_eq!(sets(), before);
    for spec in [file.clone(), Spec::Fd(descriptor.as_raw_fd())] {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let writer = Writer::attach(&spec).expect("attaches");
                        writer.put(b"k", b"v").expect("a put");
                    }
                });
            }
        });
        assert_eq!(sets(), before);
    }
    destroy(&file).expect("it is there");
}
