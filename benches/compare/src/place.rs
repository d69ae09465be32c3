//! The run's folder and names in `/dev/shm`, and what is removed when it ends, whichever way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::engines;

const SHARED: &str = "/dev/shm";

/// This run's names. Dropped on return, error and panic; a thread removes the same on SIGINT, SIGTERM and
/// SIGHUP. Only SIGKILL leaves it behind.
#[derive(Debug)]
pub(crate) struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    /// Makes the folder. Before any process is started, so that all inherit its signals.
    pub(crate) fn make() -> Result<Self> {
        let name = format!("bench-compare-{}", process::id());
        let folder = Path::new(SHARED).join(&name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        ends.thread_block().context("blocking the signals that end a run")?;
        let ours = name.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            if let Ok(signal) = ends.wait() {
                remove(&ours);
                process::exit(128 + signal as i32);
            }
        })?;
        Ok(Self { name, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what was made so far, when all processes that had it have ended.
    pub(crate) fn clear(&self) -> Result<()> {
        remove(&self.name);
        fs::create_dir(&self.folder).context("making a folder anew")
    }

    /// A name that nobody else has.
    pub(crate) fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// All that is called so, stores by their own means.
fn remove(name: &str) {
    for (file, path) in shared() {
        if let Some(store) = file.strip_prefix("cistern.").filter(|store| store.starts_with(name)) {
            if let Err(error) = engines::remove_store(store) {
                eprintln!("could not remove {store}: {error:#}");
            }
        } else if file.starts_with(name) {
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                eprintln!("could not remove {}: {error}", path.display());
            }
        }
    }
}

fn shared() -> impl Iterator<Item = (String, PathBuf)> {
    fs::read_dir(SHARED)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

/// Bytes of the files in `/dev/shm` whose names begin so.
pub(crate) fn shared_bytes(prefix: &str) -> Result<u64> {
    shared().filter(|(name, _)| name.starts_with(prefix)).try_fold(0, |sum, (name, path)| {
        let file = path.metadata().with_context(|| format!("asking for the size of {name}"))?;
        Ok(sum + file.blocks() * 512)
    })
}
