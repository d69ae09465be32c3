//! The stores of this host, and what was left of some.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use nix::unistd::Uid;
use store_core::{
    Access, AttachError, Backing, ListedSegment, ObjectName, POSIX_DIRECTORY, POSIX_PREFIX, Plain,
    Registered, Store, UnusedSemaphores, attach, list_segments, registered_elsewhere,
    registrations, unused_semaphores,
};

use crate::processes::{mapped, memfds};
use crate::spec::Spec;

/// A store that [`list`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing {
    /// Its spec, or what else there is to say where it is.
    pub name: String,
    /// How to attach it, if it has a name.
    pub spec: Option<Spec>,
    /// What holds its memory. Of semaphores that are left: System V, though it has none.
    pub backing: Backing,
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
    /// Processes that map it, as far as this one may look. Of System V: how often it is attached,
    /// which is exact.
    pub attached: u64,
    /// Whether it can be used.
    pub state: ListingState,
    /// The id of a System V segment.
    pub(crate) segment: Option<i32>,
    /// The id of the set of semaphores that its guards are, or that is left of them.
    pub(crate) semaphores: Option<i32>,
}

/// Whether a store that was found can be used by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListingState {
    /// It can be read.
    Ready,
    /// It is being made, or its creator was stopped.
    Unfinished,
    /// It has no bytes at all.
    Empty,
    /// Its creator died before it was whole.
    Abandoned,
    /// It was destroyed, but for its name.
    Retired,
    /// A System V segment that was removed, and goes with its last detach.
    Removed,
    /// A System V segment whose registration is lost: nobody can attach it any more.
    Orphaned,
    /// A System V segment that its user registered in another user namespace, where that user has
    /// another number: only there it has its name.
    RegisteredElsewhere,
    /// A registration of a System V segment that is gone.
    Stale,
    /// A registration of a System V segment of another IPC namespace.
    OtherNamespace,
    /// Not a store: System V semaphores that were the guards of one, and that no client uses.
    UnusedSemaphores,
    /// It has another version of the format.
    OtherVersion(u32),
    /// It is somebody else's.
    NoPermission,
    /// It is no store, or broken.
    Unreadable(String),
}

/// The stores in shared memory: POSIX objects whose names say that they are stores, System V
/// segments that are registered or hold one, memfds of processes. Then the semaphores that no client
/// uses and none of these stores has. Reads `/proc` through, and attaches each store once to see
/// whether it can be read.
///
/// # Errors
/// Where `/dev/shm` or the list of System V segments can't be read.
pub fn list() -> io::Result<Vec<Listing>> {
    let mapped = mapped();
    let mut found = posix(&mapped)?;
    found.extend(system_v()?);
    found.extend(passed(&mapped));
    let used: HashSet<i32> = found.iter().filter_map(|listing| listing.semaphores).collect();
    let left = unused_semaphores()?.into_iter().filter(|set| !used.contains(&set.id));
    found.extend(left.map(of_semaphores));
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn posix(mapped: &HashMap<(u64, u64), u64>) -> io::Result<Vec<Listing>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(POSIX_DIRECTORY)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_prefix(POSIX_PREFIX)) else {
            continue;
        };
        let Ok(spec) = format!("posix:{name}").parse::<Spec>() else { continue };
        // It may be gone by now.
        let Ok(metadata) = entry.metadata() else { continue };
        let (state, semaphores) = state(&spec.object());
        found.push(Listing {
            state,
            semaphores,
            ..of_metadata(spec.to_string(), Some(spec), Backing::Posix, &metadata, mapped)
        });
    }
    Ok(found)
}

fn of_metadata(
    name: String,
    spec: Option<Spec>,
    backing: Backing,
    metadata: &fs::Metadata,
    mapped: &HashMap<(u64, u64), u64>,
) -> Listing {
    Listing {
        name,
        spec,
        backing,
        owner_uid: metadata.uid(),
        owner_gid: metadata.gid(),
        permissions: metadata.mode() & 0o7777,
        size: metadata.len(),
        resident: metadata.blocks() * 512,
        attached: mapped.get(&(metadata.dev(), metadata.ino())).copied().unwrap_or(0),
        state: ListingState::Ready,
        segment: None,
        semaphores: None,
    }
}

fn passed(mapped: &HashMap<(u64, u64), u64>) -> Vec<Listing> {
    let mut found = Vec::new();
    for held in memfds() {
        let name = format!("memfd of process {}", held.pid);
        let Ok(file) = File::open(&held.path) else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        let (state, semaphores) = state(&ObjectName::Descriptor(file.as_raw_fd()));
        found.push(Listing {
            state,
            semaphores,
            ..of_metadata(name, None, Backing::Memfd, &metadata, mapped)
        });
    }
    found
}

fn system_v() -> io::Result<Vec<Listing>> {
    let mut found = Vec::new();
    let elsewhere = registered_elsewhere();
    let mut registered: HashMap<u32, Vec<Registered>> = HashMap::new();
    for segment in &list_segments()? {
        let names = registered
            .entry(segment.creator_uid)
            .or_insert_with(|| registrations(segment.creator_uid));
        let name = names.iter().find(|name| name.id == Some(segment.id));
        let Some(mut listing) = of_segment(segment, name) else { continue };
        if listing.state == ListingState::Orphaned
            && [segment.uid, segment.creator_uid]
                .iter()
                .any(|uid| elsewhere.contains(&(*uid, segment.id)))
        {
            listing.state = ListingState::RegisteredElsewhere;
        }
        found.push(listing);
    }
    let ids: HashSet<i32> = found.iter().filter_map(|listing| listing.segment).collect();
    let own = Uid::effective().as_raw();
    found.extend(
        registrations(own)
            .iter()
            .filter(|name| name.id.is_none_or(|id| !ids.contains(&id)))
            .filter_map(without_segment),
    );
    Ok(found)
}

fn of_segment(segment: &ListedSegment, registered: Option<&Registered>) -> Option<Listing> {
    let by_id = ObjectName::Segment(segment.id);
    let spec = match registered {
        Some(name) => Some(Spec::SysvName(name.name.clone())),
        None if segment.key != 0 => Some(Spec::SysvKey(segment.key)),
        None => None,
    };
    let attached = attach::<Plain>(&by_id, Access::ReadOnly);
    let semaphores = attached.as_ref().ok().and_then(Store::semaphores);
    let state = match attached {
        // Another program's, or nobody knows whose.
        Err(
            AttachError::NotAStore { .. }
            | AttachError::NotAFile { .. }
            | AttachError::NotFound { .. },
        ) => return None,
        Err(AttachError::PermissionDenied { .. }) if registered.is_none() => return None,
        _ if segment.removed => ListingState::Removed,
        Ok(_) if spec.is_none() => ListingState::Orphaned,
        Ok(_) => ListingState::Ready,
        Err(error) => of_error(error),
    };
    Some(Listing {
        name: spec.as_ref().map_or_else(|| by_id.to_string(), Spec::to_string),
        spec,
        backing: Backing::SystemV,
        owner_uid: segment.uid,
        owner_gid: segment.gid,
        permissions: segment.permissions,
        size: segment.bytes,
        resident: segment.resident,
        attached: segment.attached,
        state,
        segment: Some(segment.id),
        semaphores,
    })
}

/// A registration that leads to no segment of this IPC namespace.
fn without_segment(name: &Registered) -> Option<Listing> {
    let spec = format!("sysv:{}", name.name).parse::<Spec>().ok()?;
    Some(Listing {
        name: spec.to_string(),
        spec: Some(spec),
        backing: Backing::SystemV,
        owner_uid: Uid::effective().as_raw(),
        owner_gid: nix::unistd::Gid::effective().as_raw(),
        permissions: 0,
        size: 0,
        resident: 0,
        attached: 0,
        state: match name {
            Registered { foreign: true, .. } => ListingState::OtherNamespace,
            Registered { creator_at_work: true, .. } => ListingState::Unfinished,
            _ => ListingState::Stale,
        },
        segment: None,
        semaphores: None,
    })
}

fn of_semaphores(set: UnusedSemaphores) -> Listing {
    Listing {
        name: format!("System V semaphores {}", set.id),
        spec: None,
        backing: Backing::SystemV,
        owner_uid: set.uid,
        owner_gid: set.gid,
        permissions: set.permissions,
        size: 0,
        resident: 0,
        attached: 0,
        state: ListingState::UnusedSemaphores,
        segment: None,
        semaphores: Some(set.id),
    }
}

/// The state of a store, and its semaphores.
fn state(name: &ObjectName) -> (ListingState, Option<i32>) {
    match attach::<Plain>(name, Access::ReadOnly) {
        Ok(store) => (ListingState::Ready, store.semaphores()),
        Err(error) => (of_error(error), None),
    }
}

fn of_error(error: AttachError) -> ListingState {
    match error {
        AttachError::Unfinished { creator_alive: true, .. } => ListingState::Unfinished,
        AttachError::Unfinished { creator_alive: false, .. } => ListingState::Abandoned,
        AttachError::Empty { .. } => ListingState::Empty,
        AttachError::Retired { .. } => ListingState::Retired,
        AttachError::OtherVersion { found, .. } => ListingState::OtherVersion(found),
        AttachError::PermissionDenied { .. } => ListingState::NoPermission,
        error => ListingState::Unreadable(error.to_string()),
    }
}
