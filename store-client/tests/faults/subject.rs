//! What is done to a store while a call is refused, and what must hold then.

use std::fmt;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::libc::EINTR;
use store_client::{
    AttachError, CreateOptions, GuardKind, Reader, Sealing, Spec, Writer, create, destroy, leaks,
    remove_leak,
};
use tempfile::TempDir;

use crate::traced::{self, Call, Fault};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Posix,
    File,
    SysvName,
    SysvKey,
    Memfd,
    Anonymous,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A store is made, written to, and detached.
    Create,
    /// One that is there is attached for writing, written to, and detached; then read.
    Attach,
    /// One that is attached takes more memory.
    Grow,
}

pub(crate) struct Subject {
    kind: Kind,
    guard: GuardKind,
    scene: Scene,
    directory: TempDir,
    spec: Option<Spec>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}, {:?}", self.kind, self.guard, self.scene)
    }
}

/// What the report begins with when the store was made, and then something was refused.
pub(crate) const MADE: &str = "made, and then ";

type Done = Result<(), String>;

impl Subject {
    pub(crate) fn new(kind: Kind, guard: GuardKind, scene: Scene) -> Subject {
        // On a disk, if this program is.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let spec = match kind {
            Kind::Posix => Some(Spec::Posix("x".to_owned())),
            Kind::File => Some(Spec::File(directory.path().join("x"))),
            Kind::SysvName => Some(Spec::SysvName("x".to_owned())),
            Kind::SysvKey => Some(Spec::SysvKey(0x77)),
            Kind::Memfd | Kind::Anonymous => None,
        };
        Subject { kind, guard, scene, directory, spec }
    }

    /// Where it is if it is a file.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// So many calls there are in any case.
    pub(crate) fn calls_at_least(&self) -> usize {
        match self.scene {
            Scene::Create | Scene::Attach => 12,
            Scene::Grow => 1,
        }
    }

    pub(crate) fn spec(&self) -> Option<&Spec> {
        self.spec.as_ref()
    }

    pub(crate) fn options(&self) -> CreateOptions {
        CreateOptions::new(1 << 20).max_size(8 << 20).items(2_000).guard(self.guard)
    }

    /// Makes the store that a scene begins with, in another process.
    pub(crate) fn prepare(&self) {
        let Some(spec) = self.spec.as_ref().filter(|_| self.scene != Scene::Create) else { return };
        let made = traced::plain(|| {
            let writer = create(spec, &self.options()).expect("a store");
            writer.put(b"k", b"v").expect("a put");
            "done\n".to_owned()
        });
        assert_eq!(made, "done\n");
    }

    /// In the child: does what the scene is about, and says what came of it, line by line: `done` or
    /// the error, then what it finds wrong with itself.
    pub(crate) fn work(&self) -> String {
        let mut scratch = Vec::with_capacity(1 << 16);
        // The standard library has a descriptor for good where it gets no random numbers.
        let _ = std::hash::RandomState::new();
        let before = Own::now();
        let prepared = (self.scene != Scene::Create).then(|| self.prepared()).flatten();
        if self.scene != Scene::Grow {
            traced::begin();
        }
        let done = self.act(prepared.as_ref(), &mut scratch);
        traced::end();
        drop(prepared);
        let mut said = match done {
            Ok(()) => "done\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        said += &Own::now().compared_to(&before);
        if let Some(Ok(reader)) = self.spec.as_ref().map(Reader::attach) {
            let clients = reader.info().expect("info").clients;
            if clients.iter().any(|client| client.pid == std::process::id()) {
                said += "WRONG: its entry is still taken\n";
            }
        }
        said
    }

    /// A store without a name, which only the child itself can make.
    fn prepared(&self) -> Option<Writer> {
        match self.kind {
            Kind::Memfd => {
                Some(Writer::memfd(&self.options(), Sealing::SharedWriters).expect("a memfd"))
            }
            Kind::Anonymous => Some(Writer::anonymous(&self.options()).expect("a store")),
            _ => None,
        }
    }

    fn act(&self, prepared: Option<&Writer>, scratch: &mut Vec<u8>) -> Done {
        match self.scene {
            Scene::Create => {
                let writer = match (&self.spec, self.kind) {
                    (Some(spec), _) => create(spec, &self.options()),
                    (None, Kind::Memfd) => Writer::memfd(&self.options(), Sealing::SharedWriters),
                    (None, _) => Writer::anonymous(&self.options()),
                };
                let writer = writer.map_err(told)?;
                let put = writer.put(b"k", b"v").map(drop);
                put.map_err(|error| format!("{MADE}{}", told(error)))
            }
            Scene::Attach => {
                let spec = match prepared.and_then(|writer| writer.descriptor()) {
                    Some(descriptor) => Spec::Fd(descriptor.as_raw_fd()),
                    None => self.spec.clone().expect("it has a name"),
                };
                let writer = Writer::attach(&spec).map_err(told)?;
                writer.put(b"other", b"v").map_err(told)?;
                drop(writer);
                let reader = Reader::attach(&spec).map_err(told)?;
                reader.get(b"other").map_err(told)?.ok_or("WRONG: a put is lost")?;
                Ok(())
            }
            Scene::Grow => {
                let own = match &self.spec {
                    Some(spec) => Some(Writer::attach(spec).map_err(told)?),
                    None => None,
                };
                let writer = own.as_ref().or(prepared).expect("a writer");
                scratch.resize(60_000, 7);
                traced::begin();
                let put = (0..30_u32).try_for_each(|key| {
                    writer.put(&key.to_le_bytes(), scratch).map(drop).map_err(told)
                });
                traced::end();
                let violations = writer.check(|_, _| {}).violations;
                if !violations.is_empty() {
                    return Err(format!("WRONG: {violations:?}"));
                }
                // What could not be had is had now.
                if put.is_err() {
                    writer.put(b"other", scratch).map_err(|error| format!("WRONG: {error}"))?;
                }
                put
            }
        }
    }

    /// Whether a line of the child's report is what somebody can be told after this fault.
    pub(crate) fn is_clear(&self, line: &str, refused: Option<(Fault, Call)>) -> bool {
        // A signal came in between: the call is made again.
        let is_made_again = refused.is_some_and(|(fault, call)| {
            fault == Fault::Error(EINTR)
                && matches!(
                    call.name(),
                    "openat"
                        | "read"
                        | "pread64"
                        | "write"
                        | "pwrite64"
                        | "flock"
                        | "fallocate"
                        | "ftruncate"
                        | "semtimedop"
                )
        });
        // Who reads these looks for another fault than the one that there was.
        let misleading = [
            "WRONG",
            "Corruption",
            "NotAStore",
            "Truncated",
            "Unfinished",
            "Empty",
            "Exists",
            "Retired",
            "OtherVersion",
            "UncleanReboot",
            "Full(",
        ];
        line == "done" || !is_made_again && !misleading.iter().any(|word| line.contains(word))
    }

    /// In another process: the store of the name is whole if it was made, and can be made if not.
    /// It is gone at the end.
    pub(crate) fn verify(&self, succeeded: bool) -> String {
        let Some(spec) = &self.spec else { return "done\n".to_owned() };
        if succeeded || self.scene != Scene::Create {
            use_and_destroy(spec);
        } else {
            match Reader::attach(spec) {
                Err(AttachError::NotFound { .. }) => {}
                other => panic!("{other:?}"),
            }
            self.make_anew(spec);
        }
        "done\n".to_owned()
    }

    /// The same after its maker or its client was killed: it is whole, or is told to be unfinished.
    pub(crate) fn verify_after_a_kill(&self) -> String {
        let Some(spec) = &self.spec else { return "done\n".to_owned() };
        match Reader::attach(spec) {
            Ok(_) => use_and_destroy(spec),
            Err(
                AttachError::NotFound { .. }
                | AttachError::Empty { .. }
                | AttachError::Unfinished { creator_alive: false, .. }
                | AttachError::Stale { .. }
                // A file of zeros is anybody's too.
                | AttachError::NotAStore { found: 0, .. },
            ) if self.scene == Scene::Create => {
                // An empty file may be anybody's.
                match spec {
                    Spec::File(path) if path.metadata().is_ok_and(|it| it.len() == 0) => {
                        std::fs::remove_file(path).expect("it is ours");
                    }
                    Spec::File(path) if path.exists() => {
                        if destroy(spec).is_err() {
                            std::fs::remove_file(path).expect("it is ours");
                        }
                    }
                    _ => {
                        let _ = destroy(spec);
                    }
                }
                remove_leaks();
                self.make_anew(spec);
            }
            Err(other) => panic!("{other:?}"),
        }
        "done\n".to_owned()
    }

    fn make_anew(&self, spec: &Spec) {
        let writer = create(spec, &self.options()).expect("the name is free");
        writer.put(b"k", b"v").expect("a put");
        drop(writer);
        use_and_destroy(spec);
    }
}

/// As `gc` does.
pub(crate) fn remove_leaks() -> String {
    for leak in leaks().expect("a list") {
        remove_leak(&leak).expect("it is ours");
    }
    "done\n".to_owned()
}

fn use_and_destroy(spec: &Spec) {
    let writer = Writer::attach(spec).expect("a store");
    writer.reap().expect("reaps");
    assert_eq!(writer.info().expect("info").clients.len(), 1);
    writer.put(b"again", b"v").expect("a put");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
    drop(writer);
    destroy(spec).expect("it is ours");
}

/// An error as it is reported: its kind, and what people read, in one line.
fn told(error: impl std::error::Error) -> String {
    format!("{error:?}: {error}").replace('\n', " ")
}

/// What the descriptors of this process lead to.
pub(crate) fn own_descriptors() -> Vec<PathBuf> {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(entry.expect("a descriptor").path()).ok()
    };
    let mut found: Vec<PathBuf> =
        std::fs::read_dir("/proc/self/fd").expect("/proc").filter_map(of).collect();
    found.sort();
    found
}

/// What this process has.
struct Own {
    descriptors: Vec<PathBuf>,
    mappings: usize,
    address_kib: u64,
}

impl Own {
    fn now() -> Own {
        let descriptors = own_descriptors();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
        let of_stores = ["cistern", "SYSV", "/dev/zero"];
        let is_of_a_store = |line: &&str| of_stores.iter().any(|part| line.contains(part));
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("it");
        let size = size.trim().trim_end_matches(" kB").parse().expect("a number");
        let mappings = maps.lines().filter(is_of_a_store).count();
        Own { descriptors, mappings, address_kib: size }
    }

    fn compared_to(&self, before: &Own) -> String {
        let mut said = String::new();
        if self.descriptors != before.descriptors {
            said +=
                &format!("WRONG: {:?} before, {:?} now\n", before.descriptors, self.descriptors);
        }
        if self.mappings != before.mappings {
            said += &format!("WRONG: {} mappings of stores are left\n", self.mappings);
        }
        if self.address_kib > before.address_kib + 512 {
            let more = self.address_kib - before.address_kib;
            said += &format!("WRONG: {more} KiB of addresses more than before\n");
        }
        said
    }
}
