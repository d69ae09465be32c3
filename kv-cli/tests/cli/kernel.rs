//! A store as the kernel shows it: what is mapped where, what exists, what is locked.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::backings::{keyed_segment, registration, segment};
use crate::harness::Store;

/// What holds a store's memory, as it was found when the store was made.
#[derive(Debug)]
pub(crate) enum Object {
    /// A POSIX object or a file.
    Path { path: PathBuf, inode: u64 },
    /// A System V segment.
    Segment { id: i32 },
}

impl Object {
    #[track_caller]
    pub(crate) fn of(store: &Store) -> Object {
        let (backing, place) = store.spec.split_once(':').expect("a spec");
        let path = match backing {
            "posix" => format!("/dev/shm/cistern.{place}").into(),
            "file" => PathBuf::from(place),
            _ => {
                let keyed = keyed_segment(&store.spec).map(|segment| segment.id);
                let id = keyed.or_else(|| registration(store).map(|(id, _)| id));
                return Object::Segment { id: id.expect("a segment") };
            }
        };
        let inode = std::fs::metadata(&path).expect("an object").ino();
        Object::Path { path, inode }
    }

    /// Whether it is what the name leads to. Of System V: whether it is there at all.
    pub(crate) fn exists(&self) -> bool {
        match self {
            Object::Path { path, inode } => {
                std::fs::metadata(path).is_ok_and(|found| found.ino() == *inode)
            }
            Object::Segment { id } => segment(*id).is_some(),
        }
    }

    /// How many mappings the kernel counts, where it does.
    pub(crate) fn attached(&self) -> Option<u32> {
        match self {
            Object::Path { .. } => None,
            Object::Segment { id } => Some(segment(*id).map_or(0, |segment| segment.attached)),
        }
    }

    /// Where a process maps it: `/proc/PID/maps` has the name and the inode of an object, or the id
    /// of a segment in its place.
    pub(crate) fn mapped_by(&self, pid: u32) -> Option<u64> {
        let (part, inode) = match self {
            Object::Path { path, inode } => (path.display().to_string(), *inode),
            Object::Segment { id } => ("/SYSV".to_owned(), u64::try_from(*id).expect("an id")),
        };
        mapped(pid, &part, Some(inode))
    }

    /// Whether somebody holds a lock of it.
    pub(crate) fn is_locked(&self) -> bool {
        let Object::Path { inode, .. } = self else { return false };
        let locks = std::fs::read_to_string("/proc/locks").expect("the list of locks");
        locks.lines().any(|line| line.contains(&format!(":{inode} ")))
    }
}

/// The first address at which a process maps something whose name contains `part`.
pub(crate) fn mapped(pid: u32, part: &str, inode: Option<u64>) -> Option<u64> {
    // Gone with the process.
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    maps.lines().find_map(|line| {
        let found: Option<u64> = line.split_ascii_whitespace().nth(4)?.parse().ok();
        let start = line.split_once('-')?.0;
        (line.contains(part) && (inode.is_none() || found == inode))
            .then(|| u64::from_str_radix(start, 16).expect("an address"))
    })
}
