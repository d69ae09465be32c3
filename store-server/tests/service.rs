//! The server makes a store, reaps a client that was killed, and ends by SIGTERM.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use store_client::{Reader, Spec, Writer};

/// Kills the server, if it still runs, however the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a child of this test: attach as a writer, say so, and wait to be killed.
const ROLE: &str = "CISTERN_TEST_VICTIM";

#[test]
fn victim() {
    let Ok(spec) = std::env::var(ROLE) else { return };
    let writer = Writer::attach(&spec.parse().expect("a spec")).expect("the store");
    writer.put(b"victim", b"was here").expect("a put");
    println!("attached");
    std::thread::sleep(Duration::from_secs(60));
    drop(writer);
}

#[test]
fn a_dead_client_is_reaped_and_sigterm_ends_it() {
    let name = format!("posix:server-test-{}", std::process::id());
    let spec: Spec = name.parse().expect("a spec");
    let mut server = Server(
        Command::new(env!("CARGO_BIN_EXE_store-server"))
            .args(["--store", &name, "--create", "4MiB", "--interval-ms", "20", "--remove"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server"),
    );
    let mut said = BufReader::new(server.0.stdout.take().expect("its output")).lines();
    let first = said.next().expect("a line").expect("text");
    assert!(first.starts_with(&format!("keeping {name}")), "{first}");

    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "victim", "--nocapture"])
        .env(ROLE, &name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a victim");
    let reader = Reader::attach(&spec).expect("the store");
    let deadline = Instant::now() + Duration::from_secs(30);
    while reader.get(b"victim").expect("a lookup").is_none() {
        assert!(Instant::now() < deadline, "the victim never wrote");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(reader.info().expect("info").clients.len(), 2);
    victim.kill().expect("kill");
    victim.wait().expect("wait");
    let reaped = said.next().expect("a line").expect("text");
    assert!(reaped.starts_with("reaped 1 dead clients"), "{reaped}");
    assert_eq!(reader.info().expect("info").clients.len(), 1);
    assert_eq!(reader.get(b"victim").expect("a lookup").as_deref(), Some(&b"was here"[..]));

    let pid = Pid::from_raw(i32::try_from(server.0.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("SIGTERM");
    assert!(server.0.wait().expect("wait").success());
    assert!(reader.is_retired() && Reader::attach(&spec).is_err(), "it removed the store");
}

/// A server that ends by itself: its exit code and what it said.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_store-server")).args(args).output().expect("the server");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn exit_codes_tell_why_it_does_not_start() {
    let absent = format!("posix:server-test-absent-{}", std::process::id());
    let directory = std::env::temp_dir();
    let foreign = format!("file:{}", directory.display());
    let cases: [(&[&str], i32); 7] = [
        (&["--no-such-option"], 2),
        (&["--store", "nonsense"], 2),
        (&["--store", "sysv:x"], 3),
        (&["--store", &absent, "--create", "1KiB"], 2),
        (&["--store", &absent], 3),
        (&["--store", &foreign, "--create", "4MiB"], 6),
        (&["--store", "file:/dev/null/x", "--create", "4MiB"], 9),
    ];
    for (args, code) in cases {
        let (found, said) = refused(args);
        assert_eq!(found, Some(code), "{args:?}: {said}");
        assert!(!said.is_empty() && !said.contains("panicked"), "{args:?}: {said}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_store-server")).arg("--help").output();
    let help = String::from_utf8(help.expect("the server").stdout).expect("text");
    for line in ["0 told to end", "2 wrong usage", "3 there is no", "4 no", "5 no", "6 co", "9 sys"]
    {
        assert!(help.contains(line), "{line}: {help}");
    }
}

#[test]
fn a_log_that_nobody_takes_does_not_end_it() {
    let name = format!("posix:server-test-mute-{}", std::process::id());
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
    let mut server = Server(
        Command::new(env!("CARGO_BIN_EXE_store-server"))
            .args(["--store", &name, "--create", "4MiB", "--interval-ms", "20", "--remove"])
            .stdout(full)
            .spawn()
            .expect("the server"),
    );
    let spec: Spec = name.parse().expect("a spec");
    let deadline = Instant::now() + Duration::from_secs(30);
    while Reader::attach(&spec).is_err() {
        assert!(Instant::now() < deadline, "it made no store");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.0.try_wait().expect("wait").is_none(), "it goes on");
    kill(Pid::from_raw(server.0.id().cast_signed()), Signal::SIGTERM).expect("SIGTERM");
    assert!(server.0.wait().expect("wait").success());
}
