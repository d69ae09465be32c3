//! What needs no store: help, manual, completions, and wrong usage.

use std::io::Read;
use std::process::Stdio;

use crate::harness::{Store, bare, finish};

#[track_caller]
fn kv(args: &[&str]) -> crate::harness::Run {
    let mut command = bare();
    command.args(args);
    finish(command, b"")
}

#[test]
fn wrong_usage_exits_2_with_one_line() {
    kv(&["gett", "k"]).fails(2, "gett");
    kv(&["get"]).fails(2, "<KEY>");
    kv(&["--format", "xml", "get", "k"]).fails(2, "xml");
    kv(&["create", "--size", "lots"]).fails(2, "256MiB");
    kv(&["create", "--permissions", "0999"]).fails(2, "octal");
    kv(&["put", "k", "v", "--ttl", "10"]).fails(2, "unit");
    kv(&["put", "k", "v", "--ttl", "1s", "--ttl-ms", "5"]).fails(2, "--ttl-ms");
    kv(&["incr", "k", "five"]).fails(2, "five");
    kv(&["bench", "--read-only", "--work", "put"]).fails(2, "--read-only");
}

#[test]
fn a_store_that_is_none_of_the_kinds_is_wrong_usage() {
    for spec in ["nonsense", "tcp:localhost", "posix:", "sysv:0xzz", "fd:x"] {
        kv(&["--store", spec, "get", "k"]).fails(2, "");
        kv(&["get", "--store", spec, "k"]).fails(2, "");
    }
}

#[test]
fn no_command_shows_the_help_and_exits_2() {
    let run = kv(&[]).exits(2);
    assert!(run.stderr.contains("Usage:"));
}

#[test]
fn help_and_version() {
    let help = kv(&["--help"]).exits(0);
    for word in ["Exit codes", "KV_STORE", "posix:NAME", "Examples", "demo"] {
        assert!(help.text().contains(word), "{word}");
    }
    assert!(!help.text().contains("bench-worker"));
    assert!(kv(&["load", "--help"]).exits(0).text().contains("key_b64"));
    assert!(kv(&["--version"]).exits(0).text().starts_with("kv-cli "));
}

#[test]
fn manual_pages() {
    assert!(kv(&["man"]).exits(0).text().contains(".TH kv-cli 1"));
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("man1");
    kv(&["man", "--out", place.to_str().expect("text")]).exits(0);
    for page in ["kv-cli.1", "kv-cli-get.1", "kv-cli-load.1"] {
        assert!(place.join(page).is_file(), "{page}");
    }
    assert!(!place.join("kv-cli-bench-worker.1").exists());
    kv(&["man", "--out", "/dev/null/x"]).fails(9, "/dev/null/x");
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = kv(&["completions", shell]).exits(0);
        assert!(script.text().contains("mget"), "{shell}");
    }
    kv(&["completions", "tcsh"]).fails(2, "tcsh");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = bare()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let status = child.wait().expect("ends");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("reads");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
    let mut command = bare();
    command.args(["man"]).stdout(full).stderr(Stdio::piped());
    let output = command.output().expect("runs");
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn every_command_on_an_absent_store_exits_3() {
    let store = Store::unmade();
    let commands: [&[&str]; 24] = [
        &["get", "k"],
        &["put", "k", "v"],
        &["add", "k", "v"],
        &["replace", "k", "v"],
        &["cas", "k", "1", "v"],
        &["del", "k"],
        &["exists", "k"],
        &["incr", "k"],
        &["decr", "k"],
        &["ttl", "k"],
        &["mget", "k"],
        &["scan"],
        &["load"],
        &["dump"],
        &["stats"],
        &["check"],
        &["info"],
        &["rm", "--yes"],
        &["chmod", "0640"],
        &["chown", "root"],
        &["bench", "--seconds", "1"],
        &["bench", "--seconds", "1", "--read-only"],
        &["put", "k", "-"],
        &["mget", "-"],
    ];
    for command in commands {
        store.kv(command).fails(3, "");
    }
    let missing = "file:/nonexistent/directory/store.kv";
    kv(&["--store", missing, "get", "k"]).fails(3, "/nonexistent/directory/store.kv");
}
