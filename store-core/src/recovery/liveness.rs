//! Whether a client entry's process still lives.

use crate::layout::{ClientState, ClientWord, Segment};
use crate::region::Shim;
use crate::sync::Owner;
use crate::sys::clock;
use crate::sys::process::{Liveness, liveness};

/// Whether the process of entry `client` lives; `None` for a free entry.
pub(crate) fn state_of<S: Shim>(segment: &Segment<S>, client: u32) -> Option<Liveness> {
    let entry = segment.client(client).ok()?;
    let word = ClientWord::of(entry.word.load());
    if word.state == ClientState::Free {
        return None;
    }
    let boot = u128::from(entry.boot_id[0].load()) | u128::from(entry.boot_id[1].load()) << 64;
    // 0 on both sides where the kernel has no boot id, or the entry is not filled in yet.
    if boot != 0 && boot != clock::boot_id() {
        return Some(Liveness::Dead);
    }
    Some(liveness(&entry.process()))
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
    state_of(segment, owner.client) == Some(Liveness::Dead)
}
