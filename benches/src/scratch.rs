//! A store of this run's own, removed when the run ends, whichever way it ends.
//!
//! Dropped on return, error and panic; on SIGINT, SIGTERM and SIGHUP a thread removes it before the
//! process exits. Only SIGKILL leaves it behind, under a name with the process id in it.

use std::env;
use std::process;
use std::str::FromStr;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use store_client::{CreateOptions, Spec, Writer, create, destroy};

/// What holds the store's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backing {
    /// POSIX shared memory.
    Posix,
    /// A file in the temporary directory.
    File,
}

/// The store of this run. Make it before any thread is started, so that all inherit its signals.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    spec: Spec,
}

impl Scratch {
    /// Makes a store that no other run has, and hands out its first writer.
    pub fn create(
        program: &str,
        backing: Backing,
        options: &CreateOptions,
    ) -> Result<(Self, Writer)> {
        let name = name_of(program, backing)?;
        let spec = Spec::from_str(&name)?;
        let writer = create(&spec, options).with_context(|| format!("creating {name}"))?;
        let scratch = Self { name, spec };
        scratch.remove_on_signal()?;
        Ok((scratch, writer))
    }

    /// The same without a writer, so that every client of the store is somebody else.
    pub fn create_empty(program: &str, backing: Backing, options: &CreateOptions) -> Result<Self> {
        Self::create(program, backing, options).map(|(scratch, _writer)| scratch)
    }

    /// The store's name, as a worker process attaches it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, parsed.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    fn remove_on_signal(&self) -> Result<()> {
        let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        ends.thread_block().context("blocking the signals that end a run")?;
        let spec = self.spec.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            if let Ok(signal) = ends.wait() {
                let _ = destroy(&spec);
                process::exit(128 + signal as i32);
            }
        })?;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = destroy(&self.spec) {
            eprintln!("could not remove {}: {error}", self.name);
        }
    }
}

fn name_of(program: &str, backing: Backing) -> Result<String> {
    let own = format!("bench-{program}-{}", process::id());
    Ok(match backing {
        Backing::Posix => format!("posix:{own}"),
        Backing::File => {
            let path = env::temp_dir().join(format!("{own}.store"));
            let path = path.to_str().context("the temporary directory's name is no text")?;
            format!("file:{path}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Backing, name_of};

    #[test]
    fn names_are_this_process_own() {
        let posix = name_of("overlap", Backing::Posix).expect("a plain name");
        assert_eq!(posix, format!("posix:bench-overlap-{}", std::process::id()));
        let file = name_of("overlap", Backing::File).expect("a plain path");
        assert!(file.starts_with("file:/") && file.contains("bench-overlap-"), "{file}");
    }
}
