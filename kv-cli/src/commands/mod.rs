//! The commands, one file each: its arguments, what it does, and how it shows the result.

pub(crate) mod bench;
pub(crate) mod cas;
pub(crate) mod check;
pub(crate) mod chmod;
pub(crate) mod chown;
pub(crate) mod clear;
pub(crate) mod completions;
pub(crate) mod counter;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod dump;
pub(crate) mod expire;
pub(crate) mod extend;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod get_or_run;
pub(crate) mod getset;
pub(crate) mod info;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod map;
pub(crate) mod mget;
pub(crate) mod mput;
pub(crate) mod namespace;
pub(crate) mod put;
pub(crate) mod rm;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod stats;
pub(crate) mod take;
pub(crate) mod trim;

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use store_client::{Reader, Spec, Writer};

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What there is to say where `kernel.shm_rmid_forced` is set.
pub(crate) const RMID_FORCED: &str = "kernel.shm_rmid_forced is 1: a System V store is removed when \
     the last process detaches it";

/// What a command works with: the store it names and the way out.
pub(crate) struct Context {
    /// The store as it was written on the command line, for workers and messages.
    pub(crate) store: String,
    /// The namespace whose keys are meant.
    pub(crate) namespace: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) output: Output,
}

impl Context {
    /// The store. Parsed only by commands that need one, so that `ls` works whatever KV_STORE says.
    pub(crate) fn spec(&self) -> Result<Spec, Failure> {
        Ok(self.store.parse()?)
    }

    /// Attaches read-only: read permission is enough. The keys of a namespace, if one was given.
    pub(crate) fn reader(&self) -> Result<Reader, Failure> {
        let reader = Reader::attach(&self.spec()?)?;
        match &self.namespace {
            Some(name) => Ok(reader.namespace(name)?),
            None => Ok(reader),
        }
    }

    /// Attaches for reading and writing. The keys of a namespace, if one was given.
    pub(crate) fn writer(&self) -> Result<Writer, Failure> {
        let writer = Writer::attach(&self.spec()?)?;
        if let Some(timeout) = self.timeout {
            writer.set_guard_deadline(timeout)?;
        }
        match &self.namespace {
            Some(name) => Ok(writer.namespace(name)?),
            None => Ok(writer),
        }
    }
}

/// Runs the command and writes out what is still buffered, also when it fails half way.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    let output = Output::new(cli.global.format);
    let (store, namespace) = (cli.global.store, cli.global.namespace);
    let mut context = Context { store, namespace, timeout: cli.global.timeout, output };
    let done = effect(&cli.command);
    let result = dispatch(cli.command, &mut context);
    let flushed = context.output.flush();
    let exit = result?;
    // Who sees the code must not think that nothing was changed.
    flushed.map_err(|failure| match done {
        Some(done) => failure.at(&format!("{done}, but not reported")),
        None => failure,
    })?;
    Ok(exit)
}

/// What has happened to the store when a command went well, apart from what it wrote.
fn effect(command: &Command) -> Option<&'static str> {
    match command {
        Command::Create(_) => Some("the store was made"),
        Command::Rm(_) => Some("the store was removed"),
        Command::Put(_) | Command::Add(_) | Command::Replace(_) | Command::Cas(_) => {
            Some("the value was stored")
        }
        Command::Del(_) => Some("the keys were deleted"),
        Command::Incr(_) | Command::Decr(_) => Some("the number was changed"),
        Command::Load(_) => Some("the entries were loaded"),
        Command::Trim(_) => Some("the memory was given back"),
        Command::Salvage(_) => Some("the new store was made"),
        Command::Check(args) if args.repair => Some("the store was mended"),
        Command::Clear(_) => Some("the keys were deleted"),
        Command::Namespace(_) => Some("the namespace was changed"),
        _ => None,
    }
}

fn dispatch(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create::run(args, context),
        Command::Rm(args) => rm::run(args, context),
        Command::Ls(args) => ls::run(args, context),
        Command::Gc(args) => gc::run(args, context),
        Command::Chmod(args) => chmod::run(args, context),
        Command::Chown(args) => chown::run(args, context),
        Command::Info(args) => info::run(args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Get(args) => get::run(args, context),
        Command::GetOrRun(args) => get_or_run::run(args, context),
        Command::Put(args) => put::run_put(args, context),
        Command::Add(args) => put::run_add(args, context),
        Command::Replace(args) => put::run_replace(args, context),
        Command::Cas(args) => cas::run(args, context),
        Command::Mput(args) => mput::run(args, context),
        Command::Append(args) => extend::run_append(args, context),
        Command::Prepend(args) => extend::run_prepend(args, context),
        Command::Getset(args) => getset::run(args, context),
        Command::Take(args) => take::run(args, context),
        Command::Del(args) => keys::run_del(args, context),
        Command::Exists(args) => keys::run_exists(args, context),
        Command::Ttl(args) => keys::run_ttl(args, context),
        Command::Expire(args) => expire::run_expire(args, context),
        Command::Persist(args) => expire::run_persist(args, context),
        Command::Incr(args) => counter::run_incr(args, context),
        Command::Decr(args) => counter::run_decr(args, context),
        Command::Mget(args) => mget::run(args, context),
        Command::Scan(args) => scan::run(args, context),
        Command::Load(args) => load::run(args, context),
        Command::Dump(args) => dump::run(args, context),
        Command::Stats(args) => stats::run(args, context),
        Command::Map(args) => map::run(args, context),
        Command::Namespace(args) => namespace::run(args, context),
        Command::Clear(args) => clear::run(args, context),
        Command::Trim(args) => trim::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Salvage(args) => salvage::run(args, context),
        Command::Bench(args) => bench::run(args, context),
        Command::Demo(args) => demo::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => man::run(args, context),
        Command::BenchWorker(args) => bench::run_worker(args, context),
        Command::DemoWorker(args) => demo::run_worker(args, context),
    }
}

/// Asks a person before something is removed.
fn confirmed(question: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!(
            "{question} Say so with --yes: standard input is no terminal"
        )));
    }
    let mut stderr = io::stderr();
    let mut answer = String::new();
    write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|error| Failure::system("asking", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
