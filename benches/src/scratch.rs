//! Stores of this run's own, removed when the run ends, whichever way it ends.
//!
//! Dropped on return, error and panic; on SIGINT, SIGTERM and SIGHUP a thread removes them before the
//! process exits. Only SIGKILL leaves them behind, under names with the process id in them.

use std::env;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
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
    /// System V shared memory, by a registered name.
    Sysv,
    /// System V shared memory, by a key.
    SysvKey,
    /// A memfd, whose descriptor the other processes inherit.
    Memfd,
    /// Shared anonymous memory, which forked processes inherit.
    Anon,
}

/// How a program makes its store; for its command line.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct StoreArgs {
    /// What holds the store.
    #[arg(long, value_enum, default_value_t = Backing::Posix)]
    pub backing: Backing,
    /// What the guards of writers are.
    #[arg(long, default_value = "futex", value_parser = GuardKind::from_str)]
    pub guard: GuardKind,
}

impl StoreArgs {
    /// The backing, as reports name it.
    pub fn backing_name(self) -> String {
        self.backing
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Refuses a store that nobody can attach.
    pub fn ensure_attachable(self, program: &str) -> Result<()> {
        ensure!(
            self.backing != Backing::Anon,
            "{program} needs a store that others attach; anonymous memory is there for as long as \
             its writer, so choose another --backing"
        );
        Ok(())
    }
}

/// The store of this run. Make it before any thread is started, so that all inherit its signals.
#[derive(Debug)]
pub struct Scratch {
    /// Anonymous memory has none.
    spec: Option<Spec>,
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
        match args.backing {
            Backing::Memfd => return Self::memfd(&options),
            Backing::Anon => {
                let writer = Writer::anonymous(&options).context("mapping anonymous memory")?;
                return Ok((Self { spec: None, _descriptor: None }, writer));
            }
            Backing::Posix | Backing::File | Backing::Sysv | Backing::SysvKey => {}
        }
        let name = name_of(program, args.backing)?;
        let spec = Spec::from_str(&name)?;
        let writer = create(&spec, &options).with_context(|| format!("creating {name}"))?;
        let scratch = Self { spec: Some(spec.clone()), _descriptor: None };
        remove_on_signal(spec)?;
        Ok((scratch, writer))
    }

    /// Goes with its last mapping and descriptor, whichever way the run ends.
    fn memfd(options: &CreateOptions) -> Result<(Self, Writer)> {
        let writer = Writer::memfd(options, Sealing::SharedWriters).context("making a memfd")?;
        let own = writer.descriptor().context("the descriptor of a memfd")?;
        // Another one, which executed programs inherit.
        let descriptor = dup(own).context("duplicating a descriptor")?;
        let spec = Spec::Fd(descriptor.as_raw_fd());
        Ok((Self { spec: Some(spec), _descriptor: Some(descriptor) }, writer))
    }

    /// The same without a writer, so that every client of the store is somebody else.
    pub fn create_empty(program: &str, args: StoreArgs, options: CreateOptions) -> Result<Self> {
        args.ensure_attachable(program)?;
        Self::create(program, args, options).map(|(scratch, _writer)| scratch)
    }

    /// What a program attaches; none of anonymous memory.
    pub fn spec(&self) -> Option<&Spec> {
        self.spec.as_ref()
    }
}

/// What a signal removes; the thread that waits for one is started with the first.
static MADE: Mutex<Vec<Spec>> = Mutex::new(Vec::new());

fn remove_on_signal(spec: Spec) -> Result<()> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.push(spec);
    if made.len() > 1 {
        return Ok(());
    }
    let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ends.thread_block().context("blocking the signals that end a run")?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Ok(signal) = ends.wait() {
            for spec in MADE.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = destroy(spec);
            }
            process::exit(128 + signal as i32);
        }
    })?;
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A memfd and anonymous memory go by themselves.
        let Some(spec) = self.spec.as_ref().filter(|spec| !matches!(spec, Spec::Fd(_))) else {
            return;
        };
        if let Err(error) = destroy(spec) {
            eprintln!("could not remove {spec}: {error}");
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
        // `B` before the process id.
        Backing::SysvKey => format!("sysv:{:#x}", 0x42 << 24 | process::id() & 0x00ff_ffff),
        Backing::Memfd | Backing::Anon => unreachable!("neither has a name"),
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
        let key = name_of("overlap", Backing::SysvKey).expect("a plain key");
        assert!(key.starts_with("sysv:0x42") && key.len() == "sysv:0x42000000".len(), "{key}");
    }
}
