//! Who may do what with a store: its owner, its mode, and a process that gives writing up.

use std::io;
use std::os::fd::BorrowedFd;

use super::attach::{Access, attach};
use super::guard_set::own_guards;
use super::name::ObjectName;
use super::{Session, Store};
use crate::error::AttachError;
use crate::region::{Plain, Shim};
use crate::sys::holder::Holder;

/// Sets the permission bits of a store. Mappings that stand keep what they have. About as many
/// system calls as an attach.
///
/// # Errors
/// `NotOwner`; those of [`attach`] for reading.
pub fn set_permissions(name: &ObjectName, permissions: u32) -> Result<(), AttachError> {
    let store = attach::<Plain>(name, Access::ReadOnly)?;
    let answer = match store.segment.region.holder() {
        Holder::Object(object) => object.set_permissions(permissions),
        Holder::SystemV(segment) => segment.set(None, None, Some(permissions)),
        Holder::Private | Holder::Anonymous => Ok(()),
    };
    answer.and_then(|()| own_guards(&store)).map_err(|source| not_owner(name, source))
}

/// Gives a store to another user, another group, or both. To another user only root may, and of a
/// System V segment its owner, whose maker keeps an owner's rights. Mappings that stand keep what
/// they have.
///
/// # Errors
/// `NotOwner`; those of [`attach`] for reading.
pub fn set_owner(name: &ObjectName, uid: Option<u32>, gid: Option<u32>) -> Result<(), AttachError> {
    let store = attach::<Plain>(name, Access::ReadOnly)?;
    let answer = match store.segment.region.holder() {
        Holder::Object(object) => object.set_owner(uid, gid),
        Holder::SystemV(segment) => segment.set(uid, gid, None),
        Holder::Private | Holder::Anonymous => Ok(()),
    };
    answer.and_then(|()| own_guards(&store)).map_err(|source| not_owner(name, source))
}

fn not_owner(name: &ObjectName, source: io::Error) -> AttachError {
    let shown = name.to_string();
    match source.kind() {
        io::ErrorKind::PermissionDenied => AttachError::NotOwner { name: shown },
        _ => AttachError::System { call: "changing owner or mode", name: shown, source },
    }
}

impl<S: Shim> Store<S> {
    /// Marks it destroyed, or not.
    pub(super) fn set_state(&self, state: u64) {
        self.segment.superblock().state.store::<S>(state);
    }

    /// The descriptor of the object that holds it; none of System V and anonymous memory. Who is
    /// given it has the access that it was opened with.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.segment.region.holder().object()?.as_fd())
    }

    /// Ends a session and makes the mapping read-only in this process, for good: a store through
    /// it from then on, by another session or another thread, is a SIGSEGV. One system call, beyond
    /// those of closing.
    ///
    /// # Errors
    /// `System` where `mprotect(2)` fails.
    pub fn protect(&self, session: &Session) -> Result<(), AttachError> {
        self.close_session(session)?;
        self.segment.region.protect().map_err(|source| AttachError::System {
            call: "mprotect",
            name: self.name.clone(),
            source,
        })
    }
}
