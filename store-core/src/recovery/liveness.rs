//! Whether a client entry's process still lives.

use std::sync::atomic::{Ordering, fence};

use crate::layout::{ClientEntry, ClientState, ClientWord, Segment};
use crate::region::{Region, Shim};
use crate::sync::Owner;
use crate::sys::clock;
use crate::sys::presence::{self, MappedObject};
use crate::sys::process::{Liveness, ProcessId, liveness};

/// Whether the process of entry `client` lives; `None` for a free entry.
pub(crate) fn state_of<S: Shim>(segment: &Segment<S>, client: u32) -> Option<Liveness> {
    state_of_entry(&segment.region, segment.client(client).ok()?, client)
}

/// [`state_of`] for an entry that was found otherwise.
pub(crate) fn state_of_entry(
    region: &Region,
    entry: &ClientEntry,
    client: u32,
) -> Option<Liveness> {
    let found = entry.word.load();
    let word = ClientWord::of(found);
    if word.state == ClientState::Free {
        return None;
    }
    let (mut filled, mut has_lock) = (false, false);
    let mut id = ProcessId { pid: word.pid, start_time: 0, pid_namespace: 0 };
    // What tells the process from another with its pid counts only once it was filled in by this
    // client: not by the last one of the entry.
    if entry.identity_generation.load() == u64::from(word.generation) {
        // Pairs with the Release store of the generation, which is the last of the identity.
        fence(Ordering::Acquire);
        let boot = u128::from(entry.boot_id[0].load()) | u128::from(entry.boot_id[1].load()) << 64;
        filled = true;
        has_lock = entry.lock_generation.load() == u64::from(word.generation);
        id.start_time = entry.start_time.load();
        id.pid_namespace = entry.pid_namespace.load();
        // Pairs with the Release stores of an identity, which follow the entry's new word: whoever
        // read one of them sees that word.
        fence(Ordering::Acquire);
        if entry.word.load() != found {
            // Another client by now: it is asked about next time.
            return Some(Liveness::Unknown);
        }
        // 0 where the kernel does not say.
        let own = clock::boot_id();
        if boot != 0 && own != 0 && boot != own {
            return Some(Liveness::Dead);
        }
    }
    let state = liveness(&id);
    if state == Liveness::Alive && filled && has_left(region, client, word.pid, has_lock) {
        // Unless it closed meanwhile.
        let same = entry.word.load_acquire() == found;
        return Some(if same { Liveness::Executed } else { Liveness::Unknown });
    }
    Some(state)
}

/// Whether a process that lives has nothing of the store any more: it does not map the segment. A
/// client maps it before it takes its entry, and unmaps it after it freed that. A file system may
/// show mappings otherwise, so the byte that a client of an object locks must be free too.
fn has_left(region: &Region, client: u32, pid: u32, has_lock: bool) -> bool {
    if pid == std::process::id() {
        // It is who asks, by this entry or another one.
        return false;
    }
    let is_locked = match region.holder().object() {
        Some(object) => !has_lock || !matches!(presence::is_free(object.as_fd(), client), Ok(true)),
        None => false,
    };
    !is_locked
        && MappedObject::at(region.address())
            .is_some_and(|object| object.is_mapped_by(pid) == Some(false))
}

/// Whether the owner that a guard or an extent names is dead for certain. An entry that is free or
/// of another generation is: entries are freed only after every guard was scanned for them, so
/// such a word is a stray one that nobody will ever give back.
pub(crate) fn is_dead<S: Shim>(segment: &Segment<S>, owner: Owner) -> bool {
    let Ok(entry) = segment.client(owner.client) else { return true };
    let word = ClientWord::of(entry.word.load());
    if word.state == ClientState::Free
        || word.generation & Owner::GENERATION_MASK != owner.generation
    {
        return true;
    }
    state_of(segment, owner.client).is_some_and(Liveness::is_dead)
}
