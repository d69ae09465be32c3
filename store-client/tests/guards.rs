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
    CreateOptions, GuardKind, Sealing, Spec, WriteError, Writer, create, destroy, set_permissions,
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

/// Two clients of each kind of store, whose semaphores somebody removes.
#[test]
fn semaphores_that_somebody_removed_are_made_anew() {
    let _alone = alone();
    let specs = named("removed");
    let makers: [&dyn Fn() -> [Writer; 2]; 6] = [
        &|| with_another(&specs[0], create(&specs[0], &options()).expect("a store")),
        &|| with_another(&specs[1], create(&specs[1], &options()).expect("a store")),
        &|| with_another(&specs[2], create(&specs[2], &options()).expect("a store")),
        &|| {
            let memfd = Writer::memfd(&options(), Sealing::SharedWriters).expect("a store");
            let descriptor = memfd.descriptor().expect("a memfd has one").as_raw_fd();
            with_another(&Spec::Fd(descriptor), memfd)
        },
        // Nobody else can attach those for writing.
        &|| {
            let new = || Writer::memfd(&options(), Sealing::ReadOnlyForOthers).expect("a store");
            [new(), new()]
        },
        &|| [0; 2].map(|_| Writer::anonymous(&options()).expect("a store")),
    ];
    for make in makers {
        let before = sets();
        let writers = make();
        for round in 0..3_u8 {
            for id in sets().into_keys().filter(|id| !before.contains_key(id)) {
                let removed = Command::new("ipcrm").arg("-s").arg(id.to_string()).status();
                assert!(removed.expect("ipcrm").success());
            }
            for writer in &writers {
                writer.put(b"k", &[round]).expect("a put");
                assert_eq!(writer.get(b"k").expect("a get"), Some(vec![round]));
            }
        }
        // Those who share a store found one set, and are counted in it.
        let stores = if writers[0].info().expect("info").clients.len() == 2 { 1 } else { 2 };
        assert_eq!(sets().len(), before.len() + stores);
        let [one, other] = writers;
        drop(one);
        other.put(b"k", b"w").expect("a put");
        drop(other);
        for spec in &specs {
            let _ = destroy(spec);
        }
        assert_eq!(sets(), before);
    }
}

fn with_another(spec: &Spec, writer: Writer) -> [Writer; 2] {
    let other = Writer::attach(spec).expect("attaches");
    [writer, other]
}

/// The store that a helper uses.
const STORE: &str = "CISTERN_TEST_STORE";
/// Whether it ends without closing it.
const DIES: &str = "CISTERN_TEST_DIES";

#[test]
fn semaphores_of_an_ipc_namespace_that_is_gone_keep_nobody_out() {
    let _alone = alone();
    let may = Command::new("unshare").args(["--ipc", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no new IPC namespaces here");
        return;
    }
    let before = sets();
    let [posix, _, file] = named("ipc");
    for spec in [posix, file] {
        drop(create(&spec, &options()).expect("a store"));
        for dies in [false, true] {
            for _ in 0..2 {
                let mut helper = Command::new("unshare");
                helper.arg("--ipc").arg(std::env::current_exe().expect("this program"));
                helper.args(["--ignored", "--exact", "helper_in_an_ipc_namespace"]);
                helper.env(STORE, spec.to_string());
                if dies {
                    helper.env(DIES, "1");
                }
                let ended = helper.output().expect("it starts");
                let said = [ended.stdout, ended.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                assert!(ended.status.success() != dies && !said.contains("panicked"), "{said}");
            }
            let writer = Writer::attach(&spec).expect("nobody else writes");
            assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"there"[..]));
            writer.put(b"k", b"here").expect("a put");
        }
        // One that lives keeps them out.
        let writer = Writer::attach(&spec).expect("nobody else writes");
        let mut helper = Command::new("unshare");
        helper.arg("--ipc").arg(std::env::current_exe().expect("this program"));
        helper.args(["--ignored", "--exact", "helper_in_an_ipc_namespace"]);
        let ended = helper.env(STORE, spec.to_string()).output().expect("it starts");
        assert!(String::from_utf8_lossy(&ended.stdout).contains("ForeignGuards"));
        drop(writer);
        destroy(&spec).expect("it is there");
        // Of the file the last client removed them. Of the object they stayed each time that others
        // made new ones, for `gc`.
        let left: Vec<i32> = sets().into_keys().filter(|id| !before.contains_key(id)).collect();
        assert_eq!(left.len(), if matches!(spec, Spec::File(_)) { 0 } else { 2 });
        for id in left {
            Command::new("ipcrm").arg("-s").arg(id.to_string()).status().expect("ipcrm");
        }
    }
}

#[test]
#[ignore = "a program for another test"]
fn helper_in_an_ipc_namespace() {
    let Ok(store) = std::env::var(STORE) else { return };
    let writer = match Writer::attach(&store.parse().expect("a spec")) {
        Ok(writer) => writer,
        Err(refused) => panic!("{refused:?}"),
    };
    writer.put(b"k", b"there").expect("a put");
    if std::env::var_os(DIES).is_some() {
        std::process::abort();
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
