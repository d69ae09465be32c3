//! Whose a store is, and who may read and write it.

use store_core::AttachError;

use crate::spec::Spec;

/// Sets the permission bits of a store, as `chmod` does. Read permission is enough to read, write
/// permission lets a process change everything. Mappings that stand keep what they have. About as
/// many system calls as an attach.
///
/// # Errors
/// `NotOwner`; those of attaching for reading.
pub fn set_permissions(spec: &Spec, permissions: u32) -> Result<(), AttachError> {
    store_core::set_permissions(&spec.object(), permissions)
}

/// Gives a store to another user, another group, or both, as `chown` does: to another user only
/// root may. Of a System V segment its owner may too, and whoever made it keeps an owner's rights.
/// Mappings that stand keep what they have. About as many system calls as an attach.
///
/// # Errors
/// `NotOwner`; those of attaching for reading.
pub fn set_owner(spec: &Spec, uid: Option<u32>, gid: Option<u32>) -> Result<(), AttachError> {
    store_core::set_owner(&spec.object(), uid, gid)
}
