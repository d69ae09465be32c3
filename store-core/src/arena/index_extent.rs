//! Extents of the index: free ones that are taken for buckets or overflow lines, and stay that.

use super::NoRoom;
use super::lease::{can_be_claimed, claim, commission, reserve_stands, reserve_stands_for_more};
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Segment};
use crate::region::Shim;
use crate::sync::Owner;

/// Makes `number` of the buckets' or the overflow lines' extents out of a free one; `false` if
/// none is free beyond those that are kept for cleaners. Does nothing if it is there already.
///
/// Dies on the way: the extent names the dead owner, whose reaper looks whether the directory has
/// it.
pub(crate) fn take<S: Shim>(
    segment: &Segment<S>,
    owner: Owner,
    state: ExtentState,
    number: u64,
) -> Result<bool, NoRoom> {
    let entry = segment.directory_entry(state, number)?;
    if entry.load() == 0 {
        let before = match number.checked_sub(1) {
            Some(before) => segment.directory_entry(state, before)?.load(),
            None => 0,
        };
        let start = before.saturating_sub(segment.first_line(0)) >> segment.geometry.line_shift();
        let Some(extent) = claim_from(segment, owner, start)? else { return Ok(false) };
        empty(segment, extent)?;
        let cell = &segment.extent(extent)?.word;
        let kept = ExtentWord::kept(owner);
        cell.store::<S>(ExtentWord::of_index(state, number, Some(kept)).word());
        let word = match entry.compare_exchange::<S>(0, segment.first_line(extent)) {
            Ok(()) => ExtentWord::of_index(state, number, None),
            // Somebody else was faster.
            Err(_) => ExtentWord::FREE,
        };
        cell.store::<S>(word.word());
    }
    if state == ExtentState::Overflow {
        let _ = segment.superblock().overflow_extents.compare_exchange::<S>(number, number + 1);
    }
    Ok(true)
}

/// Claims the first free extent from the one before on: they stay, so they had better lie together.
fn claim_from<S: Shim>(
    segment: &Segment<S>,
    owner: Owner,
    start: u64,
) -> Result<Option<u32>, NoRoom> {
    let extents = u64::from(segment.geometry.extents);
    let order = || (0..extents).map(|i| ((start + i) % extents) as u32);
    let is_bare = |extent| {
        Ok::<_, Corruption>(segment.is_free(extent)? && segment.generation(extent)?.load() == 0)
    };
    if !reserve_stands_for_more(segment)? {
        // What was trimmed can be had again.
        for extent in order() {
            if is_bare(extent)? {
                commission(segment, owner, extent)?;
                break;
            }
        }
    }
    for extent in order() {
        if is_bare(extent)? {
            // The others behind it have no memory either.
            commission(segment, owner, extent)?;
        }
        if can_be_claimed(segment, extent)? && claim(segment, extent, owner)? {
            if reserve_stands(segment)? {
                return Ok(Some(extent));
            }
            segment.extent(extent)?.word.store::<S>(ExtentWord::FREE.word());
            return Ok(None);
        }
    }
    Ok(None)
}

fn empty<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<(), Corruption> {
    let words = u64::from(segment.geometry.extent_units());
    for cell in segment.region.words(segment.geometry.extent_offset(extent), words)? {
        if cell.load() != 0 {
            cell.store_unpublished::<S>(0);
        }
    }
    Ok(())
}

/// What becomes of an extent of the index whose taker is dead: it stays if the directory has it,
/// and is free if not.
pub(crate) fn settle<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    found: u64,
) -> Result<(), Corruption> {
    let word = ExtentWord::of(found);
    let number = word.index_number();
    let listed = segment
        .directory_entry(word.state, number)
        .is_ok_and(|entry| entry.load() == segment.first_line(extent));
    let next =
        if listed { ExtentWord::of_index(word.state, number, None) } else { ExtentWord::FREE };
    let _ = segment.extent(extent)?.word.compare_exchange::<S>(found, next.word());
    Ok(())
}
