//! What the server does for its store.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use store_client::{Reader, Spec, Writer};

use crate::harness::{Name, Server, program, until};

/// In a child of this test: attach as a writer, say so, and wait to be killed.
const ROLE: &str = "CISTERN_TEST_VICTIM";

#[test]
fn victim() {
    let Ok(spec) = std::env::var(ROLE) else { return };
    let spec: Spec = spec.parse().expect("a spec");
    let writer = Writer::attach(&spec).expect("the store");
    writer.put(b"victim", b"was here").expect("a put");
    std::thread::sleep(Duration::from_secs(60));
    drop(writer);
}

#[test]
fn a_dead_client_is_reaped_on_every_backing() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in Name::each(directory.path()) {
        let mut server = Server::keeping(&name, &["--remove"]);
        let mut victim = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "upkeep::victim", "--nocapture"])
            .env(ROLE, name.0.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("a victim");
        let reader = Reader::attach(&name.0).expect("the store");
        until("the victim wrote", || reader.contains(b"victim").expect("a lookup"));
        assert_eq!(reader.info().expect("info").clients.len(), 2);
        victim.kill().expect("kill");
        victim.wait().expect("wait");
        assert!(server.line().starts_with("reaped 1 dead clients"));
        assert_eq!(reader.info().expect("info").clients.len(), 1);
        assert!(reader.contains(b"victim").expect("a lookup"));
        assert_eq!(server.end(Signal::SIGTERM), Some(0));
        assert!(reader.is_retired() && Reader::attach(&name.0).is_err(), "it removed the store");
    }
}

#[test]
fn expired_items_are_swept_and_told_in_sum() {
    let name = Name::posix();
    let mut server = Server::keeping(&name, &[]);
    let writer = Writer::attach(&name.0).expect("the store");
    for number in 0..100_u32 {
        let options = store_client::PutOptions::new().ttl(Duration::from_millis(1));
        writer.put_with(&number.to_le_bytes(), b"v", &options).expect("a put");
    }
    until("all is swept", || writer.is_empty());
    assert_eq!(server.end(Signal::SIGINT), Some(0));
    server.says("swept 100 expired items");
    server.says("left ");
    assert!(Reader::attach(&name.0).is_ok(), "it stays");
}

#[test]
fn a_log_that_nobody_takes_does_not_end_it() {
    let name = Name::posix();
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("opens");
    let mut child = program()
        .args(["--store", &name.0.to_string(), "--size", "4MiB", "--interval-ms", "20"])
        .stdout(full())
        .stderr(full())
        .spawn()
        .expect("the server");
    until("it made the store", || Reader::attach(&name.0).is_ok());
    std::thread::sleep(Duration::from_millis(200));
    let ended = child.try_wait().expect("wait");
    let _ = child.kill();
    let _ = child.wait();
    assert!(ended.is_none(), "it goes on");
}

#[test]
fn a_store_that_is_removed_ends_it() {
    let name = Name::posix();
    let mut server = Server::keeping(&name, &["--remove"]);
    store_client::destroy(&name.0).expect("removes it");
    let other = store_client::create(&name.0, &store_client::CreateOptions::new(4 << 20));
    server.says("the store was removed");
    until("it ended", || !server.runs());
    assert!(!other.expect("another store").is_retired(), "which is left alone");
}
