//! Finding a key's place for a writer, who holds the guard of its stripe: nothing moves meanwhile,
//! so nothing needs to be validated but bounds.

use super::CHAIN_LINES_MAX;
use crate::error::Corruption;
use crate::layout::{Header, LANES, LINK_LANE, Segment, Slot, TagWord, Where};
use crate::region::Shim;

/// An item that stands at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) at: Where,
    pub(crate) slot: Slot,
    pub(crate) header: Header,
}

/// What a walk over a chain found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    pub(crate) bucket: u64,
    /// The item with the key, expired or not.
    pub(crate) found: Option<Standing>,
    /// The first free lane.
    pub(crate) free: Option<Where>,
    /// The address of the last line of the chain.
    pub(crate) tail: u64,
    /// Lines in the chain.
    pub(crate) lines: usize,
}

/// Walks the chain of `hash` for `key`.
///
/// # Errors
/// `Corruption` where the chain leaves the index or does not end.
#[inline]
pub(crate) fn search<S: Shim>(
    segment: &Segment<S>,
    key: &[u8],
    hash: u64,
) -> Result<Search, Corruption> {
    let bucket = segment.index_size().bucket_of(hash);
    let first = segment.bucket_line(bucket)?;
    match at_a_glance(segment, first, key, hash) {
        None => walk(segment, (bucket, first), key, hash),
        found => Ok(Search { bucket, found, free: None, tail: first, lines: 1 }),
    }
}

/// The item with the key where most are: in its bucket's own line, in the first lane with its tag.
#[inline(always)]
fn at_a_glance<S: Shim>(
    segment: &Segment<S>,
    number: u64,
    key: &[u8],
    hash: u64,
) -> Option<Standing> {
    let line = segment.line_at(number)?;
    let lane = TagWord(line.tags.load()).first_with(TagWord::tag_of(hash))?;
    let slot = line.slot(lane);
    if !slot.is_item() || !slot.may_be(hash, segment.geometry.slot_hash_shift) {
        return None;
    }
    let header = header_if_key(segment, slot, key).ok()??;
    Some(Standing { at: Where { line: number, lane }, slot, header })
}

/// [`search`], lane by lane from the bucket's first line on.
#[inline(never)]
fn walk<S: Shim>(
    segment: &Segment<S>,
    (bucket, first): (u64, u64),
    key: &[u8],
    hash: u64,
) -> Result<Search, Corruption> {
    let tag = TagWord::tag_of(hash);
    let shift = segment.geometry.slot_hash_shift;
    let mut number = first;
    let mut free = None;
    for lines in 1..=CHAIN_LINES_MAX {
        let line = segment.line(number)?;
        for lane in TagWord(line.tags.load()).candidates(tag) {
            let slot = line.slot(lane);
            if !slot.is_item() || !slot.may_be(hash, shift) {
                continue;
            }
            let at = Where { line: number, lane };
            if let Some(header) = header_if_key(segment, slot, key)? {
                let found = Some(Standing { at, slot, header });
                return Ok(Search { bucket, found, free, tail: number, lines });
            }
        }
        if free.is_none() {
            free = (0..LANES)
                .find(|lane| line.slot(*lane).is_empty())
                .map(|lane| Where { line: number, lane });
        }
        let last = line.slot(LINK_LANE);
        if !last.is_link() {
            return Ok(Search { bucket, found: None, free, tail: number, lines });
        }
        number = segment.linked_line(last)?;
    }
    Err(endless(bucket))
}

fn endless(bucket: u64) -> Corruption {
    Corruption { what: "a chain of overflow lines without end", offset: bucket }
}

/// The place of exactly `slot` in the chain of `hash`; `None` if no lane holds it.
pub(crate) fn find_slot<S: Shim>(
    segment: &Segment<S>,
    slot: Slot,
    hash: u64,
) -> Result<Option<Where>, Corruption> {
    let bucket = segment.index_size().bucket_of(hash);
    let mut line = segment.bucket_line(bucket)?;
    for _ in 0..CHAIN_LINES_MAX {
        let record = segment.line(line)?;
        if let Some(lane) = (0..LANES).find(|lane| record.slot(*lane) == slot) {
            return Ok(Some(Where { line, lane }));
        }
        let last = record.slot(LINK_LANE);
        if !last.is_link() {
            return Ok(None);
        }
        line = segment.linked_line(last)?;
    }
    Err(endless(bucket))
}

/// The item in the chain of `hash` with this stamp: the one that a piece with both belongs to.
pub(crate) fn find_stamped<S: Shim>(
    segment: &Segment<S>,
    stamp: u64,
    hash: u64,
) -> Result<Option<Standing>, Corruption> {
    let shift = segment.geometry.slot_hash_shift;
    for number in chain(segment, segment.index_size().bucket_of(hash)) {
        let line = number?;
        let record = segment.line(line)?;
        for lane in 0..LANES {
            let slot = record.slot(lane);
            if slot.may_be(hash, shift)
                && segment.slot_stands(slot)
                && segment.stamp(slot.offset())?.number() == stamp
            {
                let header = segment.header(slot.offset())?;
                return Ok(Some(Standing { at: Where { line, lane }, slot, header }));
            }
        }
    }
    Ok(None)
}

/// The header of the item at `slot` if its key is `key`.
#[inline(always)]
fn header_if_key<S: Shim>(
    segment: &Segment<S>,
    slot: Slot,
    key: &[u8],
) -> Result<Option<Header>, Corruption> {
    if segment.geometry.extent_of(slot.offset()).is_none() {
        let what = "a slot that leads out of the arena";
        return Err(Corruption { what, offset: slot.offset() });
    }
    if !segment.slot_stands(slot) {
        return Ok(None);
    }
    let header = segment.header(slot.offset())?;
    let same = usize::from(header.key_bytes) == key.len()
        && header.namespace == segment.namespace
        && segment.key_is(slot.offset(), &header.shape(), key)?;
    Ok(same.then_some(header))
}

/// The addresses of the lines of a bucket's chain, in order; ends with an error after [`CHAIN_LINES_MAX`].
pub(crate) fn chain<S: Shim>(
    segment: &Segment<S>,
    bucket: u64,
) -> impl Iterator<Item = Result<u64, Corruption>> {
    let mut next = Some(segment.bucket_line(bucket));
    let mut count = 0;
    std::iter::from_fn(move || {
        let number = match next.take()? {
            Ok(number) => number,
            Err(error) => return Some(Err(error)),
        };
        count += 1;
        next = match segment.line(number) {
            Err(error) => return Some(Err(error)),
            Ok(line) if line.slot(LINK_LANE).is_link() => {
                Some(segment.linked_line(line.slot(LINK_LANE)))
            }
            Ok(_) => None,
        };
        if count > CHAIN_LINES_MAX {
            next = None;
            return Some(Err(endless(bucket)));
        }
        Some(Ok(number))
    })
}
