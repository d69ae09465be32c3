//! `doctor` on real limits: a small `/dev/shm`, an IPC namespace with none left, a stopped writer.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde_json::Value;

use crate::actor::Actor;
use crate::harness::{KV, Run, Store, bare, finish};

#[track_caller]
fn doctor(args: &[&str]) -> Run {
    let mut command = bare();
    command.arg("doctor").args(args);
    finish(command, b"")
}

/// The level of a finding, and all of it.
#[track_caller]
fn found(report: &Value, check: &str) -> (String, Value) {
    let findings = report["findings"].as_array().expect("findings");
    let one = findings.iter().find(|one| one["check"] == check);
    let one = one.unwrap_or_else(|| panic!("no {check} in {report}"));
    (one["level"].as_str().expect("text").to_owned(), one.clone())
}

#[track_caller]
fn level_of(report: &Value, check: &str) -> String {
    found(report, check).0
}

#[test]
fn what_is_told_is_the_same_in_each_format() {
    let json = doctor(&["--format", "json"]);
    let report = json.json();
    let findings = report["findings"].as_array().expect("findings");
    assert!(findings.len() > 20, "{report}");
    for one in findings {
        let is_ok = one["level"] == "ok";
        assert!(!one["finding"].as_str().expect("text").is_empty(), "{one}");
        assert_eq!(one["why"].is_null(), is_ok, "{one}");
        let mended = matches!(one["level"].as_str(), Some("warning" | "problem"));
        assert!(!mended || one["mend"].is_string(), "{one}");
    }
    let problems = findings.iter().filter(|one| one["level"] == "problem").count();
    assert_eq!(report["problems"], problems);
    assert_eq!(json.code, Some(if problems > 0 { 10 } else { 0 }));
    assert_eq!(doctor(&["--format", "jsonl"]).lines().len(), findings.len());
    let shown = doctor(&[]);
    assert!(shown.text().contains("/dev/shm room: "), "{shown:?}");
    assert!(!shown.text().contains('\x1b'), "NO_COLOR is set");
    doctor(&["--format", "raw"]).fails(2, "raw");
    doctor(&["nonsense"]).fails(2, "names no store");
    doctor(&["--store", "posix:x"]).fails(2, "leave --store out");
}

/// Runs shell commands in namespaces of their own, where `$0` is the program.
fn unshared(flags: &[&str], script: &str) -> Run {
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", script, KV]).env("NO_COLOR", "1");
    command.env_remove("KV_STORE");
    finish(command, b"")
}

#[test]
fn limits_that_are_used_up_are_problems() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can make namespaces and mount");
        return;
    }
    let script = "mount -t tmpfs -o size=64m,nr_inodes=2 tmpfs /dev/shm && cd /dev/shm &&
                  \"$0\" create --size 4MiB >/dev/null && ulimit -n 40 && ulimit -v 1000000 && ulimit -f 2000 &&
                  exec \"$0\" doctor --format json";
    let run = unshared(&["--mount"], script).exits(10);
    let report = run.json();
    let (level, room) = found(&report, "/dev/shm room");
    assert_eq!(level, "warning");
    assert!(room["finding"].as_str().is_some_and(|text| text.contains("of 64.0 MiB")), "{room}");
    assert_eq!(level_of(&report, "/dev/shm files"), "problem");
    for limit in ["RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_FSIZE"] {
        assert_eq!(level_of(&report, limit), "warning", "{limit}");
    }

    let script = "cd /proc/sys/kernel && echo 0 >shmmni && echo 10000 >shmall &&
                  echo 33554432 >shmmax && echo 1 >shm_rmid_forced && echo 250 9 32 0 >sem &&
                  exec \"$0\" doctor --format json";
    let report = unshared(&["--ipc"], script).exits(10).json();
    assert_eq!(level_of(&report, "kernel.shmmni"), "problem");
    for limit in ["kernel.shmall", "kernel.shmmax", "kernel.shm_rmid_forced", "kernel.sem"] {
        assert_eq!(level_of(&report, limit), "warning", "{limit}");
    }
    let (level, namespaces) = found(&report, "namespaces");
    assert_eq!(level, "note");
    assert!(namespaces["finding"].as_str().is_some_and(|text| text.contains("IPC")));

    let script = "mount -t proc -o hidepid=2 proc /proc && exec \"$0\" doctor --format json";
    let report = unshared(&["--mount", "--pid", "--fork"], script).json();
    assert_eq!(level_of(&report, "/proc"), "note");
    assert_eq!(level_of(&report, "namespaces"), "note");
}

#[test]
fn what_is_left_behind_is_told_with_its_name() {
    let store = Store::unmade();
    let path = format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:"));
    std::fs::write(path, [0; 8192]).expect("writes");
    let report = doctor(&["--format", "json"]).json();
    let (level, leaks) = found(&report, "leaks");
    assert_eq!((level.as_str(), leaks["mend"].as_str()), ("warning", Some("kv-cli gc")));
    assert!(leaks["finding"].as_str().is_some_and(|text| text.contains(&store.spec)), "{leaks}");
}

#[test]
fn a_store_is_looked_at() {
    let store = Store::posix();
    store.kv(["put", "k", "v"]).exits(0);
    let look = || doctor(&[&store.spec, "--format", "json"]).json();
    let report = look();
    for check in ["store room", "store mode", "store clients"] {
        assert_eq!(level_of(&report, check), "ok", "{report}");
    }
    store.kv(["chmod", "0666"]).exits(0);
    let (level, mode) = found(&look(), "store mode");
    assert_eq!(level, "warning");
    assert!(mode["mend"].as_str().is_some_and(|text| text.contains(&store.spec)), "{mode}");

    let mut writer = Actor::on(&store.spec);
    kill(Pid::from_raw(writer.pid() as i32), Signal::SIGSTOP).expect("sends");
    // It stands still a moment later.
    let stopped = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let report = look();
        let findings = report["findings"].as_array().expect("findings");
        findings.iter().any(|one| {
            let named = format!("process {} is stopped", writer.pid());
            one["check"] == "store writer"
                && one["finding"].as_str().is_some_and(|text| text.contains(&named))
        })
    });
    assert!(stopped);
    writer.kill();
    let (level, clients) = found(&look(), "store clients");
    assert_eq!(level, "note");
    assert!(clients["finding"].as_str().is_some_and(|text| text.contains("1 dead")), "{clients}");

    store.kv(["rm", "--yes"]).exits(0);
    let run = doctor(&[&store.spec, "--format", "json"]).exits(10);
    let (level, absent) = found(&run.json(), "store");
    assert_eq!(
        (level.as_str(), absent["why"].as_str()),
        ("problem", Some("there is no such store"))
    );
}

#[test]
fn a_store_that_can_not_grow_where_it_is_is_told() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let script = "mount -t tmpfs -o size=8m tmpfs /dev/shm && cd /dev/shm &&
                  \"$0\" create --store posix:x --size 1MiB --max-size 64MiB >/dev/null;
                  exec \"$0\" doctor posix:x --format json";
    let report = unshared(&["--mount"], script).json();
    assert_eq!(level_of(&report, "store room"), "warning", "{report}");
}

#[test]
fn what_is_the_matter_with_a_broken_store_is_told() {
    let store = Store::file();
    let file = std::fs::File::options().write(true).open(store.path()).expect("the file");
    for (bytes, why, mend) in
        [(8 << 20, "its end was cut off", "salvage"), (100, "is all that is left", "rm")]
    {
        file.set_len(bytes).expect("cuts");
        let run = doctor(&[&store.spec, "--format", "json"]).exits(10);
        let (_, told) = found(&run.json(), "store");
        assert!(told["why"].as_str().is_some_and(|text| text.contains(why)), "{told}");
        assert!(told["mend"].as_str().is_some_and(|text| text.contains(mend)), "{told}");
    }
}
