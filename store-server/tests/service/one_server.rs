//! A store has one server at a time, however that one ended or was started.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use store_client::{CreateOptions, Sealing, Spec, Writer, create, destroy};

use crate::harness::{Name, Server, program, refused, until};

/// The lock files of System V stores.
fn lock_files() -> Vec<String> {
    let names = std::fs::read_dir("/dev/shm").expect("a list").flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("cistern-server.")).collect()
}

#[test]
fn a_second_server_is_refused_on_every_backing() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in Name::each(directory.path()) {
        let store = name.0.to_string();
        let mut first = Server::keeping(&name, &[]);
        let expected = format!("process {} keeps this store already", first.pid());
        // It goes on, and has done some rounds.
        std::thread::sleep(std::time::Duration::from_millis(100));
        for args in [&["--store", &store][..], &["--store", &store, "--size", "4MiB", "--remove"]] {
            let said = refused(args, 7);
            assert!(said.contains(&expected), "{said}");
        }
        // One that is stopped still counts.
        first.send(Signal::SIGSTOP);
        assert!(refused(&["--store", &store], 7).contains(&expected));
        // One that was killed does not.
        first.end(Signal::SIGKILL);
        let mut second = Server::keeping(&name, &[]);
        second.says("reaped 1 dead clients");
        assert!(refused(&["--store", &store], 7).contains(&second.pid().to_string()));

        // A store that is made anew under the name is another one.
        second.send(Signal::SIGSTOP);
        destroy(&name.0).expect("removes it");
        drop(create(&name.0, &CreateOptions::new(4 << 20)).expect("a new store"));
        let mut third = Server::keeping(&name, &["--remove"]);
        second.send(Signal::SIGCONT);
        second.says("the store was removed");
        assert_eq!(third.end(Signal::SIGTERM), Some(0));
    }
}

#[test]
fn the_lock_file_of_a_system_v_store_goes_with_its_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let [_, registered, keyed, _] = Name::each(directory.path());
    let mut server = Server::keeping(&registered, &[]);
    let reader = store_client::Reader::attach(&registered.0).expect("the store");
    let file = format!("cistern-server.{}", reader.info().expect("info").uuid);
    assert!(lock_files().contains(&file));
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
    assert!(!lock_files().contains(&file));

    // One that was killed leaves it to the next server, of whatever System V store.
    Server::keeping(&registered, &[]).end(Signal::SIGKILL);
    let mut other = Server::keeping(&keyed, &["--remove"]);
    assert!(!lock_files().contains(&file));
    assert_eq!(other.end(Signal::SIGTERM), Some(0));
}

#[test]
fn the_kernel_shows_the_lock_of_a_server_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in Name::each(directory.path()) {
        let mut server = Server::keeping(&name, &[]);
        let reader = store_client::Reader::attach(&name.0).expect("the store");
        let path = match &name.0 {
            Spec::Posix(name) => format!("/dev/shm/cistern.{name}"),
            Spec::File(path) => path.display().to_string(),
            _ => format!("/dev/shm/cistern-server.{}", reader.info().expect("info").uuid),
        };
        let inode = std::fs::metadata(path).expect("a file").ino();
        let held = || {
            let locks = std::fs::read_to_string("/proc/locks").expect("the list of locks");
            // A client has a lock of its own, of another byte.
            let mine = locks.lines().filter(|line| {
                line.contains(&format!(":{inode} "))
                    && line.ends_with("4611686018427387904 4611686018427387904")
            });
            mine.map(str::to_owned).collect::<Vec<_>>()
        };
        let [lock] = &held()[..] else { panic!("{:?}", held()) };
        assert!(lock.contains("OFDLCK") && lock.contains("WRITE"), "{lock}");
        server.end(Signal::SIGKILL);
        assert_eq!(held(), Vec::<String>::new());
    }
}

#[test]
fn a_memfd_that_was_passed_has_one_server_whoever_else_has_its_descriptor() {
    let options = CreateOptions::new(4 << 20);
    let maker = Writer::memfd(&options, Sealing::SharedWriters).expect("a store");
    let with_descriptor = || {
        let descriptor = maker.descriptor().expect("a memfd has one").try_clone_to_owned();
        let mut command = Command::new("sh");
        let script = r#"exec "$0" --store fd:3 --interval-ms 20 3<&0 </dev/null"#;
        command.args(["-c", script, env!("CARGO_BIN_EXE_store-server")]);
        command.stdin(Stdio::from(descriptor.expect("dup")));
        command
    };
    let mut first = Server::start(&mut with_descriptor());
    first.says("ready");
    let output = with_descriptor().output().expect("a second one");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains(&format!("process {} ", first.pid())), "{said}");
    // The maker has the descriptor still, and not the lock.
    first.end(Signal::SIGKILL);
    Server::start(&mut with_descriptor()).says("ready");
}

#[test]
fn a_server_whose_parent_ended_keeps_its_store() {
    let name = Name::posix();
    let store = name.0.to_string();
    // The shell ends at once, and its child goes on in a session of its own.
    let script = r#"setsid "$0" --store "$1" --size 4MiB >/dev/null 2>&1 & echo $!"#;
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_store-server"), &store])
        .stderr(Stdio::null())
        .output()
        .expect("sh");
    let mut said = String::new();
    until("a second one is refused", || {
        let output = program().args(["--store", &store]).output().expect("the server");
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.code() == Some(7)
    });
    destroy(&name.0).expect("removes it, which ends the server");
    let pid = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains(&format!("process {} ", pid.trim())), "{said}");
}
