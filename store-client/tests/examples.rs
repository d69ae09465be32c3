//! The examples run.

use std::path::PathBuf;
use std::process::Command;

fn run(example: &str, args: &[&str]) {
    // Cargo builds examples for tests, beside the directory of the test binaries.
    let mut path: PathBuf = std::env::current_exe().expect("this test");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(example);
    let output = Command::new(&path).args(args).output().expect("the example was built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", path.display());
}

#[test]
fn embedded_cache() {
    run("embedded_cache", &[]);
}

#[test]
fn forked_workers() {
    for guard in ["futex", "sysv"] {
        run("forked_workers", &[guard]);
    }
}

#[test]
fn two_processes() {
    run("two_processes", &[]);
}
