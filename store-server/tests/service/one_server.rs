//! A store has one server at a time, however that one ended or was started.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Uid, fork};
use store_client::{CreateOptions, KeepError, Reader, Sealing, Writer, create, destroy};

use crate::harness::{Name, Server, program, refused, until};

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
fn the_server_of_a_store_is_told_as_long_as_it_lives() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in Name::each(directory.path()) {
        let mut server = Server::keeping(&name, &[]);
        let reader = Reader::attach(&name.0).expect("the store");
        let told = || reader.info().expect("info").server;
        assert_eq!(told(), Some(server.pid()));
        server.end(Signal::SIGKILL);
        assert_eq!(told(), None);
        let mut server = Server::keeping(&name, &[]);
        assert_eq!(told(), Some(server.pid()));
        assert_eq!(server.end(Signal::SIGTERM), Some(0));
        assert_eq!(told(), None);
    }
}

#[test]
fn a_forked_child_is_not_the_server() {
    let writer = Writer::anonymous(&CreateOptions::new(4 << 20)).expect("a store");
    writer.keep().expect("nobody is");
    writer.keep().expect("it is still");
    let own = std::process::id();
    #[expect(unsafe_code, reason = "fork is what is tested")]
    // SAFETY: the child uses the store only, and never returns.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let kept = writer.keep();
            let refused = matches!(kept, Err(KeepError::Kept { pid }) if pid == own);
            drop(writer.put(b"refused", if refused { b"1" } else { b"0" }));
            std::process::abort()
        }
        ForkResult::Parent { child } => drop(waitpid(child, None).expect("it is ours")),
    }
    assert_eq!(writer.get(b"refused").expect("a get").as_deref(), Some(&b"1"[..]));
    assert_eq!(writer.info().expect("info").server, Some(own));
}

#[test]
fn the_server_of_another_user_follows_one_that_was_killed() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("store-server");
    // By another process: a descriptor that writes, inherited by another test's child, would keep
    // it from being started.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_store-server")).arg(&program).status();
    assert!(copied.expect("cp").success());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("opens it");
    for name in Name::each(directory.path()) {
        let options = CreateOptions::new(4 << 20).permissions(0o666);
        drop(create(&name.0, &options).expect("a store"));
        let of_user = |user| {
            let mut command = Command::new(&program);
            let store = name.0.to_string();
            command.args(["--store", &store, "--interval-ms", "20"]).uid(user).gid(user);
            command
        };
        let mut first = Server::start(&mut of_user(20_001));
        first.says("ready");
        let output = of_user(20_002).output().expect("a second one");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(said.contains(&format!("process {} ", first.pid())), "{said}");
        first.end(Signal::SIGKILL);
        Server::start(&mut of_user(20_002)).says("ready");
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
    // The maker has the descriptor still, and is not the server.
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
