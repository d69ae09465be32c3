//! A writer that stands still, and then is dead, with a guard in its hand.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::harness::{Store, quiet};

/// How long a test tries to stop a writer in a put: some ten attempts of a few milliseconds do.
const CATCH_LIMIT: Duration = Duration::from_secs(60);

/// A process that puts one key without end. Dropped, it is gone.
struct Victim(Child);

impl Victim {
    fn start(store: &Store) -> Victim {
        let mut child = store
            .command(["load"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut input = child.stdin.take().expect("a pipe");
        let lines = b"{\"key\":\"k\",\"value\":7}\n".repeat(1000);
        // Ends when the victim does.
        std::thread::spawn(move || while input.write_all(&lines).is_ok() {});
        Victim(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Stops it with the guard of its key in its hand.
    fn stop_in_a_put(&self, store: &Store) {
        let until = Instant::now() + CATCH_LIMIT;
        loop {
            kill(self.pid(), Signal::SIGSTOP).expect("sends");
            waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).expect("it stops");
            let held = store.kv(["--format", "json", "info"]).exits(0).json();
            let held = held["held"].as_array().expect("a list").clone();
            if held.iter().any(|guard| guard["pid"] == self.0.id()) {
                return;
            }
            assert!(Instant::now() < until, "it was never caught in a put");
            kill(self.pid(), Signal::SIGCONT).expect("sends");
            std::thread::sleep(Duration::from_micros(700));
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_writer_is_waited_for_and_a_dead_one_is_not() {
    let _quiet = quiet();
    for store in Store::each() {
        store.kv(["put", "k", "7"]).exits(0);
        let mut victim = Victim::start(&store);
        victim.stop_in_a_put(&store);
        let pid = victim.0.id().to_string();

        let writes: [&[&str]; 5] =
            [&["put", "k", "8"], &["replace", "k", "8"], &["del", "k"], &["incr", "k"], &["load"]];
        for write in writes {
            let started = Instant::now();
            let args = [write, &["--timeout", "50ms"]].concat();
            store.kv_with(args, b"{\"key\":\"k\",\"value\":8}\n").fails(7, &pid);
            assert!(started.elapsed() >= Duration::from_millis(50), "{write:?}");
            assert!(started.elapsed() < Duration::from_secs(3), "{write:?}");
        }
        // Readers don't care, and nothing was changed.
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"7");

        victim.0.kill().expect("kills");
        victim.0.wait().expect("it is gone");
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"7");
        let started = Instant::now();
        store.kv(["put", "k", "8"]).exits(0);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"8");
        store.is_clean();
    }
}
