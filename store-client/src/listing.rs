//! The stores of this host that have a name.

use std::io;
use std::os::unix::fs::MetadataExt;

use store_core::{Access, AttachError, ObjectName, POSIX_DIRECTORY, POSIX_PREFIX, Plain, attach};

use crate::spec::Spec;

/// A store that [`list`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing {
    /// How to attach it.
    pub spec: Spec,
    /// Its owner.
    pub owner_uid: u32,
    /// Its group.
    pub owner_gid: u32,
    /// Its permission bits.
    pub permissions: u32,
    /// Its size in bytes, at the most it can grow to.
    pub size: u64,
    /// Bytes of memory it takes now.
    pub resident: u64,
    /// Whether it can be used.
    pub state: ListingState,
}

/// Whether a store that was found can be used by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListingState {
    /// It can be read.
    Ready,
    /// Its creator died or is at work.
    Unfinished,
    /// It has no bytes at all.
    Empty,
    /// It has another version of the format.
    OtherVersion(u32),
    /// It is somebody else's.
    NoPermission,
    /// It is no store, or broken.
    Unreadable(String),
}

/// The POSIX shared memory objects whose names say that they are stores, by name.
///
/// # Errors
/// Where `/dev/shm` can't be read.
pub fn list() -> io::Result<Vec<Listing>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(POSIX_DIRECTORY)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_prefix(POSIX_PREFIX)) else {
            continue;
        };
        let Ok(spec) = format!("posix:{name}").parse::<Spec>() else { continue };
        // It may be gone by now.
        let Ok(metadata) = entry.metadata() else { continue };
        found.push(Listing {
            owner_uid: metadata.uid(),
            owner_gid: metadata.gid(),
            permissions: metadata.mode() & 0o7777,
            size: metadata.len(),
            resident: metadata.blocks() * 512,
            state: state(name),
            spec,
        });
    }
    found.sort_by_key(|listing| listing.spec.to_string());
    Ok(found)
}

fn state(name: &str) -> ListingState {
    match attach::<Plain>(&ObjectName::Posix(name.to_owned()), Access::ReadOnly) {
        Ok(_) => ListingState::Ready,
        Err(AttachError::Unfinished { .. }) => ListingState::Unfinished,
        Err(AttachError::Empty { .. }) => ListingState::Empty,
        Err(AttachError::OtherVersion { found, .. }) => ListingState::OtherVersion(found),
        Err(AttachError::PermissionDenied { .. }) => ListingState::NoPermission,
        Err(error) => ListingState::Unreadable(error.to_string()),
    }
}
