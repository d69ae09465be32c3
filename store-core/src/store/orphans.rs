//! What is left of stores in the System V IPC of the kernel: segments that nobody can find any more,
//! registrations that lead to none, and semaphores of guards that nobody uses.

use std::io;
use std::time::Duration;

use super::destroy::{destroy, refused};
use super::guard_set::users_of_listed;
use super::name::ObjectName;
use crate::error::AttachError;
use crate::sys::process::own_ipc_namespace;
use crate::sys::registry::{self, Record, Registration};
use crate::sys::{clock, semaphore, sysv};

/// How long a set of semaphores that nobody uses is passed over: its maker may be about to.
const YOUNG: Duration = Duration::from_secs(2);

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
        let foreign = record.is_some_and(|record| !is_of_own_namespace(&record));
        let id = record.filter(|_| !foreign).map(|record| record.id);
        let creator_at_work = registration.creator_at_work().unwrap_or(true);
        found.push(Registered { name, id, foreign, creator_at_work });
    }
    found
}

/// The segments of this IPC namespace that are registered where [`registrations`] does not look,
/// each with the owner of that place: those of another user namespace, where the user has another
/// number.
pub fn registered_elsewhere() -> Vec<(u32, i32)> {
    let of_here = |(owner, registration): (u32, Registration)| {
        Some((owner, record_of_here(&registration)?.id))
    };
    registry::elsewhere().into_iter().filter_map(of_here).collect()
}

/// What a registration says, if that is of this boot and IPC namespace.
fn record_of_here(registration: &Registration) -> Option<Record> {
    let record = registration.record().ok().flatten()?;
    let of_here = record.boot == clock::boot_id() && is_of_own_namespace(&record);
    of_here.then_some(record)
}

/// Where it can't be told it is not.
fn is_of_own_namespace(record: &Record) -> bool {
    own_ipc_namespace().is_ok_and(|own| own == record.ipc_namespace)
}

/// Removes a System V segment that holds a store, or the beginning of one, if nobody has it
/// attached, and the registration that its maker has of it.
///
/// # Errors
/// `NotAStore`; `InUse`; `PermissionDenied`; `NotFound`; `System`.
pub fn remove_orphan(id: i32) -> Result<(), AttachError> {
    let name = ObjectName::Segment(id);
    let listed = sysv::list().map_err(|source| refused("open", &name, source))?;
    let listed = listed.iter().find(|listed| listed.id == id);
    let listed = listed.ok_or_else(|| AttachError::NotFound { name: name.to_string() })?;
    if listed.attached != 0 {
        return Err(AttachError::InUse { name: name.to_string() });
    }
    let registrations = registry::names(listed.creator_uid);
    destroy(&name)?;
    for (_, registration) in registrations {
        if record_of_here(&registration).is_some_and(|record| record.id == id) {
            // What stays is told to its owner as stale.
            let _ = registration.remove_current();
        }
    }
    Ok(())
}

/// A set of System V semaphores that was made for a store's guards, and that no client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedSemaphores {
    /// Its id.
    pub id: i32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub permissions: u32,
}

/// The sets of semaphores that no client uses and that were made, or given another owner or mode,
/// more than 2 s ago. Of those that this process may read. A store that nobody writes to may have
/// one ([`Store::semaphores`](crate::Store::semaphores)).
///
/// # Errors
/// Where `/proc/sysvipc/sem` can't be read.
pub fn unused_semaphores() -> io::Result<Vec<UnusedSemaphores>> {
    let young_from = clock::wall_ms().saturating_sub(YOUNG.as_millis() as u64) / 1000;
    let is_unused = |set: &semaphore::ListedSet| {
        let users = users_of_listed(set).ok().flatten();
        users.is_some_and(|users| users.is_unused().unwrap_or(false))
    };
    let sets = semaphore::list()?.into_iter();
    let old = sets.filter(|set| set.changed_unix_s < young_from);
    Ok(old
        .filter(is_unused)
        .map(|set| UnusedSemaphores {
            id: set.id,
            uid: set.ownership.uid,
            gid: set.ownership.gid,
            permissions: set.ownership.permissions,
        })
        .collect())
}

/// Removes a set of semaphores that was made for a store's guards, if no client uses it. A store
/// that had it makes another one when the next client comes.
///
/// # Errors
/// `InUse`; `NotFound`; `PermissionDenied`; `System`.
pub fn remove_unused_semaphores(id: i32) -> Result<(), AttachError> {
    let name = format!("System V semaphores {id}");
    let listed = semaphore::list().map_err(|source| refused("open", &name, source))?;
    let listed = listed.iter().find(|set| set.id == id);
    let not_found = || AttachError::NotFound { name: name.to_string() };
    let users = users_of_listed(listed.ok_or_else(not_found)?)
        .map_err(|source| refused("semctl", &name, source))?;
    match users.ok_or_else(not_found)?.remove_unused() {
        Ok(true) => Ok(()),
        Ok(false) => Err(AttachError::InUse { name: name.to_string() }),
        Err(source) => Err(refused("semctl", &name, source)),
    }
}
