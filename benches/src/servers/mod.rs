//! Servers that are given the same work as the store, if this machine has them: found in `PATH`, started
//! on a Unix socket without persistence, asked over it by their own protocols.

mod memcached;
mod redis;

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::worker::{PATIENCE, Parent};

pub use memcached::{MEMCACHED, Memcached};
pub use redis::{REDIS, Redis};

/// A server that may be on this machine.
#[derive(Debug)]
pub struct Program {
    /// What reports call it.
    pub name: &'static str,
    /// Programs that serve it, the first that is there is taken.
    programs: &'static [&'static str],
    /// Its arguments for a socket and the MiB that it may use.
    arguments: fn(&Path, u64) -> Vec<String>,
}

/// What a worker becomes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    socket: PathBuf,
}

impl Program {
    /// Its file, if this machine has one.
    pub fn find(&self) -> Option<PathBuf> {
        let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
        self.programs.iter().find_map(|program| {
            folders.iter().map(|folder| folder.join(program)).find(|path| is_executable(path))
        })
    }

    /// How `program` is run in `directory`, where its socket will be, with `mib` MiB for items.
    pub fn server(&self, program: PathBuf, directory: &Path, mib: u64) -> Server {
        let socket = directory.join(format!("{}.socket", self.name));
        let arguments = (self.arguments)(&socket, mib);
        Server { program, arguments, directory: directory.to_owned(), socket }
    }
}

impl Server {
    /// Executes the server in this process, which ends with its parent.
    ///
    /// # Errors
    /// Those of `execve(2)`; it does not return otherwise.
    pub fn execute(self) -> Result<()> {
        let error = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .exec();
        Err(error).with_context(|| format!("executing {}", self.program.display()))
    }

    /// Connects, and waits up to ten seconds if it is just starting.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn connect(&self) -> Result<UnixStream> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context("connecting to the server that was started");
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// A worker's whole work: to become a server.
///
/// # Errors
/// Those of [`Server::execute`].
pub fn become_server(server: Server, _parent: &mut Parent) -> Result<()> {
    server.execute()
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
