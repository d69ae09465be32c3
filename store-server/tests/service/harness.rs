//! Servers that end with their test, and names of stores that go with it.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use store_client::{Spec, destroy};

/// The program in a plain environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-server"));
    command.env_remove("KV_STORE").env_remove("NOTIFY_SOCKET");
    command
}

/// A name of one test. What has it at the end is removed.
pub(crate) struct Name(pub(crate) Spec);

impl Name {
    fn number() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn of(text: &str) -> Name {
        Name(text.parse().expect("a spec"))
    }

    pub(crate) fn posix() -> Name {
        Name::of(&format!("posix:server-test-{}-{}", std::process::id(), Name::number()))
    }

    /// One of each backing that has names; the file is in `directory`.
    pub(crate) fn each(directory: &Path) -> [Name; 4] {
        let number = Name::number();
        let key = (0x44 << 24) | ((std::process::id() & 0xffff) << 8) | number;
        [
            Name::posix(),
            Name::of(&format!("sysv:server-test-{}-{number}", std::process::id())),
            Name::of(&format!("sysv:{key:#x}")),
            Name::of(&format!("file:{}/store-{number}.kv", directory.display())),
        ]
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = destroy(&self.0);
    }
}

/// A server. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server");
        let said = BufReader::new(child.stdout.take().expect("its output")).lines();
        Server { child, said }
    }

    /// Starts one that makes a small store, and waits until it is ready.
    #[track_caller]
    pub(crate) fn keeping(name: &Name, args: &[&str]) -> Server {
        let store = name.0.to_string();
        let mut command = program();
        command.args(["--store", &store, "--size", "4MiB", "--interval-ms", "20"]).args(args);
        let mut server = Server::start(&mut command);
        server.says("ready");
        server
    }

    /// Its next line.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.said.next().expect("a line").expect("text")
    }

    /// Waits for a line that begins like this.
    #[track_caller]
    pub(crate) fn says(&mut self, beginning: &str) -> String {
        loop {
            let line = self.line();
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("sends");
    }

    /// Ends it by a signal; its exit code.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        self.send(signal);
        self.child.wait().expect("wait").code()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that ends by itself: its exit code, what it said, what it complained of.
pub(crate) fn ended(args: &[&str]) -> (Option<i32>, String, String) {
    let output = program().args(args).output().expect("the server");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A server that must refuse with this code: what it complained of, in one line.
#[track_caller]
pub(crate) fn refused(args: &[&str], code: i32) -> String {
    let (found, _, said) = ended(args);
    assert_eq!(found, Some(code), "{args:?}: {said}");
    assert!(said.starts_with("store-server: ") || said.starts_with("error: "), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "it never was so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
