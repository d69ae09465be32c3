//! Quotas of namespaces, counted in extents: what a group may still take, and what is kept for it.
//! The extents are counted each time: so no crash leaves a wrong sum. Two that take an extent at
//! once may both get the last one.

use crate::error::Corruption;
use crate::layout::{ExtentState, Segment, Share};
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
    let mut extents = 0;
    for extent in 0..segment.geometry.extents {
        extents += u32::from(counted(segment, extent)? == Some(group));
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
        if let Some(of) = counted(segment, extent)? {
            left[usize::from(of)] = left[usize::from(of)].saturating_sub(1);
        }
    }
    Ok(left.iter().skip(1).fold(0, |sum, left| sum.saturating_add(*left)))
}

/// The group that an extent counts for.
fn counted<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<Option<u8>, Corruption> {
    let holds_items = matches!(
        segment.extent_word(extent)?.state,
        ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation
    );
    let group = segment.stream(extent)?.group;
    // The table may have fewer records than hostile bytes name.
    let known = u32::from(group) < segment.geometry.namespaces;
    Ok((holds_items && known).then_some(group))
}
