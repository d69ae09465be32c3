//! What a person at a terminal sees: tables and texts that fit it. Elsewhere nothing is broken.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};

use crate::harness::Store;

/// The lines of a run at a terminal of so many columns.
fn at_terminal(store: &Store, args: &[&str], columns: u16) -> Vec<String> {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a terminal");
    let mut command = store.command(args);
    command.stdin(Stdio::null()).stdout(terminal.slave).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    // Its copy of the terminal's end would keep the reading below from ending.
    drop(command);
    let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
    let mut screen = File::from(terminal.master);
    // Ends in EIO, once nobody can write any more.
    while let Ok(count @ 1..) = screen.read(&mut piece) {
        shown.extend_from_slice(&piece[..count]);
    }
    assert!(child.wait().expect("ends").success(), "{args:?}");
    let text = String::from_utf8(shown).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn tables_and_texts_fit_the_terminal_and_no_pipe() {
    let store = Store::posix();
    for number in 0..50 {
        store.kv(["put", &format!("a-key-of-some-length-{number}"), &"v".repeat(150)]).exits(0);
    }
    let commands: [&[&str]; 5] =
        [&["stats"], &["info"], &["ls"], &["--format", "table", "scan", "--values"], &["check"]];
    for command in commands {
        let piped = store.kv(command).exits(0);
        for columns in [60, 100] {
            let lines = at_terminal(&store, command, columns);
            let widest = lines.iter().map(|line| line.chars().count()).max().expect("lines");
            assert!(
                widest <= usize::from(columns),
                "{command:?}: {widest} > {columns}: {lines:#?}"
            );
            assert!(command == ["ls"] || lines.len() >= piped.lines().len(), "{command:?}");
        }
        // The stores of the tests beside this one come and go.
        if command == ["ls"] {
            continue;
        }
        // A terminal as wide as it takes shows what the pipe gets; so nothing is lost in between.
        let unbroken = at_terminal(&store, command, 1000);
        assert_eq!(unbroken.len(), piped.lines().len(), "{command:?}: {unbroken:#?}");
    }
    let widest = |lines: &[&str]| lines.iter().map(|line| line.chars().count()).max();
    assert!(
        widest(&store.kv(["--format", "table", "scan", "--values"]).exits(0).lines()) > Some(150)
    );
    assert!(widest(&store.kv(["stats"]).exits(0).lines()) > Some(60));
}
