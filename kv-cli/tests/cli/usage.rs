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
    kv(&["mput", "k"]).fails(2, "in turn");
    kv(&["mput", "a", "1", "b"]).fails(2, "in turn");
    kv(&["expire", "k", "10"]).fails(2, "unit");
    kv(&["del", "--if-version", "newest", "k"]).fails(2, "newest");
    kv(&["create", "--hash", "md5"]).fails(2, "siphash");
    kv(&["bench", "--read-only", "--work", "put"]).fails(2, "--read-only");
}

#[test]
fn options_without_effect_are_refused() {
    kv(&["bench", "--read-percent", "50"]).fails(2, "--read-percent");
    kv(&["bench", "--work", "put", "--read-percent", "95"]).fails(2, "--read-percent");
    kv(&["bench", "--batch", "32"]).fails(2, "--batch");
    kv(&["bench", "--read-only", "--value-bytes", "100"]).fails(2, "--value-bytes");
    for format in ["json", "jsonl", "table"] {
        kv(&["man", "--format", format]).fails(2, "--format");
        kv(&["completions", "bash", "--format", format]).fails(2, "--format");
    }
    kv(&["--format", "raw", "man"]).exits(0);
    let store = Store::posix();
    let by_column: [&[&str]; 4] = [
        &["--key-column", "key"],
        &["--value-column", "v"],
        &["--ttl-column", "t"],
        &["--no-header"],
    ];
    for options in by_column {
        store.kv([&["load"], options].concat()).fails(2, "JSONL has no columns");
    }
}

#[test]
fn a_store_is_refused_where_it_has_no_effect() {
    let commands: [&[&str]; 5] =
        [&["ls"], &["gc", "--dry-run"], &["man"], &["completions", "bash"], &["demo"]];
    for command in commands {
        kv(&[&["--store", "posix:x"], command].concat()).fails(2, "leave --store out");
        kv(&[command, &["--store", "posix:x"]].concat()).fails(2, command[0]);
    }
    // The variable is for the commands around it.
    for command in &commands[..4] {
        let mut with_variable = bare();
        with_variable.env("KV_STORE", "nonsense").args(*command);
        finish(with_variable, b"").exits(0);
    }
}

#[test]
fn zero_needs_no_unit() {
    let store = Store::posix();
    store.kv(["put", "k", "v", "--timeout", "0"]).exits(0);
    store.kv(["--timeout", "0s", "put", "k", "v"]).exits(0);
    // No time to live is no way to delete, with a unit or without.
    for zero in ["0", "0s", "0.9ms"] {
        store.kv(["expire", "k", zero]).fails(8, "kv-cli del");
        store.kv(["put", "k", "w", "--ttl", zero]).fails(8, "the shortest is 1 ms");
    }
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
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
    assert!(help.text().contains("survives reboots if"));
    assert!(help.text().contains("1M is 1,000,000 bytes"));
    assert!(kv(&["incr", "--help"]).exits(0).text().contains("value_text"));
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
        assert!(!script.text().contains("-worker"), "{shell}");
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

/// A run whose output meets a full disk.
#[track_caller]
fn into_a_full_disk(mut command: std::process::Command) -> (Option<i32>, String) {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
    let output = command.stdout(full).stderr(Stdio::piped()).output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_full_disk_is_an_error() {
    let arguments: [&[&str]; 5] =
        [&["man"], &["--help"], &["get", "--help"], &["--version"], &["completions", "zsh"]];
    for args in arguments {
        let mut command = bare();
        command.args(args);
        let (code, said) = into_a_full_disk(command);
        assert_eq!(code, Some(9), "{args:?} {said}");
        assert!(said.contains("standard output") && said.lines().count() == 1, "{args:?} {said}");
    }
}

#[test]
fn a_full_disk_does_not_hide_what_was_done() {
    let store = Store::unmade();
    let steps: [(&[&str], &str); 5] = [
        (&["create", "--size", "1MiB"], "the store was made, but not reported"),
        (&["incr", "n"], "the number was changed"),
        (&["--format", "table", "put", "k", "v"], "the value was stored"),
        (&["get", "k"], "kv-cli: writing to standard output"),
        (&["--format", "table", "rm", "-y"], "the store was removed"),
    ];
    for (args, words) in steps {
        let (code, said) = into_a_full_disk(store.command(args));
        assert_eq!(code, Some(9), "{args:?} {said}");
        assert!(said.contains(words) && said.contains("standard output"), "{args:?} {said}");
    }
    store.kv(["info"]).fails(3, "");
}

#[test]
fn every_command_on_an_absent_store_exits_3() {
    let store = Store::unmade();
    let commands: [&[&str]; 33] = [
        &["get", "k"],
        &["put", "k", "v"],
        &["add", "k", "v"],
        &["replace", "k", "v"],
        &["cas", "k", "1", "v"],
        &["del", "k"],
        &["del", "--if-version", "1", "k"],
        &["take", "k"],
        &["getset", "k", "v"],
        &["append", "k", "v"],
        &["prepend", "k", "v"],
        &["expire", "k", "1s"],
        &["persist", "k"],
        &["mput", "k", "v"],
        &["mput", "-"],
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
