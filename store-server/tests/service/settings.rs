//! The file of settings, `--check-config`, and what the help and the manual say.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::harness::{Name, Server, ended, program, refused};

/// A file of settings in a directory that goes with it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.toml");
    std::fs::write(&path, text).expect("writes");
    (directory, path)
}

#[test]
fn a_store_is_made_from_a_file_and_flags_win() {
    let name = Name::posix();
    let text = format!("store = \"{}\"\nsize = \"4MiB\"\nitems = 7\nremove = true\n", name.0);
    let (_directory, path) = file(&text);
    let path = path.to_str().expect("text");
    let args = ["--config", path, "--items", "9", "--format", "json"];
    let (code, shown, _) = ended(&[&args[..], &["--check-config"]].concat());
    assert_eq!(code, Some(0));
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["items"], &shown["interval-ms"]), (&9.into(), &500.into()));
    let mut server = Server::start(program().args(args));
    assert!(server.line().contains("\"planned_items\":9"));
    server.says(r#"{"event":"ready""#);
    assert_eq!(server.end(Signal::SIGINT), Some(0));
    server.says(r#"{"event":"removed""#);
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (text, part) in [
        ("stores = \"posix:x\"\n", "store.toml:1: in `stores = \"posix:x\"`: unknown field"),
        ("store = \"posix:x\"\nsize = 1.5\n", "store.toml:2: in `size = 1.5`"),
        ("size = \"1MiB\"\nextent-size = \"3KiB\"\n", "store.toml:2: extent-size is 3072"),
        ("size = \n", "store.toml:1: "),
    ] {
        let (_directory, path) = file(text);
        let path = path.to_str().expect("text");
        for args in [&["--config", path][..], &["--config", path, "--check-config"]] {
            let said = refused(args, 2);
            assert!(said.contains(part), "no {part:?} in {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    let said = refused(&["--config", "/no/such/file.toml"], 2);
    assert!(said.contains("/no/such/file.toml"), "{said}");
}

#[test]
fn the_effective_settings_are_a_file_again() {
    let (code, shown, said) = ended(&["--check-config", "--size", "16MiB", "--max-size", "32MiB"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.contains("max-size = \"32MiB\"") && shown.contains("# makes "), "{shown}");
    let (_directory, path) = file(&shown);
    let path = path.to_str().expect("text");
    let (_, again, _) = ended(&["--check-config", "--config", path]);
    assert_eq!(again, shown);
}

#[test]
fn sighup_takes_the_interval_and_nothing_else() {
    let name = Name::posix();
    let settings = |interval: u32, remove: bool| {
        let store = &name.0;
        format!(
            "store = \"{store}\"\nsize = \"4MiB\"\ninterval-ms = {interval}\nremove = {remove}\n"
        )
    };
    let (_directory, path) = file(&settings(3_600_000, true));
    let mut server = Server::start(program().arg("--config").arg(&path));
    server.says("ready");
    std::fs::write(&path, settings(20, true)).expect("writes");
    server.send(Signal::SIGHUP);
    assert_eq!(server.says("read"), "read the settings anew: interval-ms is 20");
    std::fs::write(&path, settings(30, false)).expect("writes");
    server.send(Signal::SIGHUP);
    assert!(server.says("read").ends_with("30; what else changed needs a new start"));
    std::fs::write(&path, "nonsense").expect("writes");
    server.send(Signal::SIGHUP);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(server.runs());
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
    server.says("removed");
}

#[test]
fn the_help_and_the_manual_name_everything() {
    let (code, help, _) = ended(&["--help"]);
    assert_eq!(code, Some(0));
    let (code, manual, _) = ended(&["--man"]);
    assert_eq!(code, Some(0));
    for option in ["config", "check-config", "store", "size", "max-size", "owner", "interval-ms"] {
        assert!(help.contains(&format!("--{option}")), "{option}: {help}");
        assert!(manual.contains(&option.replace('-', "\\-")), "{option}: {manual}");
    }
    for code in
        ["0 told to end", "2 wrong", "3 there is no", "4 no", "5 no", "6 co", "7 an", "9 sys"]
    {
        assert!(help.contains(code), "{code}: {help}");
    }
}

#[test]
fn namespaces_of_the_file_are_made_and_changed() {
    let name = Name::posix();
    let text = |quota: &str| {
        format!(
            "store = \"{}\"\nsize = \"16MiB\"\nmode = \"cache\"\n[namespaces.sessions]\nquota = \
             \"{quota}\"\ndefault-ttl-ms = 1_800_000\n[namespaces.kept]\nmode = \"store\"\nquota = \
             \"2MiB\"\n",
            name.0
        )
    };
    for quota in ["4MiB", "6MiB"] {
        let (_directory, path) = file(&text(quota));
        let path = path.to_str().expect("text");
        assert_eq!(ended(&["--config", path, "--check-config"]).0, Some(0));
        let mut server = Server::start(program().args(["--config", path]));
        server.says("ready");
        let store = store_client::Reader::attach(&name.0).expect("it is there");
        let namespaces = store.namespaces().expect("records");
        let [kept, sessions] = &namespaces[..] else { panic!("{namespaces:?}") };
        assert_eq!((&kept.name[..], kept.mode), ("kept", store_client::Mode::Store));
        assert_eq!(sessions.quota_bytes, Some(quota[..1].parse::<u64>().expect("a number") << 20));
        assert_eq!(sessions.default_ttl.map(|ttl| ttl.as_secs()), Some(1800));
        assert_eq!(server.end(Signal::SIGTERM), Some(0));
    }
    for (quota, part) in [("1GiB", "namespaces.sessions: a quota of"), ("many", "no size")] {
        let (_directory, path) = file(&text(quota));
        let path = path.to_str().expect("text");
        for args in [&["--config", path][..], &["--config", path, "--check-config"]] {
            assert!(refused(args, 2).contains(part));
        }
    }
}
