//! Puts that may make no system call: the kernel kills a process that makes one.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::getppid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde::Serialize;

use store_benches::worker::{PATIENCE, Parent, Worker};
use store_client::Reader;

use crate::engine::{Engine, Setting};
use crate::engines::{Cistern, spec_of};
use crate::run::Job;
use crate::side::Answer;
use crate::work::{Work, Worker as Hands};
use crate::workload::Distribution;

/// Puts of the control before its system call.
const CONTROL_PUTS: u32 = 1000;
/// Puts at a time.
const PIECE: usize = 1024;

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Silent {
    pub(crate) puts: u32,
    /// Whether the process was killed for one.
    pub(crate) system_call: bool,
    /// Bytes that cleaning moved.
    pub(crate) moved_bytes: u64,
    /// Whether a process that makes one on purpose was killed.
    pub(crate) control_killed: bool,
}

/// Has a process put so many times into a store of its own.
pub(crate) fn measure(setting: &Setting, puts: u32, seed: u64) -> Result<Silent> {
    let control = Setting { name: format!("{}-control", setting.name), ..setting.clone() };
    let control_killed = killed(&control, 0, seed)?;
    let system_call = killed(setting, puts, seed)?;
    let moved_bytes = Reader::attach(&spec_of(setting)?)?.stats()?.moved_bytes;
    Ok(Silent { puts, system_call, moved_bytes, control_killed })
}

fn killed(setting: &Setting, puts: u32, seed: u64) -> Result<bool> {
    let job = Job::Silent { setting: setting.clone(), puts, seed };
    let mut worker = Worker::spawn_alone(&job)?;
    let answers: Vec<Answer> = worker.receive_rest();
    match worker.reap(PATIENCE)? {
        WaitStatus::Exited(_, 0) if matches!(answers[..], [Answer::Ready, Answer::Done]) => {
            Ok(false)
        }
        WaitStatus::Signaled(_, Signal::SIGSYS, _) => Ok(true),
        status => bail!("a process that was to put quietly: {status:?}, {answers:?}"),
    }
}

/// The process: loads a store, gives system calls up, and puts. Without puts, it makes one after a few.
pub(crate) fn serve(setting: &Setting, puts: u32, seed: u64, parent: &mut Parent) -> Result<()> {
    let mut engine = Cistern::create(setting)?;
    engine.load(0..setting.items, setting.value_bytes)?;
    let mut hands = Hands::new(engine, setting);
    let count = puts.max(CONTROL_PUTS) as usize;
    let numbers = Distribution::Uniform.draw(setting.items, count, seed);
    // The first puts of a process take memory of its own.
    hands.run(Work::Put, &numbers[..CONTROL_PUTS as usize])?;
    hands.run(Work::Resize, &numbers[..CONTROL_PUTS as usize])?;
    parent.tell(&Answer::Ready)?;
    give_system_calls_up()?;
    for (turn, piece) in numbers.chunks(PIECE).enumerate() {
        hands.run([Work::Put, Work::Resize][turn % 2], piece)?;
    }
    if puts == 0 {
        getppid();
    }
    parent.tell(&Answer::Done)?;
    #[expect(unsafe_code, reason = "an end without the system calls of one that cleans up")]
    // SAFETY: nothing of this process is needed any more.
    unsafe {
        libc::_exit(0)
    }
}

/// All but those that say that it is over.
fn give_system_calls_up() -> Result<()> {
    let allowed = [libc::SYS_write, libc::SYS_exit, libc::SYS_exit_group];
    let rules = BTreeMap::from(allowed.map(|number| (number, Vec::new())));
    let (others, these) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let architecture = ARCH.try_into().context("a processor that filters know")?;
    let filter: BpfProgram = SeccompFilter::new(rules, others, these, architecture)?.try_into()?;
    apply_filter(&filter).context("giving system calls up")
}
