//! The other processes of a run: the same binary, started again with `--worker JOB`.
//!
//! A worker tells its parent things in lines of JSON on standard output and waits for it on
//! standard input. It never outlives its parent: dropping a [`Worker`] kills and reaps it, and the
//! kernel kills it when the thread that started it ends, so workers are started by the main thread.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::parent_id;
use std::process::{self, Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a worker may take for what should be quick, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

const PARENT_VARIABLE: &str = "STORE_BENCHES_PARENT";

/// A worker process, seen from its parent.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Worker {
    /// Starts this binary again, to do `job`.
    pub fn spawn<J: Serialize>(job: &J) -> Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .arg("--worker")
            .arg(serde_json::to_string(job)?)
            .env(PARENT_VARIABLE, process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("the worker's output")?);
        let (sender, lines) = mpsc::channel();
        let listener = thread::Builder::new().name("listener".into()).stack_size(64 * 1024);
        let worker = Self { child, stdin, lines };
        listener.spawn(move || {
            // Ends with the worker's output, or when nobody listens any longer.
            for line in stdout.lines().map_while(io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        })?;
        Ok(worker)
    }

    /// Its process id, as the kernel and the store know it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that it tells.
    pub fn receive<M: DeserializeOwned>(&self, within: Duration) -> Result<M> {
        match self.lines.recv_timeout(within) {
            Ok(line) => serde_json::from_str(&line)
                .with_context(|| format!("worker {} told {line:?}", self.pid())),
            Err(RecvTimeoutError::Timeout) => {
                bail!("worker {} told nothing for {within:?}", self.pid())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("worker {} ended before its time, see standard error", self.pid())
            }
        }
    }

    /// Whatever it still tells until its output ends; an unfinished last line is left out.
    pub fn receive_rest<M: DeserializeOwned>(&self) -> Vec<M> {
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            rest.extend(serde_json::from_str(&line));
        }
        rest
    }

    /// Lets it go on from [`Parent::await_go`].
    pub fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the worker's input")?;
        stdin.write_all(b"go\n").context("telling a worker to go on")
    }

    /// Stops it, and returns once it really stands still.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.raw_pid()?, Some(WaitPidFlag::WUNTRACED))? {
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
    pub fn reap(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "worker {} does not end", self.pid());
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(&mut self) -> Result<()> {
        let status = self.reap(PATIENCE)?;
        ensure!(status.success(), "worker {} failed: {status}", self.pid());
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.raw_pid()?, signal)
            .with_context(|| format!("sending {signal} to worker {}", self.pid()))
    }

    fn raw_pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only for a worker that was reaped already: then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

    /// Waits for [`Worker::go`].
    pub fn await_go(&mut self) -> Result<()> {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        ensure!(line == "go\n", "the parent told {line:?} instead of going on");
        Ok(())
    }
}

/// The main function of a worker process: parses its job and does it.
pub fn serve<J: DeserializeOwned>(
    job: &str,
    work: impl FnOnce(J, &mut Parent) -> Result<()>,
) -> ExitCode {
    let done = die_with_parent().and_then(|()| {
        let job = serde_json::from_str(job).context("reading the job")?;
        work(job, &mut Parent { _private: () })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker {}: {error:#}", process::id());
            ExitCode::FAILURE
        }
    }
}

fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("asking to end with the parent")?;
    // If the parent died before that call, this process was handed to another one.
    let parent = env::var(PARENT_VARIABLE).context("a worker is started by its program only")?;
    ensure!(parent == parent_id().to_string(), "the parent has ended already");
    Ok(())
}
