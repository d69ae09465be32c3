//! The program stopped in its work: by a small library before it, which stops it after a call into the
//! C library.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::{KV, Run, program_for_all};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>
static void after(const char *name) {
    static int calls;
    const char *at = getenv("STOP_AFTER"), *count = getenv("STOP_COUNT");
    if (at && count && !strcmp(at, name) && ++calls == atoi(count)) raise(SIGSTOP);
}
#define CALL(type, name, args, values) type name args { \
    type (*next) args = (type (*) args)dlsym(RTLD_NEXT, #name); \
    type answer = next values; after(#name); return answer; }
CALL(int, shmget, (key_t a, size_t b, int c), (a, b, c))
CALL(void *, shmat, (int a, const void *b, int c), (a, b, c))
CALL(int, shmctl, (int a, int b, struct shmid_ds *c), (a, b, c))
CALL(ssize_t, write, (int a, const void *b, size_t c), (a, b, c))
CALL(int, fchmod, (int a, mode_t b), (a, b))
CALL(ssize_t, pread64, (int a, void *b, size_t c, off_t d), (a, b, c, d))
"#;

/// The library and a copy of the program, where every user can use them.
pub(crate) struct Stopper {
    _directory: TempDir,
    program: PathBuf,
    library: PathBuf,
}

impl Stopper {
    /// Compiles the library; none where there is no C compiler.
    #[track_caller]
    pub(crate) fn new() -> Option<Stopper> {
        let (directory, program) = program_for_all();
        let library = directory.path().join("stop.so");
        let source = directory.path().join("stop.c");
        std::fs::write(&source, SOURCE).expect("writes");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let Ok(status) = cc.status() else {
            eprintln!("skipped: there is no C compiler");
            return None;
        };
        assert!(status.success());
        Some(Stopper { _directory: directory, program, library })
    }

    /// The copy of the program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A run that has stopped after its call of a function with this number, from 1.
    #[track_caller]
    pub(crate) fn run(&self, after: (&str, u32), spec: &str, args: &[&str]) -> Stopped {
        self.run_as(0, after, spec, args)
    }

    /// The same as another user; 0: as this one.
    #[track_caller]
    pub(crate) fn run_as(
        &self,
        uid: u32,
        after: (&str, u32),
        spec: &str,
        args: &[&str],
    ) -> Stopped {
        let mut command = Command::new(if uid == 0 { Path::new(KV) } else { &self.program });
        command.args(args).env("KV_STORE", spec).env("NO_COLOR", "1");
        let (function, count) = after;
        command.env("LD_PRELOAD", &self.library).env("STOP_AFTER", function);
        command.env("STOP_COUNT", count.to_string());
        if uid != 0 {
            command.uid(uid).gid(uid);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let stopped = Stopped { child: command.spawn().expect("the program starts") };
        let deadline = Instant::now() + Duration::from_secs(60);
        let path = format!("/proc/{}/stat", stopped.pid());
        loop {
            let stat = std::fs::read_to_string(&path).expect("it is there");
            match stat.rsplit(") ").next().and_then(|rest| rest.chars().next()) {
                Some('T') => return stopped,
                Some('Z') => panic!("it ended before {after:?}: {:?}", stopped.goes_on()),
                _ => assert!(Instant::now() < deadline, "it never came to {after:?}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A process that has stopped.
pub(crate) struct Stopped {
    child: Child,
}

impl Stopped {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What comes of it.
    #[track_caller]
    pub(crate) fn goes_on(self) -> Run {
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGCONT);
        let output = self.child.wait_with_output().expect("the program ends");
        Run {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Kills it where it is.
    #[track_caller]
    pub(crate) fn dies(mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("wait");
    }
}
