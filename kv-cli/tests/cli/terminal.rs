//! What a person at a terminal sees: tables and texts that fit it. Elsewhere nothing is broken.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

#[test]
fn a_map_that_is_watched_is_drawn_anew_and_leaves_the_terminal_as_it_was() {
    let store = Store::posix();
    store.kv(["put", "k", "v"]).exits(0);
    let size = Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a terminal");
    let mut command = store.command(["map", "--watch", "0.1"]);
    command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("COLORTERM", "truecolor");
    command.stdin(Stdio::null()).stdout(terminal.slave).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    drop(command);
    let (mut shown, mut piece) = (String::new(), [0; 4096]);
    let mut screen = File::from(terminal.master);
    let mut asked = false;
    while let Ok(count @ 1..) = screen.read(&mut piece) {
        shown += &String::from_utf8_lossy(&piece[..count]);
        if !asked && shown.matches("\x1b[H").count() >= 3 {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
            asked = true;
        }
    }
    assert!(child.wait().expect("ends").success(), "{shown:?}");
    // The other screen and the cursor.
    assert!(shown.starts_with("\x1b[?1049h\x1b[?25l"), "{shown:?}");
    assert!(shown.ends_with("\x1b[?25h\x1b[?1049l"), "{shown:?}");
    // An open extent is green, a bucket's is full.
    assert!(shown.contains("\x1b[32m") && shown.contains('█'), "{shown:?}");
    let frame = shown.split("\x1b[H").nth(1).expect("a frame");
    assert!(frame.lines().count() <= 24, "{frame:?}");
}
