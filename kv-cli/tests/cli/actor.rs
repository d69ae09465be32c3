//! Another process that has a store attached and does what it is told: this test program in a role.

use std::io::{BufRead, BufReader, Lines, Write};
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use store_client::{CreateOptions, GuardKind, Sealing, Spec, Writer};

/// The store, for a process in the role.
const STORE: &str = "CISTERN_TEST_ACTOR";
/// Where such a process may not map it: start and length.
const AVOID: &str = "CISTERN_TEST_AVOID";
/// What an answer begins with, so that it is told from what the test program says.
const MARK: &str = "actor: ";

/// A process that has a store attached for writing. Dropped, it is killed.
pub(crate) struct Actor {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Starts one on a store: its spec, `memfd` or `anonymous` for one of its own (with ` sysv` behind
    /// it for guards of that kind), or `/proc/PID/fd/N` for the memfd of another process.
    #[track_caller]
    pub(crate) fn on(store: &str) -> Actor {
        Actor::start(store, "")
    }

    /// Starts one that can't map the store where this process has it.
    #[track_caller]
    pub(crate) fn elsewhere(store: &str, address: u64, length: u64) -> Actor {
        Actor::start(store, &format!("{address} {length}"))
    }

    #[track_caller]
    fn start(store: &str, avoid: &str) -> Actor {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "actor::act", "--nocapture"])
            .env(STORE, store)
            .env(AVOID, avoid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let input = child.stdin.take().expect("a pipe");
        let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut actor = Actor { child, input, said };
        assert_eq!(actor.answer(), "attached");
        actor
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        loop {
            let line = self.said.next().expect("an answer").expect("text");
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    /// Tells it something that it does not answer.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("it listens");
    }

    /// Tells it something; its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) {
        self.child.wait().expect("wait");
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.ended();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(text: impl std::fmt::Display) {
    println!("{MARK}{text}");
}

/// Maps something where the store may not go. Where something is already it can't go either.
fn occupy(avoid: &str) {
    let Some((address, length)) = avoid.split_once(' ') else { return };
    let number = |text: &str| text.parse().ok().and_then(NonZeroUsize::new).expect("a number");
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED_NOREPLACE;
    #[expect(unsafe_code, reason = "a mapping at an address")]
    // SAFETY: nothing is replaced, and nobody uses it.
    let _ = unsafe {
        mmap_anonymous(Some(number(address)), number(length), ProtFlags::PROT_NONE, flags)
    };
}

fn attach(store: &str) -> Writer {
    let (store, guard) = match store.split_once(' ') {
        Some((store, guard)) => (store, guard.parse().expect("a kind of guards")),
        None => (store, GuardKind::Futex),
    };
    let options = CreateOptions::new(4 << 20).guard(guard);
    match store {
        "memfd" => Writer::memfd(&options, Sealing::SharedWriters).expect("a store"),
        "anonymous" => Writer::anonymous(&options).expect("a store"),
        path if path.starts_with("/proc/") => {
            let file = std::fs::File::options().read(true).write(true).open(path).expect("a memfd");
            let number = std::os::fd::AsRawFd::as_raw_fd(&file);
            Writer::attach(&Spec::Fd(number)).expect("the store")
        }
        spec => Writer::attach(&spec.parse().expect("a spec")).expect("the store"),
    }
}

/// In the role.
#[test]
fn act() {
    let Ok(store) = std::env::var(STORE) else { return };
    occupy(&std::env::var(AVOID).expect("the place to avoid"));
    let mut writer = Some(attach(&store));
    let mut child = None;
    answer("attached");
    for line in std::io::stdin().lines() {
        let line = line.expect("text");
        let words: Vec<&str> = line.split(' ').collect();
        match (&words[..], &writer) {
            (["get", key], Some(writer)) => {
                let value = writer.get(key.as_bytes()).expect("a get");
                answer(
                    value.map_or("none".into(), |value| String::from_utf8(value).expect("text")),
                );
            }
            (["put", key, value], Some(writer)) => {
                match writer.put(key.as_bytes(), value.as_bytes()) {
                    Ok(_) => answer("done"),
                    Err(error) => answer(error),
                }
            }
            (["address"], Some(writer)) => answer(writer.info().expect("info").address),
            (["clients"], Some(writer)) => answer(writer.info().expect("info").clients.len()),
            (["reap"], Some(writer)) => answer(writer.reap().expect("reaps").clients),
            (["descriptor"], Some(writer)) => {
                let descriptor = writer.descriptor().expect("a memfd has one");
                answer(std::os::fd::AsRawFd::as_raw_fd(&descriptor));
            }
            (["detach"], _) => {
                writer = None;
                answer("done");
            }
            (["exec"], _) => panic!("{}", Command::new("sleep").arg("600").exec()),
            (["exit"], _) => std::process::exit(0),
            (["fork"], Some(writer)) => child = Some(forked(writer)),
            (["bury"], _) => {
                let child = child.take().expect("a child");
                kill(child, Signal::SIGKILL).expect("sends");
                waitpid(child, None).expect("wait");
                answer("done");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A child that puts its process id under `child` and waits. It answers with the id.
fn forked(writer: &Writer) -> Pid {
    #[expect(unsafe_code, reason = "fork is what is tested")]
    // SAFETY: the child uses the store and nothing else, and never returns.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let own = std::process::id();
            let put = writer.put(b"child", own.to_string().as_bytes());
            answer(if put.is_ok() { own.to_string() } else { "refused".to_owned() });
            loop {
                nix::unistd::pause();
            }
        }
    }
}
