//! `demo`: the whole promise in a few seconds, on a store of its own.
//!
//! Readers read real records while a writer updates them; then a writer is killed while it holds a
//! guard, and the demo measures that nobody stops. What it says it has measured, and it ends with
//! an error when a measurement is not as promised. It removes what it made, also on an error and on
//! Ctrl-C.

mod records;
mod story;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use store_client::{CreateError, CreateOptions, Spec, Writer};

use self::worker::{Activity, Role};
use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::Format;
use crate::process::{self, Worker};

/// Small enough for the 64 MiB that containers have in /dev/shm.
const STORE_BYTES: u64 = 32 << 20;

/// A worker that says nothing for so long has stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the store work: real records, several processes, a writer killed at the worst moment
///
/// Needs nothing and takes a few seconds. Works on a store of its own and removes it again.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

/// A process of `demo`, started by it.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoWorkerArgs {
    #[arg(value_enum)]
    role: Role,

    /// Number of a writer's first update
    #[arg(default_value_t = 1)]
    round: u64,
}

/// The hidden command that a process of the demo runs.
pub(crate) fn run_worker(args: DemoWorkerArgs, context: &mut Context) -> Result<Exit, Failure> {
    process::serve(|| worker::run(args.role, args.round, &context.spec()?))
}

pub(crate) fn run(_: DemoArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Failure::system("catching signals", &error))?;
    }
    let result = Stage::set(Arc::clone(&interrupted))
        .and_then(|stage| story::tell(stage, format, &mut context.output));
    match result {
        // Ctrl-C reaches the workers too, so whatever failed then failed because of it.
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            Err(Failure::new(Exit::Interrupted, "interrupted; the demo removed its store"))
        }
        result => result.map(|()| Exit::Done),
    }
}

/// The store of the demo and its processes. They go before the store does.
struct Stage {
    readers: Vec<Worker>,
    writer: Writer,
    name: String,
    _removal: Removal,
    interrupted: Arc<AtomicBool>,
}

/// Removes the store when the demo ends, however it ends.
struct Removal(Spec);

impl Drop for Removal {
    fn drop(&mut self) {
        // Nothing better can be done about a failure here; `kv-cli ls` would show the store.
        let _ = store_client::destroy(&self.0);
    }
}

impl Stage {
    /// Makes the store.
    fn set(interrupted: Arc<AtomicBool>) -> Result<Stage, Failure> {
        let options = CreateOptions::new(STORE_BYTES);
        let mut name = format!("posix:demo-{}", std::process::id());
        let mut spec: Spec = name.parse()?;
        let writer = match store_client::create(&spec, &options) {
            // Process ids come again, soon so in containers, and a killed demo leaves its store.
            Err(CreateError::Exists { .. }) => {
                let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
                name = format!("{name}-{}", now.as_millis());
                spec = name.parse()?;
                store_client::create(&spec, &options)?
            }
            result => result?,
        };
        let _removal = Removal(spec);
        Ok(Stage { readers: Vec::new(), writer, name, _removal, interrupted })
    }

    /// Starts a process and waits until it is ready.
    fn start(&self, name: &str, role: &[&str]) -> Result<Worker, Failure> {
        let args = [&["demo-worker"], role].concat();
        let mut worker = Worker::spawn(name, &self.name, &args)?;
        worker.hear::<String>(PATIENCE)?;
        Ok(worker)
    }

    /// What the readers did since they were asked last. A reader that stands still does not answer.
    fn readers_since_last(&mut self) -> Result<Activity, Failure> {
        for reader in &mut self.readers {
            reader.tell("report")?;
        }
        let answers: Result<Vec<Activity>, Failure> =
            self.readers.iter_mut().map(|reader| reader.hear(PATIENCE)).collect();
        Ok(Activity::together(&answers?))
    }

    /// Waits, and ends early on Ctrl-C.
    fn pause(&self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Failure::new(Exit::Interrupted, "interrupted"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}
