//! Where a store is, as the core is told it.

use std::fmt;
use std::path::PathBuf;

use crate::sys::object::ObjectPlace;

/// The name of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectName {
    /// POSIX shared memory: `/dev/shm/cistern.NAME`.
    Posix(String),
    /// System V shared memory, by a name in the registry.
    Registered(String),
    /// System V shared memory, by its key, which is not 0.
    Key(u32),
    /// System V shared memory, by its id. The kernel gives ids out again, so this is for whoever
    /// looks through all segments; a creator is not waited for.
    Segment(i32),
    /// A file.
    File(PathBuf),
    /// A descriptor of this process.
    Descriptor(i32),
}

/// The name by how it is looked up.
pub(super) enum Place<'a> {
    Object(ObjectPlace<'a>),
    Registered(&'a str),
    Key(u32),
    Segment(i32),
}

impl ObjectName {
    pub(super) fn place(&self) -> Place<'_> {
        match self {
            Self::Posix(name) => Place::Object(ObjectPlace::Posix(name)),
            Self::File(path) => Place::Object(ObjectPlace::File(path)),
            Self::Descriptor(number) => Place::Object(ObjectPlace::Descriptor(*number)),
            Self::Registered(name) => Place::Registered(name),
            Self::Key(key) => Place::Key(*key),
            Self::Segment(id) => Place::Segment(*id),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Place::Object(place) => place.fmt(f),
            Place::Registered(name) => write!(f, "sysv:{name}"),
            Place::Key(key) => write!(f, "sysv:{key:#x}"),
            Place::Segment(id) => write!(f, "System V segment {id}"),
        }
    }
}
