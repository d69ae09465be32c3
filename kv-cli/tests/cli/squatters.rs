//! Another user who had the name first: what is there is neither used, nor followed, nor removed,
//! nor waited for without end.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use store_client::{ClientState, Reader};

use crate::harness::{KV, Run, Store, bare, finish, program_for_all, run_as};

/// The one who takes names, and the one who wanted them.
const SQUATTER: u32 = 65_534;
const USER: u32 = 20_017;

const CREATE: [&str; 5] = ["create", "--size", "4MiB", "--format", "json"];

fn is_root() -> bool {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
    }
    Uid::current().is_root()
}

fn object_path(store: &Store) -> String {
    format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:"))
}

/// Something of the squatter's.
fn give(path: &str) {
    std::os::unix::fs::lchown(path, Some(SQUATTER), Some(SQUATTER)).expect("root may");
}

#[test]
fn a_store_of_another_user_is_neither_taken_over_nor_removed() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_all();
    for store in [Store::unmade(), Store::unmade_keyed()] {
        let squatter = |args: &[&str]| run_as(&program, SQUATTER, SQUATTER, &store.spec, args);
        let user = |args: &[&str]| run_as(&program, USER, USER, &store.spec, args);
        squatter(&CREATE).exits(0);
        squatter(&["put", "k", "v"]).exits(0);
        user(&CREATE).fails(1, "exists already");
        user(&["get", "k"]).fails(4, "permission");
        user(&["put", "k", "w"]).fails(4, "permission");
        user(&["rm", "--yes"]).fails(4, "permission");
        // Reading is no more than reading.
        squatter(&["chmod", "0644"]).exits(0);
        user(&CREATE).fails(1, "exists already");
        user(&["put", "k", "w"]).fails(4, "permission");
        user(&["rm", "--yes"]).fails(4, "permission");
        let report = user(&["doctor", &store.spec, "--format", "json"]).json();
        let of_another = report["findings"].as_array().expect("findings").iter().any(|one| {
            one["check"] == "store owner"
                && one["finding"].as_str().is_some_and(|text| text.contains(&SQUATTER.to_string()))
        });
        assert!(of_another, "{report}");
        assert_eq!(squatter(&["get", "k"]).exits(0).stdout, b"v");
        squatter(&["rm", "--yes"]).exits(0);
    }
}

#[test]
fn the_same_registered_name_is_another_store_for_each_user() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_all();
    let store = Store::unmade_system_v();
    let squatter = |args: &[&str]| run_as(&program, SQUATTER, SQUATTER, &store.spec, args);
    let user = |args: &[&str]| run_as(&program, USER, USER, &store.spec, args);
    squatter(&[&CREATE[..], &["--permissions", "0666"]].concat()).exits(0);
    squatter(&["put", "k", "theirs"]).exits(0);
    user(&["get", "k"]).fails(3, "");
    user(&CREATE).exits(0);
    user(&["put", "k", "ours"]).exits(0);
    assert_eq!(squatter(&["get", "k"]).exits(0).stdout, b"theirs");
    assert_eq!(user(&["get", "k"]).exits(0).stdout, b"ours");
    user(&["rm", "--yes"]).exits(0);
    assert_eq!(squatter(&["get", "k"]).exits(0).stdout, b"theirs");
    squatter(&["rm", "--yes"]).exits(0);
}

/// Runs of the user on a name that is taken by what is no store; each ends soon.
#[track_caller]
fn is_refused(store: &Store, program: &Path, code: i32, part: &str) {
    let start = Instant::now();
    let user = |args: &[&str]| run_as(program, USER, USER, &store.spec, args);
    user(&["get", "k"]).fails(code, part);
    user(&["put", "k", "v"]).ends(code);
    user(&CREATE).fails(1, "");
    let removed = user(&["rm", "--yes"]);
    assert_ne!(removed.code, Some(0), "{removed:?}");
    user(&["ls"]).exits(0);
    user(&["gc", "--dry-run"]).exits(0);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// What has a name and is no store, removed at the end.
struct Taken(String);

impl Drop for Taken {
    fn drop(&mut self) {
        // It is gone already if the test went well.
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir(&self.0));
    }
}

#[test]
fn what_is_no_store_is_left_alone_and_nobody_waits_for_it() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_all();
    let place = tempfile::tempdir().expect("a directory");
    let target = place.path().join("target");

    let store = Store::unmade();
    let path = object_path(&store);
    let _taken = Taken(path.clone());
    std::fs::write(&path, b"of another kind, and long enough for a word").expect("writes");
    give(&path);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("root may");
    is_refused(&store, &program, 6, "");
    assert!(std::fs::read(&path).expect("it is there").starts_with(b"of another kind"));
    std::fs::remove_file(&path).expect("root may");

    // A link to a file of the user, which may be read and written.
    std::fs::write(&target, b"precious").expect("writes");
    chown(&target, Some(USER), Some(USER)).expect("root may");
    symlink(&target, &path).expect("links");
    give(&path);
    is_refused(&store, &program, 6, "symbolic link");
    assert_eq!(std::fs::read(&target).expect("it is there"), b"precious");
    std::fs::remove_file(&path).expect("root may");

    // Opening it would wait for somebody who writes into it.
    mkfifo(path.as_str(), Mode::from_bits_truncate(0o666)).expect("root may");
    give(&path);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("root may");
    is_refused(&store, &program, 6, "special file");
    std::fs::remove_file(&path).expect("root may");

    std::fs::create_dir(&path).expect("root may");
    give(&path);
    is_refused(&store, &program, 6, "directory");
    std::fs::remove_dir(&path).expect("root may");

    run_as(&program, USER, USER, &store.spec, &CREATE).exits(0);
    assert_eq!(std::fs::metadata(&path).expect("it is there").uid(), USER);
}

#[test]
fn a_segment_of_another_user_that_looks_half_made_is_refused_soon() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_all();
    let store = Store::unmade_keyed();
    let key = store.spec.trim_start_matches("sysv:");
    // As a segment is made with, and nothing in it; then such that all may write to it.
    for mode in ["0711", "0666"] {
        let script = format!(
            "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); \
             sys.exit(libc.shmget({key}, 1 << 20, 0o1000 | 0o{}) < 0)",
            &mode[1..]
        );
        let mut squat = Command::new("python3");
        squat.args(["-c", &script]).uid(SQUATTER).gid(SQUATTER);
        if !squat.status().is_ok_and(|made| made.success()) {
            eprintln!("skipped: there is no python3");
            return;
        }
        let start = Instant::now();
        let user = |args: &[&str]| run_as(&program, USER, USER, &store.spec, args);
        user(&CREATE).fails(1, "exists already");
        let code = if mode == "0666" { 6 } else { 4 };
        user(&["get", "k"]).ends(code);
        user(&["put", "k", "v"]).ends(code);
        assert_ne!(user(&["rm", "--yes"]).code, Some(0));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let removed = Command::new("ipcrm").args(["-M", key]).status().expect("ipcrm");
        assert!(removed.success(), "it is there still");
    }
}

#[test]
fn a_directory_of_registrations_that_another_user_made_is_not_used() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_all();
    let store = Store::unmade_system_v();
    let program = program.display();
    // `$1` makes the place; then the user tries to make a store, and what is there is listed.
    let script = format!(
        "mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mount -t tmpfs tmpfs /run || exit 99
         place=/dev/shm/cistern-{USER}
         eval \"$1\"
         setpriv --reuid {USER} --regid {USER} --clear-groups {program} create --size 4MiB 2>&1
         echo \"code $?\"; ls -A /dev/shm/theirs $place/ 2>/dev/null; ipcs -m | grep -c 0x"
    );
    let ours = [
        format!("mkdir -m 777 $place && chown {SQUATTER} $place"),
        format!(
            "mkdir -m 777 /dev/shm/theirs && ln -s theirs $place && chown -h {SQUATTER} $place"
        ),
        format!("echo x >$place && chown {SQUATTER} $place"),
    ];
    for make in ours {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--ipc", "sh", "-c", &script, KV, &make]);
        command.env("KV_STORE", &store.spec).env("NO_COLOR", "1");
        let run = finish(command, b"");
        let text = run.text();
        if text.is_empty() {
            eprintln!("skipped: no unshare or no setpriv here ({})", run.stderr);
            return;
        }
        assert!(text.contains("code 4") && text.contains("no directory to register"), "{run:?}");
        let name = store.spec.trim_start_matches("sysv:");
        assert!(!run.lines()[1..].contains(&name) && text.ends_with("\n0\n"), "{run:?}");
    }
}

/// A process of another user, which this user may not look into, is told from a dead one.
#[test]
fn writers_of_another_user_are_told_alive_and_dead() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_all();
    for store in [Store::posix(), Store::registered(), Store::keyed()] {
        store.kv(["chmod", "0666"]).exits(0);
        let spec = store.spec.parse().expect("a spec");
        let mut load = Command::new(&program);
        load.args(["load", "--input-format", "jsonl"]).env("KV_STORE", &store.spec);
        if store.spec.starts_with("sysv:clitest") {
            // Another user does not find that name.
            load.uid(0);
        } else {
            load.uid(SQUATTER).gid(SQUATTER);
        }
        let mut writer = load.stdin(Stdio::piped()).spawn().expect("it starts");
        let reader = Reader::attach(&spec).expect("the store");
        let state = || reader.info().expect("info").clients.first().map(|client| client.state);
        let until = |wanted: &dyn Fn(Option<ClientState>) -> bool| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !wanted(state()) {
                assert!(Instant::now() < deadline, "{:?}", state());
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        until(&|state| state == Some(ClientState::Alive));
        let user = |args: &[&str]| -> Run {
            let mut command = bare();
            command.env("KV_STORE", &store.spec).args(args);
            if !store.spec.starts_with("sysv:clitest") {
                command = Command::new(&program);
                command.env("KV_STORE", &store.spec).args(args).uid(USER).gid(USER);
            }
            finish(command, b"")
        };
        user(&["put", "k", "v"]).exits(0);
        let clients = user(&["info", "--format", "json"]).exits(0).json()["clients"].clone();
        assert_eq!(clients[0]["state"], "alive", "{clients}");
        writer.kill().expect("it lives");
        until(&|state| state == Some(ClientState::Zombie));
        let clients = user(&["info", "--format", "json"]).exits(0).json()["clients"].clone();
        assert_eq!(clients[0]["state"], "zombie", "{clients}");
        writer.wait().expect("wait");
        let clients = user(&["info", "--format", "json"]).exits(0).json()["clients"].clone();
        assert_eq!(clients[0]["state"], "dead", "{clients}");
        user(&["put", "k", "w"]).exits(0);
        store.is_clean();
    }
}
