//! What is left of stores in System V shared memory: segments that nobody can find any more, and
//! registrations that lead to none.

use super::destroy::{destroy, refused};
use super::name::ObjectName;
use crate::error::AttachError;
use crate::sys::process::own_ipc_namespace;
use crate::sys::{clock, registry, sysv};

/// A registration of a System V segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registered {
    /// The name.
    pub name: String,
    /// The segment; `None` if it was of an earlier boot, or nothing is said of it.
    pub id: Option<i32>,
    /// Whether the segment is of another IPC namespace, whose ids say nothing here.
    pub foreign: bool,
    /// Whether a creator is at work.
    pub creator_at_work: bool,
}

/// The registrations of segments that `creator` made, as far as this process may look: those of
/// the machine, then those of that user.
pub fn registrations(creator: u32) -> Vec<Registered> {
    let mut found: Vec<Registered> = Vec::new();
    for (name, registration) in registry::names(creator) {
        let record = registration.record().ok().flatten();
        let record = record.filter(|record| record.boot == clock::boot_id());
        let foreign = record.is_some_and(|record| record.ipc_namespace != own_ipc_namespace());
        let id = record.filter(|_| !foreign).map(|record| record.id);
        let creator_at_work = registration.creator_at_work().unwrap_or(true);
        found.push(Registered { name, id, foreign, creator_at_work });
    }
    found
}

/// Removes a System V segment that holds a store, or the beginning of one, if nobody has it
/// attached.
///
/// # Errors
/// `NotAStore`; `InUse`; `PermissionDenied`; `NotFound`; `System`.
pub fn remove_orphan(id: i32) -> Result<(), AttachError> {
    let name = ObjectName::Segment(id);
    let attached = sysv::list()
        .map_err(|source| refused("open", &name, source))?
        .iter()
        .find(|listed| listed.id == id)
        .map(|listed| listed.attached);
    match attached {
        Some(0) => destroy(&name),
        Some(_) => Err(AttachError::InUse { name: name.to_string() }),
        None => Err(AttachError::NotFound { name: name.to_string() }),
    }
}
