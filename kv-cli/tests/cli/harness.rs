//! Stores that remove themselves, and runs of the program with what came of them.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// The program.
pub(crate) const KV: &str = env!("CARGO_BIN_EXE_kv-cli");

/// Tests that measure time hold it, so that they don't measure each other.
static QUIET: Mutex<()> = Mutex::new(());

/// Waits until no other test measures time.
pub(crate) fn quiet() -> MutexGuard<'static, ()> {
    // A test that failed with it in hand left nothing that could be wrong.
    QUIET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    /// A command to its end, with the standard input that it was given.
    #[track_caller]
    pub(crate) fn of(mut command: Command) -> Run {
        let output = command.output().expect("the program runs");
        Run {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Expects an exit code. A failure must say why in one line, a success must be silent.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:?}");
        if code == 0 {
            assert_eq!(self.stderr, "", "{self:?}");
        }
        self
    }

    /// Expects an exit code, whatever was said.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Expects a failure with one line on standard error that contains `part`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, part: &str) -> Run {
        let run = self.exits(code);
        assert!(run.stderr.starts_with("kv-cli: "), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(run.stderr.contains(part), "no {part:?} in {run:?}");
        run
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is text")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }
}

/// Runs a command to its end with some standard input.
#[track_caller]
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // In a thread of its own: the program may write more than a pipe holds before it has read all.
    let feeder = std::thread::spawn(move || {
        // It may also end before it has read all.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the program ends");
    feeder.join().expect("the feeder ends");
    Run {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program without a store, in a plain environment.
pub(crate) fn bare() -> Command {
    let mut command = Command::new(KV);
    command.env_remove("KV_STORE").env("NO_COLOR", "1");
    command
}

/// The program with a descriptor as its number 3, which is its store.
pub(crate) fn inheriting(program: &Path, descriptor: OwnedFd, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" 3<&0 </dev/null"#]).arg(program).args(args);
    command.env("KV_STORE", "fd:3").env("NO_COLOR", "1").stdin(Stdio::from(descriptor));
    command
}

/// A run as another user, without the groups of this one.
#[track_caller]
pub(crate) fn run_as(program: &Path, uid: u32, gid: u32, spec: &str, args: &[&str]) -> Run {
    let mut command = Command::new(program);
    command.uid(uid).gid(gid).env("KV_STORE", spec).env("NO_COLOR", "1").args(args);
    finish(command, b"")
}

/// The program, copied to where every user can start it, and the directory that holds it.
pub(crate) fn program_for_all() -> (TempDir, PathBuf) {
    // Where it was built may be closed to others.
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("kv-cli");
    // By another process: a descriptor that this one writes with would be inherited by children of
    // tests beside this one, and keep the program from being started ("text file busy").
    let copied = Command::new("cp").arg(KV).arg(&program).status().expect("cp");
    assert!(copied.success());
    for path in [directory.path(), &program] {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, open).expect("opens it");
    }
    (directory, program)
}

/// A store of one test.
pub(crate) struct Store {
    pub(crate) spec: String,
    _directory: Option<TempDir>,
    file: Option<PathBuf>,
}

impl Store {
    /// A name that nobody has, without a store.
    pub(crate) fn unmade() -> Store {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let spec = format!("posix:clitest-{}-{number}", std::process::id());
        Store { spec, _directory: None, file: None }
    }

    /// A POSIX store of 16 MiB.
    #[track_caller]
    pub(crate) fn posix() -> Store {
        Store::unmade().made()
    }

    /// A store of 16 MiB in a file.
    #[track_caller]
    pub(crate) fn file() -> Store {
        // Beside the program: /tmp may be in memory.
        let place = env!("CARGO_TARGET_TMPDIR");
        let directory = tempfile::tempdir_in(place).expect("a directory");
        let file = directory.path().join("store.kv");
        let spec = format!("file:{}", file.display());
        Store { spec, _directory: Some(directory), file: Some(file) }.made()
    }

    /// A System V store of 16 MiB under a registered name.
    #[track_caller]
    pub(crate) fn registered() -> Store {
        Store::unmade_system_v().made()
    }

    /// A registered name that nobody has, without a store.
    pub(crate) fn unmade_system_v() -> Store {
        let mut store = Store::unmade();
        store.spec = store.spec.replace("posix:", "sysv:");
        store
    }

    /// A System V store of 16 MiB under a key that nobody has.
    #[track_caller]
    pub(crate) fn keyed() -> Store {
        Store::unmade_keyed().made()
    }

    /// A key that nobody has, without a store.
    pub(crate) fn unmade_keyed() -> Store {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let key = (0x43 << 24) | ((std::process::id() & 0xffff) << 8) | number;
        Store { spec: format!("sysv:{key:#x}"), _directory: None, file: None }
    }

    /// One of each backing that has names.
    #[track_caller]
    pub(crate) fn each() -> [Store; 4] {
        [Store::posix(), Store::file(), Store::registered(), Store::keyed()]
    }

    #[track_caller]
    fn made(self) -> Store {
        self.kv(["create", "--size", "16MiB", "--format", "json"]).exits(0);
        self
    }

    /// The file that holds it.
    #[track_caller]
    pub(crate) fn path(&self) -> &PathBuf {
        self.file.as_ref().expect("a store in a file")
    }

    /// The program on this store.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = bare();
        command.env("KV_STORE", &self.spec).args(args);
        command
    }

    /// A run on this store without input.
    #[track_caller]
    pub(crate) fn kv<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        finish(self.command(args), b"")
    }

    /// A run on this store with input.
    #[track_caller]
    pub(crate) fn kv_with<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Run {
        finish(self.command(args), input)
    }

    /// Expects a store without a broken invariant.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let report = self.kv(["check", "--format", "json"]).exits(0).json();
        assert_eq!(report["clean"], true, "{report}");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may never have been made, or be gone already.
        let _ = self.command(["rm", "--yes"]).stderr(Stdio::null()).status();
    }
}
