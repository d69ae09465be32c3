//! A server that is given the same items: found in `PATH`, started on a Unix socket in a temporary
//! directory, asked for its memory before and after.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use store_benches::progress;
use store_benches::records::{Key, Stamp, fill, key_of};
use store_benches::worker::{Handle, PATIENCE, Parent, Worker};
use store_client::Spec;

pub(crate) const KEY_BYTES: usize = size_of::<Key>();
pub(crate) const VALUE_BYTES: usize = 100;

/// The items that every side is given.
pub(crate) struct Workload {
    pub(crate) items: u32,
}

impl Workload {
    pub(crate) fn each(&self, mut put: impl FnMut(&Key, &[u8]) -> Result<()>) -> Result<()> {
        let bar = progress::bar(self.items.into(), "items".into());
        let mut value = Vec::new();
        for index in 0..self.items {
            let key = key_of(index);
            fill(&mut value, &key, Stamp { writer: 0, seq: index }, VALUE_BYTES);
            put(&key, &value)?;
            if index.is_multiple_of(1024) {
                bar.set_position(index.into());
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// What is left of `bytes` for each item without keys and values.
    pub(crate) fn beside_data(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(self.items) - (KEY_BYTES + VALUE_BYTES) as f64
    }
}

/// A connection that speaks a server's protocol.
pub(crate) trait Client {
    /// Bytes that the server uses.
    fn used_bytes(&mut self) -> Result<u64>;
    fn load(&mut self, workload: &Workload) -> Result<()>;
    /// Items that the server has.
    fn items(&mut self) -> Result<u64>;
}

/// A server that may be on this machine.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Programs that serve it, the first that is there is taken.
    pub(crate) programs: &'static [&'static str],
    /// Its arguments for a socket and the MiB that it may use.
    pub(crate) arguments: fn(&Path, u64) -> Vec<String>,
    pub(crate) connect: fn(UnixStream) -> Result<Box<dyn Client>>,
}

/// What a worker becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
}

/// Executes the server in this process, which ends with its parent.
pub(crate) fn become_server(server: Server, _store: Handle, _parent: &mut Parent) -> Result<()> {
    let error = Command::new(&server.program)
        .args(&server.arguments)
        .current_dir(&server.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .exec();
    Err(error).with_context(|| format!("executing {}", server.program.display()))
}

impl Peer {
    /// Its program, if this machine has one.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
        self.programs.iter().find_map(|program| {
            folders.iter().map(|folder| folder.join(program)).find(|path| is_executable(path))
        })
    }

    /// Bytes that the items took of it.
    pub(crate) fn measure(&self, program: &Path, store: &Spec, workload: &Workload) -> Result<u64> {
        let directory = tempfile::tempdir().context("making a temporary directory")?;
        let socket = directory.path().join("socket");
        let mib = 64 + (u64::from(workload.items) >> 11);
        let mut server = Worker::spawn(
            store,
            &Server {
                program: program.to_owned(),
                arguments: (self.arguments)(&socket, mib),
                directory: directory.path().to_owned(),
            },
        )?;
        let mut client = (self.connect)(connect(&socket)?)?;
        let before = client.used_bytes()?;
        client.load(workload)?;
        let items = client.items()?;
        ensure!(items == u64::from(workload.items), "it has {items} items");
        let after = client.used_bytes()?;
        server.kill()?;
        server.reap(PATIENCE)?;
        Ok(after - before)
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Waits for a server that is just starting.
fn connect(socket: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match UnixStream::connect(socket) {
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

#[cfg(test)]
mod tests {
    use super::Workload;

    #[test]
    fn what_is_beside_keys_and_values() {
        assert_eq!(Workload { items: 10 }.beside_data(1500), 34.0);
    }

    #[test]
    fn every_item_is_given_once() {
        let mut keys = Vec::new();
        let put = |key: &[u8; 16], value: &[u8]| {
            assert_eq!(value.len(), super::VALUE_BYTES);
            keys.push(*key);
            Ok(())
        };
        Workload { items: 100 }.each(put).expect("nothing fails");
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 100);
    }
}
