//! Quotas of namespaces, counted in extents: what a group may still take, and what is kept for it.
//! The extents are counted each time: so no crash leaves a wrong sum. Two that take an extent at
//! once may both get the last one.

use crate::error::Corruption;
use crate::layout::{ExtentState, RunTail, Segment, Share};
use crate::region::Shim;

/// With so few extents left of its quota a group is short of room.
pub(crate) const SHORT: u32 = 1;

/// Extents that a group may still take of its quota; `None` for the group without one.
pub(crate) fn left<S: Shim>(segment: &Segment<S>, group: u8) -> Result<Option<u32>, Corruption> {
    if group == 0 {
        return Ok(None);
    }
    let quota = segment.quota_of(group);
    Ok(Some(quota.saturating_sub(extents_of(segment, group)?)))
}

/// Extents that a group has.
pub(crate) fn extents_of<S: Shim>(segment: &Segment<S>, group: u8) -> Result<u32, Corruption> {
    let mut extents = 0_u32;
    for extent in 0..segment.geometry.extents {
        let own = counted(segment, extent)?.filter(|(of, _)| *of == group);
        // Heads of runs that lie over each other only hostile bytes have.
        extents = extents.saturating_add(own.map_or(0, |(_, n)| n));
    }
    Ok(extents)
}

/// Free extents that are kept from a group for what others have not taken of their quotas yet: in
/// store mode, where nobody gives back what he has. Nothing is kept from one that has a quota.
pub(crate) fn kept_from<S: Shim>(segment: &Segment<S>, group: u8) -> Result<u32, Corruption> {
    let quotas = segment.share_of(0) != Share::ALL;
    if group != 0 || segment.evicts || !quotas {
        return Ok(0);
    }
    let mut left: Vec<u32> =
        (0..segment.geometry.namespaces).map(|of| segment.quota_of(of as u8)).collect();
    for extent in 0..segment.geometry.extents {
        if let Some((of, extents)) = counted(segment, extent)? {
            left[usize::from(of)] = left[usize::from(of)].saturating_sub(extents);
        }
    }
    Ok(left.iter().skip(1).fold(0, |sum, left| sum.saturating_add(*left)))
}

/// The group that an extent counts for, and how many extents it stands for: the first one of a run
/// for all of them.
fn counted<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<Option<(u8, u32)>, Corruption> {
    let word = segment.extent_word(extent)?;
    let extents = match word.state {
        ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation => {
            let of_run = RunTail::of(segment.extent(extent)?.run_tail.load()).head.is_some();
            u32::from(!of_run)
        }
        ExtentState::RunHead => word.used.min(segment.geometry.extents),
        _ => 0,
    };
    let group = segment.stream(extent)?.group;
    // The table may have fewer records than hostile bytes name.
    let known = u32::from(group) < segment.geometry.namespaces;
    Ok((extents > 0 && known).then_some((group, extents)))
}
