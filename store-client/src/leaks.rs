//! What stores left behind that nobody can use any more.

use std::io;

use store_core::{
    Access, AttachError, ObjectName, Plain, attach, remove_orphan, remove_unused_semaphores,
};

use crate::listing::{Listing, ListingState, list};
use crate::writer::destroy;
use crate::{Reader, Spec};

impl Listing {
    /// Whether it is of no use to anybody and nobody has it attached: it has no bytes, or was never
    /// finished and its creator is dead; it was destroyed but for its name; its registration is
    /// lost, or leads to nothing; it is semaphores that no client uses.
    pub fn is_leaked(&self) -> bool {
        let of_no_use = matches!(
            self.state,
            ListingState::Abandoned
                | ListingState::Empty
                | ListingState::Retired
                | ListingState::Orphaned
                | ListingState::Stale
                | ListingState::UnusedSemaphores
        );
        of_no_use && self.attached == 0
    }
}

/// The leaks among what [`list`] finds.
///
/// A System V segment counts as one if no registration names it that this process can see. A
/// container that shares the host's IPC namespace and not its `/run` keeps registrations of its
/// own: look into it before its segments are removed. Of semaphores the kernel counts the users, in
/// whatever container; a store whose semaphores are removed while nobody uses them gets others when
/// the next client comes.
///
/// # Errors
/// Those of [`list`].
pub fn leaks() -> io::Result<Vec<Listing>> {
    Ok(list()?.into_iter().filter(Listing::is_leaked).collect())
}

/// Removes a leak, if it still is one.
///
/// # Errors
/// `InUse` if it is a store that works, or somebody has it attached; those of
/// [`destroy`](crate::destroy).
pub fn remove_leak(leak: &Listing) -> Result<(), AttachError> {
    match (&leak.spec, leak.segment, leak.semaphores) {
        // Another user's name may lead elsewhere, or nowhere, for this one.
        (Some(Spec::SysvName(_)), Some(id), _) => remove_registered(leak, id),
        (Some(spec), ..) => remove_named(spec),
        (None, Some(id), _) => remove_orphan(id),
        (None, None, Some(id)) if leak.state == ListingState::UnusedSemaphores => {
            remove_unused_semaphores(id)
        }
        (None, None, _) => Err(AttachError::InUse { name: leak.name.clone() }),
    }
}

fn remove_registered(leak: &Listing, id: i32) -> Result<(), AttachError> {
    match attach::<Plain>(&ObjectName::Segment(id), Access::ReadOnly) {
        Err(AttachError::Unfinished { creator_alive: false, .. } | AttachError::Retired { .. }) => {
            remove_orphan(id)
        }
        Err(error @ (AttachError::NotFound { .. } | AttachError::PermissionDenied { .. })) => {
            Err(error)
        }
        _ => Err(AttachError::InUse { name: leak.name.clone() }),
    }
}

fn remove_named(spec: &Spec) -> Result<(), AttachError> {
    match Reader::attach(spec) {
        Err(
            AttachError::Unfinished { creator_alive: false, .. }
            | AttachError::Empty { .. }
            | AttachError::Retired { .. }
            | AttachError::Stale { .. },
        ) => destroy(spec),
        Err(error @ (AttachError::NotFound { .. } | AttachError::PermissionDenied { .. })) => {
            Err(error)
        }
        _ => Err(AttachError::InUse { name: spec.to_string() }),
    }
}
