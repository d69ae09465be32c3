//! Where the stores of these tests are, and what there is.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::subject::Subject;

const SHARED_MEMORY: &str = "/dev/shm";
const RUN: &str = "/run";

/// Gives this mount namespace a `/dev/shm` and a `/run` of its own, and this process a processor: a
/// traced process goes on sooner if the one that traces it need not be woken elsewhere.
pub(crate) fn make() {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let mut own = CpuSet::new();
    own.set(std::process::id() as usize % processors).expect("a processor");
    // Where it may use others only, it uses those.
    let _ = sched_setaffinity(Pid::from_raw(0), &own);
    for place in [SHARED_MEMORY, RUN] {
        mount_memory(place, "mode=1777");
    }
}

/// Mounts memory at a place of this mount namespace.
pub(crate) fn mount_memory(place: &str, options: &str) {
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("root may");
}

/// Gives memory that is mounted other options.
pub(crate) fn mount_memory_again(place: &str, options: &str) {
    let none: Option<&str> = None;
    mount(none, place, none, MsFlags::MS_REMOUNT, Some(options)).expect("root may");
}

/// The files, segments and sets of semaphores that are there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    files: Vec<PathBuf>,
    segments: Vec<String>,
    pub(crate) semaphores: Vec<String>,
}

impl Place {
    pub(crate) fn now(subject: &Subject) -> Place {
        let mut files = Vec::new();
        for place in [Path::new(SHARED_MEMORY), Path::new(RUN), subject.directory()] {
            add_files(place, &mut files);
        }
        files.sort();
        Place { files, segments: ids("shm"), semaphores: ids("sem") }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Place::default()
    }

    /// Without sets of semaphores.
    pub(crate) fn without_sets(&self) -> Place {
        Place { semaphores: Vec::new(), ..self.clone() }
    }

    /// Removes all of it.
    pub(crate) fn clear(&self) {
        self.files.iter().for_each(|file| std::fs::remove_file(file).expect("it is ours"));
        remove("-m", &self.segments);
        remove("-s", &self.semaphores);
    }
}

pub(crate) fn remove_sets(ids: &[String]) {
    remove("-s", ids);
}

fn remove(kind: &str, ids: &[String]) {
    for id in ids {
        Command::new("ipcrm").args([kind, id.as_str()]).status().expect("ipcrm");
    }
}

fn add_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => add_files(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

/// Key and id of each.
fn ids(kind: &str) -> Vec<String> {
    let list = std::fs::read_to_string(format!("/proc/sysvipc/{kind}")).expect("System V IPC");
    let id = |line: &str| line.split_ascii_whitespace().nth(1).expect("an id").to_owned();
    list.lines().skip(1).map(id).collect()
}
