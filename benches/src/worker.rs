//! The other processes of a run: this binary started again with `--worker JOB`, or forked from
//! this process where the store is in memory that only a fork passes on.
//!
//! A worker tells its parent things in lines of JSON on standard output and waits for it on
//! standard input. It never outlives its parent: dropping a [`Worker`] kills and reaps it, and the
//! kernel kills it when the thread that started it ends, so workers are started by the main thread.

use std::env;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::panic::{self, AssertUnwindSafe};
use std::process::{self, Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdin, dup2_stdout, fork};
use serde::Serialize;
use serde::de::DeserializeOwned;

use store_client::{AttachError, Reader, Spec, Writer};

/// How long a worker may take for what should be quick, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

const PARENT_VARIABLE: &str = "STORE_BENCHES_PARENT";
const STORE_VARIABLE: &str = "STORE_BENCHES_STORE";

/// What a worker that is given no store does with its job.
pub type WorkAlone<J> = fn(J, &mut Parent) -> Result<()>;

/// The store as a worker is given it.
#[derive(Debug)]
pub enum Handle {
    /// Of a program that was started: it attaches by itself.
    Spec(Spec),
    /// Of a forked process: its copy of the parent's.
    Inherited(Writer),
}

impl Handle {
    /// Reads and writes.
    pub fn writer(self) -> Result<Writer, AttachError> {
        match self {
            Self::Spec(spec) => Writer::attach(&spec),
            Self::Inherited(writer) => Ok(writer),
        }
    }

    /// Only reads: the mapping is `PROT_READ`.
    pub fn reader(self) -> Result<Reader, AttachError> {
        match self {
            Self::Spec(spec) => Reader::attach(&spec),
            Self::Inherited(writer) => writer.into_protected_reader(),
        }
    }
}

/// What a worker does with the store it was given and the job it was told.
pub type Work<J> = fn(J, Handle, &mut Parent) -> Result<()>;

/// A store's first writer, which workers are started from.
#[derive(Debug)]
pub struct Crew<J> {
    /// Only a forked worker takes it, out of its own copy.
    writer: Option<Writer>,
    /// What started programs attach; none if workers are forked.
    store: Option<Spec>,
    work: Work<J>,
}

impl<J: Serialize + DeserializeOwned> Crew<J> {
    /// Workers that attach `store`; without one they inherit `writer`.
    pub fn new(writer: Writer, store: Option<&Spec>, work: Work<J>) -> Self {
        Self { writer: Some(writer), store: store.cloned(), work }
    }

    /// The parent's own handle.
    pub fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("a forked worker never gets here")
    }

    /// Starts a worker.
    pub fn start(&mut self, job: &J) -> Result<Worker> {
        match &self.store {
            Some(store) => Worker::spawn(store, job),
            None => self.fork(job),
        }
    }

    /// The child goes on with nothing but its job: it never comes back from here.
    fn fork(&mut self, job: &J) -> Result<Worker> {
        let job = serde_json::to_string(job)?;
        let threads = fs::read_dir("/proc/self/task").context("counting threads")?.count();
        ensure!(threads == 1, "{threads} threads: what others hold at a fork stays held");
        let parent = process::id();
        let (input, stdin) = pipe().context("making a pipe")?;
        let (stdout, output) = pipe().context("making a pipe")?;
        #[expect(unsafe_code, reason = "anonymous memory is passed on by fork only")]
        // SAFETY: there is no other thread, so the child may do whatever this process might.
        match unsafe { fork() }.context("forking a worker")? {
            ForkResult::Parent { child } => Ok(Worker::new(child, stdin, stdout)),
            ForkResult::Child => {
                let (writer, work) = (self.writer.take(), self.work);
                let child = move || -> Result<()> {
                    drop((stdin, stdout));
                    dup2_stdin(input)?;
                    dup2_stdout(output)?;
                    die_with(parent)?;
                    let store = Handle::Inherited(writer.context("the parent's handle")?);
                    do_job(&job, store, work)
                };
                let done = panic::catch_unwind(AssertUnwindSafe(child))
                    .unwrap_or_else(|_| Err(anyhow!("panicked, see above")));
                process::exit(i32::from(!concluded(done)))
            }
        }
    }
}

/// A worker process, seen from its parent.
#[derive(Debug)]
pub struct Worker {
    pid: Pid,
    reaped: Option<WaitStatus>,
    stdin: PipeWriter,
    stdout: PipeReader,
    /// What was read of it and not handed out yet.
    heard: Vec<u8>,
}

impl Worker {
    fn new(pid: Pid, stdin: PipeWriter, stdout: PipeReader) -> Self {
        Self { pid, reaped: None, stdin, stdout, heard: Vec::new() }
    }

    /// Starts this binary again, to do `job` on `store`.
    pub fn spawn<J: Serialize>(store: &Spec, job: &J) -> Result<Self> {
        Self::start(Some(store), job)
    }

    /// Starts this binary again, to do a `job` that [`serve_alone`] is given.
    pub fn spawn_alone<J: Serialize>(job: &J) -> Result<Self> {
        Self::start(None, job)
    }

    fn start<J: Serialize>(store: Option<&Spec>, job: &J) -> Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let (input, stdin) = pipe().context("making a pipe")?;
        let (stdout, output) = pipe().context("making a pipe")?;
        let child = Command::new(program)
            .arg("--worker")
            .arg(serde_json::to_string(job)?)
            .env(PARENT_VARIABLE, process::id().to_string())
            .envs(store.map(|store| (STORE_VARIABLE, store.to_string())))
            .stdin(input)
            .stdout(output)
            .spawn()
            .context("starting a worker")?;
        Ok(Self::new(Pid::from_raw(child.id().try_into()?), stdin, stdout))
    }

    /// Its process id, as the kernel and the store know it.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// The next thing that it tells.
    pub fn receive<M: DeserializeOwned>(&mut self, within: Duration) -> Result<M> {
        let line = self.line(within)?;
        let line = line.with_context(|| {
            format!("worker {} ended before its time, see standard error", self.pid())
        })?;
        serde_json::from_slice(&line).with_context(|| {
            format!("worker {} told {:?}", self.pid(), String::from_utf8_lossy(&line))
        })
    }

    /// Whatever it still tells until its output ends; an unfinished last line is left out.
    pub fn receive_rest<M: DeserializeOwned>(&mut self) -> Vec<M> {
        let mut rest = Vec::new();
        while let Ok(Some(line)) = self.line(PATIENCE) {
            rest.extend(serde_json::from_slice(&line));
        }
        rest
    }

    /// The next line, with its end; none at the end of the output. It is read here and not in a
    /// thread, because a process with threads can't fork workers.
    fn line(&mut self, within: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + within;
        let mut searched = 0;
        loop {
            if let Some(end) = self.heard[searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.heard.split_off(searched + end + 1);
                return Ok(Some(std::mem::replace(&mut self.heard, rest)));
            }
            searched = self.heard.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
            if poll(&mut watched, timeout).context("waiting for a worker")? == 0 {
                bail!("worker {} told nothing for {within:?}", self.pid());
            }
            let mut piece = [0; 16 * 1024];
            let read = self.stdout.read(&mut piece).context("hearing a worker")?;
            if read == 0 {
                return Ok(None);
            }
            self.heard.extend_from_slice(&piece[..read]);
        }
    }

    /// Tells it something, which [`Parent::hear`] gives it.
    pub fn tell<M: Serialize>(&mut self, message: &M) -> Result<()> {
        let mut line = serde_json::to_string(message)?;
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).context("telling a worker something")
    }

    /// Lets it go on from [`Parent::await_go`].
    pub fn go(&mut self) -> Result<()> {
        self.stdin.write_all(b"go\n").context("telling a worker to go on")
    }

    /// Stops it, and returns once it really stands still.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.pid, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(()),
            status => Err(anyhow!("a worker should have stopped, but: {status:?}")),
        }
    }

    /// Lets it go on after [`stop`](Self::stop).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Kills it; it stays a zombie until [`reap`](Self::reap).
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits for its end.
    pub fn reap(&mut self, within: Duration) -> Result<WaitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.reaped {
                return Ok(status);
            }
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::StillAlive => {
                    ensure!(Instant::now() < deadline, "worker {} does not end", self.pid());
                    thread::sleep(Duration::from_micros(500));
                }
                status => self.reaped = Some(status),
            }
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(&mut self) -> Result<()> {
        let status = self.reap(PATIENCE)?;
        let good = matches!(status, WaitStatus::Exited(_, 0));
        ensure!(good, "worker {} failed: {status:?}", self.pid());
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.pid, signal)
            .with_context(|| format!("sending {signal} to worker {}", self.pid()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its process id may be somebody else's by now.
        if self.reaped.is_none() {
            let _ = signal::kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// The parent process, seen from a worker.
#[derive(Debug)]
pub struct Parent {
    _private: (),
}

impl Parent {
    /// Tells it something, at once.
    pub fn tell<M: Serialize>(&mut self, message: &M) -> Result<()> {
        let mut line = serde_json::to_string(message)?;
        line.push('\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// The next thing that it is told by [`Worker::tell`]; none when the parent has ended.
    pub fn hear<M: DeserializeOwned>(&mut self) -> Result<Option<M>> {
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).with_context(|| format!("the parent told {line:?}")).map(Some)
    }

    /// Waits for [`Worker::go`].
    pub fn await_go(&mut self) -> Result<()> {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        ensure!(line == "go\n", "the parent told {line:?} instead of going on");
        Ok(())
    }
}

/// The main function of a worker that is a program: parses its job and does it.
pub fn serve<J: DeserializeOwned>(job: &str, work: Work<J>) -> ExitCode {
    let serving = || {
        die_with_starter()?;
        let store = env::var(STORE_VARIABLE).context("the store of the run")?;
        do_job(job, Handle::Spec(store.parse()?), work)
    };
    if concluded(serving()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same of a worker that was given no store ([`Worker::spawn_alone`]).
pub fn serve_alone<J: DeserializeOwned>(job: &str, work: WorkAlone<J>) -> ExitCode {
    let serving = || {
        die_with_starter()?;
        let job = serde_json::from_str(job).context("reading the job")?;
        work(job, &mut Parent { _private: () })
    };
    if concluded(serving()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn die_with_starter() -> Result<()> {
    let parent = env::var(PARENT_VARIABLE).context("a worker is started by its program only")?;
    die_with(parent.parse().context("the parent's process id")?)
}

fn do_job<J: DeserializeOwned>(job: &str, store: Handle, work: Work<J>) -> Result<()> {
    let job = serde_json::from_str(job).context("reading the job")?;
    work(job, store, &mut Parent { _private: () })
}

/// Whether it was done; says why not.
fn concluded(done: Result<()>) -> bool {
    if let Err(error) = &done {
        eprintln!("worker {}: {error:#}", process::id());
    }
    done.is_ok()
}

fn die_with(parent: u32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("asking to end with the parent")?;
    // If the parent died before that call, this process was handed to another one.
    ensure!(parent == parent_id(), "the parent has ended already");
    Ok(())
}
