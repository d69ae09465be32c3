//! `get-or-run` by many processes at once: one runs the command, whatever becomes of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::Store;

/// How long the tests wait for a process to do what it will do.
const LIMIT: Duration = Duration::from_secs(60);

/// A file to which each run of the command adds a line: the process that runs it.
struct Runs {
    _directory: TempDir,
    path: PathBuf,
}

impl Runs {
    fn new() -> Runs {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("runs");
        Runs { _directory: directory, path }
    }

    /// A command that notes its run, takes a while and writes `value`.
    fn command(&self, seconds: &str, value: &str) -> [String; 3] {
        let path = self.path.display();
        let script = format!("echo $PPID >> {path}; sleep {seconds}; printf {value}");
        ["sh".to_owned(), "-c".to_owned(), script]
    }

    /// The processes that have run the command so far.
    fn pids(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The process that is the first to run it.
    fn first(&self) -> i32 {
        until(|| !self.pids().is_empty());
        self.pids()[0]
    }
}

#[track_caller]
fn until(done: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The whole command line of `get-or-run k`.
fn args<'a>(options: &[&'a str], command: &'a [String]) -> Vec<&'a str> {
    let command = command.iter().map(String::as_str);
    ["get-or-run", "k"].iter().chain(options).copied().chain(["--"]).chain(command).collect()
}

fn spawn(store: &Store, options: &[&str], command: &[String]) -> Child {
    store
        .command(args(options, command))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("sends");
}

/// Waits until a process is in a state such as `T`.
fn wait_for_state(pid: i32, state: &str) {
    let stat = format!("/proc/{pid}/stat");
    until(|| {
        let text = std::fs::read_to_string(Path::new(&stat)).unwrap_or_default();
        text.rsplit(") ").next().is_some_and(|rest| rest.starts_with(state))
    });
}

#[test]
fn sixteen_processes_that_miss_a_key_run_the_command_once() {
    for store in Store::each() {
        let runs = Runs::new();
        let command = runs.command("0.4", "v");
        let crowd: Vec<Child> =
            (0..16).map(|_| spawn(&store, &["--wait", "60s"], &command)).collect();
        for child in crowd {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success() && output.stdout == b"v", "{output:?}");
        }
        assert_eq!(runs.pids().len(), 1);
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
        store.is_clean();
    }
}

#[test]
fn a_loader_that_is_killed_is_followed_by_one_other() {
    for store in Store::each() {
        let runs = Runs::new();
        let command = runs.command("0.6", "v");
        let crowd: Vec<Child> =
            (0..16).map(|_| spawn(&store, &["--wait", "60s"], &command)).collect();
        let first = runs.first();
        signal(first, Signal::SIGKILL);
        let mut killed = 0;
        for child in crowd {
            let pid = child.id().cast_signed();
            let output = child.wait_with_output().expect("it ends");
            match pid == first {
                true => killed += 1,
                false => assert!(output.status.success() && output.stdout == b"v", "{output:?}"),
            }
        }
        assert_eq!((killed, runs.pids().len()), (1, 2));
        store.is_clean();
    }
}

#[test]
fn a_stopped_loader_is_named_at_the_deadline() {
    let store = Store::posix();
    let runs = Runs::new();
    let command = runs.command("0.2", "v");
    let mut loader = spawn(&store, &[], &command);
    let pid = runs.first();
    signal(pid, Signal::SIGSTOP);
    wait_for_state(pid, "T");
    for wait in ["0ms", "200ms"] {
        let begin = Instant::now();
        store.kv(args(&["--wait", wait], &command)).fails(7, &pid.to_string());
        assert!(begin.elapsed() < Duration::from_secs(4));
    }
    let info = store.kv(["info", "--format", "json"]).exits(0).json();
    assert_eq!(info["leases"][0]["pid"], pid);
    assert!(store.kv(["info"]).exits(0).text().contains("computing for"));
    store.is_clean();
    // It was not robbed, and goes on.
    signal(pid, Signal::SIGCONT);
    assert!(loader.wait().expect("it ends").success());
    assert_eq!(store.kv(args(&[], &command)).exits(0).stdout, b"v");
    assert_eq!(runs.pids().len(), 1);
}

#[test]
fn a_stopped_loader_leaves_the_stale_value_to_the_others() {
    let store = Store::posix();
    let runs = Runs::new();
    let options = ["--ttl", "50ms", "--stale", "1h"];
    let old = runs.command("0", "old");
    assert_eq!(store.kv(args(&options, &old)).exits(0).stdout, b"old");
    std::thread::sleep(Duration::from_millis(100));
    std::fs::remove_file(&runs.path).expect("removes");
    let new = runs.command("0.1", "new");
    let mut loader = spawn(&store, &options, &new);
    let pid = runs.first();
    signal(pid, Signal::SIGSTOP);
    wait_for_state(pid, "T");
    let begin = Instant::now();
    assert_eq!(store.kv(args(&options, &new)).exits(0).stdout, b"old");
    assert!(begin.elapsed() < Duration::from_secs(4));
    // Dead, it is followed at once, although there is a stale value.
    signal(pid, Signal::SIGKILL);
    loader.wait().expect("it ends");
    assert_eq!(store.kv(args(&options, &new)).exits(0).stdout, b"new");
    assert_eq!(runs.pids().len(), 2);
}

#[test]
fn a_command_that_fails_stores_nothing() {
    let store = Store::posix();
    store.kv(["get-or-run", "k", "--", "sh", "-c", "exit 3"]).fails(9, "exit status: 3");
    store.kv(["get-or-run", "k", "--", "/no/such/program"]).fails(9, "/no/such/program");
    store.kv(["get-or-run", "k"]).fails(2, "COMMAND");
    store.kv(["get", "k"]).fails(1, "absent");
    let run = store.kv(["get-or-run", "k", "--ttl", "1h", "--", "echo", "-n", "v"]).exits(0);
    assert_eq!(run.stdout, b"v");
    let json = store.kv(["get-or-run", "k", "--format", "json", "--", "false"]).exits(0).json();
    assert_eq!(json["value"], "v");
    assert!(store.kv(["ttl", "k"]).exits(0).text().trim() != "never");
    let huge = ["get-or-run", "l", "--", "head", "-c", "9000000", "/dev/zero"];
    store.kv(huge).fails(8, "the command's output");
    store.is_clean();
}
