//! A store of this run's own, removed when the run ends, whichever way it ends.
//!
//! Dropped on return, error and panic; on SIGINT, SIGTERM and SIGHUP a thread removes it before the
//! process exits. Only SIGKILL leaves it behind, under a name with the process id in it.

use std::env;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process;
use std::str::FromStr;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::dup;

use store_client::{CreateOptions, GuardKind, Sealing, Spec, Writer, create, destroy};

/// What holds the store's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backing {
    /// POSIX shared memory.
    Posix,
    /// A file in the temporary directory.
    File,
    /// System V shared memory.
    Sysv,
    /// A memfd, whose descriptor the other processes inherit.
    Memfd,
}

/// How a program makes its store; for its command line. Anonymous memory is missing: it reaches
/// forked processes only, and the workers are programs of their own.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct StoreArgs {
    /// What holds the store. Not anonymous memory: the workers are executed, and can't inherit it.
    #[arg(long, value_enum, default_value_t = Backing::Posix)]
    pub backing: Backing,
    /// What the guards of writers are.
    #[arg(long, default_value = "futex", value_parser = GuardKind::from_str)]
    pub guard: GuardKind,
}

impl StoreArgs {
    /// The backing, as reports name it.
    pub fn backing_name(self) -> String {
        format!("{:?}", self.backing).to_lowercase()
    }
}

/// The store of this run. Make it before any thread is started, so that all inherit its signals.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    spec: Spec,
    /// Of a memfd: what workers inherit.
    _descriptor: Option<OwnedFd>,
}

impl Scratch {
    /// Makes a store that no other run has, and hands out its first writer.
    pub fn create(
        program: &str,
        args: StoreArgs,
        options: CreateOptions,
    ) -> Result<(Self, Writer)> {
        let options = options.guard(args.guard);
        if args.backing == Backing::Memfd {
            return Self::memfd(&options);
        }
        let name = name_of(program, args.backing)?;
        let spec = Spec::from_str(&name)?;
        let writer = create(&spec, &options).with_context(|| format!("creating {name}"))?;
        let scratch = Self { name, spec, _descriptor: None };
        scratch.remove_on_signal()?;
        Ok((scratch, writer))
    }

    /// Goes with its last mapping and descriptor, whichever way the run ends.
    fn memfd(options: &CreateOptions) -> Result<(Self, Writer)> {
        let writer = Writer::memfd(options, Sealing::SharedWriters).context("making a memfd")?;
        let own = writer.descriptor().context("the descriptor of a memfd")?;
        // Another one, which executed programs inherit.
        let descriptor = dup(own).context("duplicating a descriptor")?;
        let spec = Spec::Fd(descriptor.as_raw_fd());
        Ok((Self { name: spec.to_string(), spec, _descriptor: Some(descriptor) }, writer))
    }

    /// The same without a writer, so that every client of the store is somebody else.
    pub fn create_empty(program: &str, args: StoreArgs, options: CreateOptions) -> Result<Self> {
        Self::create(program, args, options).map(|(scratch, _writer)| scratch)
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
        if matches!(self.spec, Spec::Fd(_)) {
            return;
        }
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
        Backing::Sysv => format!("sysv:{own}"),
        Backing::Memfd => unreachable!("a memfd has no name"),
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
