//! Who counts as alive: processes that executed another program, zombies, other PID namespaces.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, execv, fork};
use store_client::{
    AttachError, ClientState, CreateOptions, GuardKind, PutOptions, Reader, Sealing, Spec, Ttl,
    WriteError, Writer, create, destroy,
};

/// The store that a helper uses.
const STORE: &str = "CISTERN_TEST_STORE";
const LIMIT: Duration = Duration::from_secs(30);

/// A store, removed at the end.
struct Named(Spec);

impl Named {
    fn new(test: &str) -> Named {
        Named::at(format!("posix:test-{test}-{}", std::process::id()))
    }

    fn at(spec: String) -> Named {
        Named(spec.parse().expect("a spec"))
    }

    fn create(&self, guard: GuardKind) -> Writer {
        let writer = create(&self.0, &CreateOptions::new(2 << 20).guard(guard)).expect("a store");
        writer.put(b"k", b"v").expect("a put");
        writer
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = destroy(&self.0);
    }
}

/// A child process, killed and waited for at the end.
struct Forked(Pid);

impl Forked {
    /// One that does `work`, which does not return.
    fn new(work: impl FnOnce()) -> Forked {
        #[expect(unsafe_code, reason = "fork is what is tested")]
        // SAFETY: the child uses the store only, and never comes back to the test.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => Forked(child),
            ForkResult::Child => {
                work();
                std::process::abort()
            }
        }
    }

    fn state(&self, writer: &Writer) -> Option<ClientState> {
        let clients = writer.info().expect("info").clients;
        clients.iter().find(|client| client.pid == self.0.as_raw() as u32).map(|c| c.state)
    }

    fn holds(&self, writer: &Writer) -> bool {
        let held = writer.held_guards().expect("guards");
        held.iter().any(|guard| guard.pid == self.0.as_raw() as u32)
    }

    fn stat(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("it is there")
    }

    fn kill(&self) {
        kill(self.0, Signal::SIGKILL).expect("sends");
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// A thread that puts one key without end. Returns when it has begun.
fn put_in_a_thread(writer: Arc<Writer>) {
    writer.put(b"mine", b"v").expect("a put");
    std::thread::spawn(move || while writer.put(b"k", &[1; 700]).is_ok() {});
    std::thread::sleep(Duration::from_millis(3));
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A child that puts and executes another program, again and again until it has a guard then: it is
/// gone, what it held is taken over, its entry reaped. The child writes with what `attach` gives.
fn take_over_from_one_that_executes(writer: &Writer, attach: impl Fn() -> Arc<Writer>) {
    let (start, mut taken_over) = (Instant::now(), 0);
    while taken_over == 0 {
        assert!(start.elapsed() < LIMIT, "it was never caught in a put");
        let child = Forked::new(|| {
            put_in_a_thread(attach());
            let _ = execv(c"/bin/sleep", &[c"sleep", c"600"]);
        });
        until("it executes sleep", || child.stat().contains("(sleep)"));
        until("it is told", || child.state(writer) == Some(ClientState::Executed));
        let held = child.holds(writer);
        let start = Instant::now();
        writer.put(b"k", b"mine").expect("its holder is gone");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        taken_over += u32::from(held);
        assert_eq!(writer.reap().expect("reaps").clients, 1);
        assert_eq!(child.state(writer), None);
    }
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn a_process_that_executed_another_program_is_gone() {
    let pid = std::process::id();
    for guard in [GuardKind::Futex, GuardKind::SystemV] {
        let name = format!("test-exec-{guard}-{pid}").replace(' ', "-");
        let key = (0x4c << 24) | (pid & 0xffff) << 8 | u32::from(guard == GuardKind::Futex);
        for spec in [format!("posix:{name}"), format!("sysv:{name}"), format!("sysv:{key:#x}")] {
            let named = Named::at(spec);
            let writer = named.create(guard);
            let attach = || Arc::new(Writer::attach(&named.0).expect("attaches"));
            take_over_from_one_that_executes(&writer, attach);
        }
        let options = CreateOptions::new(2 << 20).guard(guard);
        let anonymous = Arc::new(Writer::anonymous(&options).expect("a store"));
        take_over_from_one_that_executes(&anonymous, || Arc::clone(&anonymous));
        let memfd = Writer::memfd(&options, Sealing::SharedWriters).expect("a store");
        let memfd = Arc::new(memfd);
        let attach = || {
            let descriptor = memfd.descriptor().expect("a memfd has one").as_raw_fd();
            Arc::new(Writer::attach(&Spec::Fd(descriptor)).expect("attaches"))
        };
        take_over_from_one_that_executes(&memfd, attach);
    }
}

#[test]
fn a_program_that_maps_the_store_still_is_not_robbed() {
    let pid = std::process::id();
    for (spec, shown) in [("posix", "cistern.test-maps"), ("sysv", "/SYSV00000000")] {
        let named = Named::at(format!("{spec}:test-maps-{pid}"));
        let writer = named.create(GuardKind::Futex);
        let spec = named.0.clone();
        let child = Forked::new(|| {
            put_in_a_thread(Arc::new(Writer::attach(&spec).expect("attaches")));
            let program = std::env::current_exe().expect("this program");
            let program = CString::new(program.as_os_str().as_bytes()).expect("a path");
            let store = CString::new(format!("{STORE}={spec}")).expect("a name");
            let arguments = [c"helper", c"--ignored", c"--exact", c"helper_that_maps"];
            let _ = nix::unistd::execve(&program, &arguments, &[store.as_c_str()]);
        });
        until("it executes itself, and maps", || {
            let pid = child.0;
            let program = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it is there");
            let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it is there");
            program.starts_with(b"helper") && maps.contains(shown)
        });
        assert_eq!(child.state(&writer), Some(ClientState::Alive));
    }
}

#[test]
#[ignore = "a program for another test"]
fn helper_that_maps() {
    let Ok(store) = std::env::var(STORE) else { return };
    let _reader = Reader::attach(&store.parse().expect("a spec")).expect("attaches");
    std::thread::sleep(2 * LIMIT);
}

#[test]
fn a_leader_that_ended_before_its_threads_lives() {
    let named = Named::new("leader");
    let writer = named.create(GuardKind::Futex);
    let spec = named.0.clone();
    let child = Forked::new(|| {
        put_in_a_thread(Arc::new(Writer::attach(&spec).expect("attaches")));
        #[expect(unsafe_code, reason = "ends the first thread only")]
        // SAFETY: the thread ends; what it had on its stack is not used by the other one.
        unsafe {
            nix::libc::syscall(nix::libc::SYS_exit, 0);
        }
    });
    until("its first thread ends", || child.stat().contains(") Z "));
    assert_eq!(child.state(&writer), Some(ClientState::Alive));
    // Stopped with a guard in its hand it is not robbed.
    writer.set_guard_deadline(Duration::from_millis(30)).expect("a deadline");
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < LIMIT, "it was never caught in a put");
        kill(child.0, Signal::SIGSTOP).expect("sends");
        std::thread::sleep(Duration::from_millis(20));
        if child.holds(&writer) {
            break;
        }
        kill(child.0, Signal::SIGCONT).expect("sends");
        std::thread::sleep(Duration::from_micros(700));
    }
    assert!(matches!(writer.put(b"k", b"mine"), Err(WriteError::Stuck { .. })));
    child.kill();
    until("it ends", || child.state(&writer) == Some(ClientState::Zombie));
    writer.put(b"k", b"mine").expect("its holder is dead");
}

/// Runs a helper as `unshare` does with these flags; `false` if it can't be done here.
fn unshared(flags: &[&str], helper: &str, store: &str) -> bool {
    let may = Command::new("unshare").args(flags).args(["--fork", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no unshare {flags:?} here");
        return false;
    }
    let output = Command::new("unshare")
        .args(flags)
        .arg("--fork")
        .arg(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", helper])
        .env(STORE, store)
        .output()
        .expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    true
}

/// Runs a helper as the first process of a PID namespace, with a `/proc` of its own or that of this
/// one.
fn in_pid_namespace(helper: &str, store: &str, own_proc: bool) {
    let flags: &[&str] = if own_proc { &["--pid", "--mount-proc"] } else { &["--pid"] };
    unshared(flags, helper, store);
}

#[test]
fn a_writer_of_another_pid_namespace_is_refused_and_a_reader_is_not() {
    let named = Named::new("namespace");
    let _writer = named.create(GuardKind::Futex);
    in_pid_namespace("helper_in_another_namespace", &named.0.to_string(), true);
}

#[test]
#[ignore = "a program for another test"]
fn helper_in_another_namespace() {
    let Ok(store) = std::env::var(STORE) else { return };
    let spec: Spec = store.parse().expect("a spec");
    let refused = Writer::attach(&spec).expect_err("its writer can't be seen from here");
    assert!(matches!(refused, AttachError::ForeignPidNamespace { .. }), "{refused}");
    let reader = Reader::attach(&spec).expect("readers are no clients");
    assert_eq!(reader.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
    let states: Vec<_> = reader.info().expect("info").clients.iter().map(|c| c.state).collect();
    assert_eq!(states, [ClientState::ForeignNamespace]);
}

#[test]
fn a_process_that_got_the_pid_of_a_dead_client_is_not_that_client() {
    if !std::fs::exists("/proc/sys/kernel/ns_last_pid").is_ok_and(|there| there) {
        eprintln!("skipped: this kernel does not let pids be chosen");
        return;
    }
    let pid = std::process::id();
    for spec in [format!("posix:test-pid-{pid}"), format!("sysv:test-pid-{pid}")] {
        in_pid_namespace("helper_that_reuses_a_pid", &spec, true);
    }
}

/// Forks until the child has this process id.
fn forked_as(wanted: Pid) -> Forked {
    let start = Instant::now();
    loop {
        let last = (wanted.as_raw() - 1).to_string();
        std::fs::write("/proc/sys/kernel/ns_last_pid", last).expect("it is root's");
        let child = Forked::new(|| std::thread::sleep(2 * LIMIT));
        if child.0 == wanted {
            return child;
        }
        assert!(start.elapsed() < LIMIT, "the kernel gives that number to nobody");
    }
}

#[test]
#[ignore = "a program for another test"]
fn helper_that_reuses_a_pid() {
    let Ok(store) = std::env::var(STORE) else { return };
    for guard in [GuardKind::Futex, GuardKind::SystemV] {
        let named = Named::at(store.clone());
        let writer = named.create(guard);
        let start = Instant::now();
        let pid = loop {
            assert!(start.elapsed() < LIMIT, "it was never caught in a put");
            let spec = named.0.clone();
            let child = Forked::new(|| {
                put_in_a_thread(Arc::new(Writer::attach(&spec).expect("attaches")));
                std::thread::sleep(2 * LIMIT);
            });
            until("it writes", || child.state(&writer) == Some(ClientState::Alive));
            std::thread::sleep(Duration::from_millis(5));
            child.kill();
            until("it ends", || child.state(&writer) == Some(ClientState::Zombie));
            if child.holds(&writer) {
                break child.0;
            }
            assert_eq!(writer.reap().expect("reaps").clients, 1);
        };
        // Start times are told in hundredths of a second.
        std::thread::sleep(Duration::from_millis(50));
        // It maps the store, as its parent does, so that only its start time tells.
        let other = forked_as(pid);
        assert_eq!(other.state(&writer), Some(ClientState::Dead));
        let start = Instant::now();
        writer.put(b"k", b"mine").expect("its holder is dead");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(writer.reap().expect("reaps").clients, 1);
        assert_eq!(other.state(&writer), None);
        assert!(std::fs::exists(format!("/proc/{pid}")).is_ok_and(|there| there));
        assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
    }
}

#[test]
fn the_processes_of_another_namespace_are_not_taken_for_clients() {
    let store = format!("posix:test-proc-{}", std::process::id());
    in_pid_namespace("helper_under_another_proc", &store, false);
}

#[test]
#[ignore = "a program for another test"]
fn helper_under_another_proc() {
    let Ok(store) = std::env::var(STORE) else { return };
    let named = Named::at(store);
    let writer = named.create(GuardKind::Futex);
    let spec = named.0.clone();
    let child = Forked::new(|| {
        let writer = Writer::attach(&spec).expect("attaches");
        writer.put(b"mine", b"v").expect("a put");
        std::thread::sleep(2 * LIMIT);
    });
    // In this /proc that number is a process of the first namespace, or nobody.
    until("it writes", || writer.get(b"mine").expect("a get").is_some());
    assert_eq!(child.state(&writer), Some(ClientState::Alive));
    assert_eq!(writer.reap().expect("reaps").clients, 0);
    child.kill();
    until("it ends", || child.state(&writer) == Some(ClientState::Zombie));
    assert_eq!(writer.reap().expect("reaps").clients, 1);
}

const MINUTE: Duration = Duration::from_secs(60);

/// Whether what was put with a minute to live has most of it left.
fn has_about_a_minute(writer: &Writer, key: &[u8]) -> bool {
    let left = writer.ttl(key).expect("a look");
    matches!(left, Some(Ttl::Left(left)) if left <= MINUTE && left > MINUTE / 2)
}

#[test]
fn writers_of_another_time_namespace_see_each_other_alive_and_one_clock() {
    // A year ahead, and back as far as every machine goes that ran for a while.
    for offset in ["31536000", "-60"] {
        let named = Named::new("time");
        let writer = named.create(GuardKind::Futex);
        let minute = PutOptions::new().ttl(MINUTE);
        writer.put_with(b"ours", b"v", &minute).expect("a put");
        let gone = PutOptions::new().ttl(Duration::from_millis(5));
        writer.put_with(b"gone", b"v", &gone).expect("a put");
        std::thread::sleep(Duration::from_millis(20));
        let store = named.0.to_string();
        let flags = ["--time", "--boottime", offset, "--monotonic", offset];
        std::thread::scope(|scope| {
            let ran = scope.spawn(|| unshared(&flags, "helper_in_another_time_namespace", &store));
            until("it writes", || {
                ran.is_finished() || writer.get(b"theirs").expect("a get").is_some()
            });
            if !ran.is_finished() {
                let clients = writer.info().expect("info").clients;
                let states: Vec<_> = clients.iter().map(|client| client.state).collect();
                assert_eq!(states, [ClientState::Alive; 2]);
                assert_eq!(writer.reap().expect("reaps").clients, 0);
                assert!(has_about_a_minute(&writer, b"theirs"));
                writer.put(b"seen", b"v").expect("a put");
            }
        });
    }
}

/// A store of a process that is a year ahead, seen from here, which is a year back.
#[test]
fn a_store_that_was_made_in_another_time_namespace_has_the_same_clock() {
    let named = Named::new("made-in-time");
    let store = named.0.to_string();
    let flags = ["--time", "--boottime", "31536000", "--monotonic", "31536000"];
    if !unshared(&flags, "helper_that_makes_a_store", &store) {
        return;
    }
    let writer = Writer::attach(&named.0).expect("attaches");
    assert!(has_about_a_minute(&writer, b"theirs"));
    assert_eq!(writer.get(b"gone").expect("a get"), None);
    assert_eq!(writer.info().expect("info").clients.len(), 1);
}

#[test]
#[ignore = "a program for another test"]
fn helper_that_makes_a_store() {
    let Ok(store) = std::env::var(STORE) else { return };
    let spec = store.parse().expect("a spec");
    let writer = create(&spec, &CreateOptions::new(2 << 20)).expect("a store");
    writer.put_with(b"theirs", b"v", &PutOptions::new().ttl(MINUTE)).expect("a put");
    let gone = PutOptions::new().ttl(Duration::from_millis(5));
    writer.put_with(b"gone", b"v", &gone).expect("a put");
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
#[ignore = "a program for another test"]
fn helper_in_another_time_namespace() {
    let Ok(store) = std::env::var(STORE) else { return };
    let writer = Writer::attach(&store.parse().expect("a spec")).expect("attaches");
    let states: Vec<_> = writer.info().expect("info").clients.iter().map(|c| c.state).collect();
    assert_eq!(states, [ClientState::Alive; 2]);
    assert_eq!(writer.reap().expect("reaps").clients, 0);
    assert!(has_about_a_minute(&writer, b"ours"));
    assert_eq!(writer.get(b"gone").expect("a get"), None);
    writer.put_with(b"theirs", b"v", &PutOptions::new().ttl(MINUTE)).expect("a put");
    until("it is seen", || writer.get(b"seen").expect("a get").is_some());
}
