//! `demo`: runs alone, tells what it saw, and leaves nothing behind, however it ends.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{bare, finish, quiet};

fn demo_stores(pid: u32) -> Vec<String> {
    let mut ls = bare();
    ls.args(["--format", "raw", "ls"]);
    let names = finish(ls, b"").exits(0);
    let name = format!("posix:demo-{pid}");
    let longer = format!("{name}-");
    let of_demo = |line: &&str| **line == name || line.starts_with(&longer);
    names.lines().into_iter().filter(of_demo).map(str::to_owned).collect()
}

#[test]
fn the_demo_tells_its_story_and_cleans_up() {
    let _quiet = quiet();
    let started = Instant::now();
    let child = bare()
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("ends");
    let (story, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{story}{said}");
    assert_eq!(said, "");
    assert!(started.elapsed() < Duration::from_secs(60));
    // Lines are broken anywhere between words.
    let story = story.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "420 records",
        "read-only",
        "Stopped",
        "not robbed",
        "Killed",
        "took the guard over",
        "check",
        "Removed",
    ] {
        assert!(story.contains(part), "no {part:?} in {story}");
    }
    assert!(demo_stores(pid).is_empty());
}

#[test]
fn the_demo_measures() {
    let _quiet = quiet();
    let mut command = bare();
    command.args(["demo", "--format", "json"]);
    let measured = finish(command, b"").exits(0).json();
    let number = |name: &str| measured[name].as_u64().unwrap_or_else(|| panic!("{measured}"));
    assert_eq!(number("records"), 420);
    assert!(number("lookups") > 10_000 && number("updates") > 1_000, "{measured}");
    assert!(number("lookups_with_dead_holder") > 1_000, "{measured}");
    assert!(number("longest_put_ns") < 100_000_000, "{measured}");
    assert!(
        number("repair_ns") > 0 && number("repair_ns") <= number("longest_put_ns"),
        "{measured}"
    );
    assert_eq!(measured["stopped_holder_named"], true);
}

#[test]
fn an_interrupted_demo_removes_its_store() {
    let _quiet = quiet();
    let child = bare()
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let pid = child.id();
    let until = Instant::now() + Duration::from_secs(10);
    while demo_stores(pid).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Past the making of the store and into the acts.
    std::thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).expect("sends");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!(demo_stores(pid).is_empty());
}
