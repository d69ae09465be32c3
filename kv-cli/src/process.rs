//! Worker processes of `bench` and `demo`: this same program under a hidden command.
//!
//! Parent and worker talk in lines: the parent writes to the worker's standard input, the worker
//! answers with one JSON message a line on its standard output. A worker ends when its input ends,
//! and by the kernel's hand when its parent dies, so none is ever left behind. The parent never
//! waits without a limit.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// What a worker says.
#[derive(Serialize, Deserialize)]
enum Message<T> {
    Report(T),
    Failed { exit: u8, message: String },
}

/// A running worker, seen from its parent. Dropping it kills it.
pub(crate) struct Worker {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Worker {
    /// Starts this program anew under a hidden command.
    pub(crate) fn spawn(name: &str, store: &str, args: &[&str]) -> Result<Worker, Failure> {
        // The link works even when the program's file was replaced or deleted meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .arg0("kv-cli")
            .args(["--store", store])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::system(&format!("starting {name}"), &error))?;
        let input = child.stdin.take();
        let (sender, lines) = channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Worker { name: name.to_owned(), child, input, lines })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to it.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let written = match &mut self.input {
            Some(input) => writeln!(input, "{line}").and_then(|()| input.flush()),
            None => Err(io::Error::from(io::ErrorKind::NotConnected)),
        };
        // A worker that failed says why in its own message, which is worth more than EPIPE.
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                match self.hear::<serde_json::Value>(Duration::from_secs(1)) {
                    Err(failure) => Err(failure),
                    Ok(_) => Err(self.ended()),
                }
            }
            other => other.map_err(|error| Failure::system(&self.name, &error)),
        }
    }

    /// Waits for its next message; an error if none comes.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self, limit: Duration) -> Result<T, Failure> {
        self.hear_within(limit)?.ok_or_else(|| {
            let text = format!("{} said nothing for {} s", self.name, limit.as_secs());
            Failure::new(Exit::TimedOut, text)
        })
    }

    /// Waits for its next message; `None` if none came yet.
    pub(crate) fn hear_within<T: DeserializeOwned>(
        &mut self,
        limit: Duration,
    ) -> Result<Option<T>, Failure> {
        let line = match self.lines.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => return Ok(None),
        };
        match serde_json::from_str(&line) {
            Ok(Message::Report(report)) => Ok(Some(report)),
            Ok(Message::Failed { exit, message }) => {
                Err(Failure::new(Exit::from_code(exit), message).at(&self.name))
            }
            Err(error) => {
                Err(Failure::new(Exit::System, format!("{} is not clear: {error}", self.name)))
            }
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.nix_pid(), signal)
            .map_err(|error| Failure::system(&format!("signal to {}", self.name), &error.into()))
    }

    /// Stops it and returns once the kernel says that it stands still.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.nix_pid(), Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => Ok(()),
            Ok(status) => {
                let text = format!("{} ended by itself ({status:?})", self.name);
                Err(Failure::new(Exit::System, text))
            }
            Err(error) => Err(Failure::system(&self.name, &error.into())),
        }
    }

    /// Ends its input, which tells it to finish, and waits until it has.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<(), Failure> {
        self.input = None;
        let started = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(_)) => {
                    // It said why before it ended, unless something killed it.
                    let said = self.hear::<serde_json::Value>(Duration::from_secs(1));
                    return Err(said.err().unwrap_or_else(|| self.ended()));
                }
                Ok(None) if started.elapsed() > limit => {
                    let text = format!("{} does not finish", self.name);
                    return Err(Failure::new(Exit::TimedOut, text));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(Failure::system(&self.name, &error)),
            }
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn ended(&mut self) -> Failure {
        let how = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Failure::new(Exit::System, format!("{} ended without an answer ({how})", self.name))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        self.kill();
    }
}

/// The worker's side: runs its work and sends a failure to the parent rather than to the user.
pub(crate) fn serve(work: impl FnOnce() -> Result<(), Failure>) -> Result<Exit, Failure> {
    // Without it a worker would still end, when its input does; a stopped one could not.
    let _ = set_pdeathsig(Signal::SIGKILL);
    let Err(failure) = work() else { return Ok(Exit::Done) };
    if let Some(message) = failure.line() {
        say(&Message::<()>::Failed { exit: failure.exit.code(), message })?;
    }
    Ok(failure.exit)
}

/// The worker's side: sends a report to the parent.
pub(crate) fn report<T: Serialize>(report: T) -> Result<(), Failure> {
    say(&Message::Report(report))
}

fn say<T: Serialize>(message: &Message<T>) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(message)
        .map_err(|error| Failure::new(Exit::System, format!("a report failed: {error}")))?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back() {
        let json = serde_json::to_string(&Message::Report(5_u32)).expect("serialises");
        assert!(matches!(serde_json::from_str(&json), Ok(Message::Report(5_u32))));
        let failed = Message::<u32>::Failed { exit: 5, message: "full".to_owned() };
        let json = serde_json::to_string(&failed).expect("serialises");
        let back: Message<u32> = serde_json::from_str(&json).expect("parses");
        assert!(matches!(back, Message::Failed { exit: 5, .. }));
    }
}
