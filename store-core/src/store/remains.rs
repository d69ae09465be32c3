//! What the beginning of an object without a sound format word tells: a store that was never finished, one
//! that was damaged, or none.

use super::attach::word_of;
use super::session::STAMP_BLOCK;
use crate::error::AttachError;
use crate::layout::{
    EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, FORMAT_VERSION, SUPERBLOCK_BYTES, format_version_of,
};
use crate::region::{Region, append_out};

/// Bytes that are looked at: the superblock and the first entries of the client table.
pub(super) const START_BYTES: usize = 2 * SUPERBLOCK_BYTES as usize;

// Words of the superblock, by their number.
const SEGMENT_BYTES: usize = 7;
const EXTENTS_MAX: usize = 31;
const EXTENT_BYTES: usize = 32;
const ARENA_OFFSET: usize = 38;
const NEXT_STAMP: usize = 72;

/// Whether something is meant to be a store, whatever its bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// Nothing else has a name in that place.
    ByName,
    PerhapsFile,
    PerhapsSegment,
}

/// What there is where no store can be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remains {
    /// Nothing that a store would have.
    Nothing,
    /// A store whose creator has not got further.
    Unfinished,
    /// A store that was whole and has lost its format word.
    Damaged,
}

/// Why a segment without a format word is refused.
pub(super) fn in_region(error: AttachError, region: &Region, shown: &str) -> AttachError {
    let words = region.words(0, (START_BYTES as u64).min(region.bytes()) / 8).unwrap_or(&[]);
    let mut start = Vec::new();
    append_out(words, words.len() * 8, &mut start);
    match format_version_of(word_of(&start, 0)) {
        None => told_by(error, &start, region.bytes(), Meant::PerhapsSegment, shown),
        Some(_) => error,
    }
}

/// What a refusal is, by what the first bytes tell besides the format word.
pub(super) fn told_by(
    error: AttachError,
    start: &[u8],
    length: u64,
    meant: Meant,
    shown: &str,
) -> AttachError {
    let name = shown.to_owned();
    let (is_named, of_file) = (meant == Meant::ByName, meant == Meant::PerhapsFile);
    match (remains(start, length, is_named), error) {
        (Remains::Damaged, AttachError::Unfinished { .. } | AttachError::NotAStore { .. }) => {
            AttachError::Damaged { name }
        }
        // A file of zeros is anybody's; segments are told apart before.
        (Remains::Nothing, AttachError::Unfinished { creator_alive: false, .. }) if of_file => {
            AttachError::NotAStore { name, found: 0 }
        }
        (_, error) => error,
    }
}

/// What the first bytes of an object say, if its name does (`is_named`) or does not say that it is meant
/// to be a store.
fn remains(start: &[u8], length: u64, is_named: bool) -> Remains {
    let format = word_of(start, 0);
    debug_assert!(format_version_of(format) != Some(FORMAT_VERSION));
    let (has_geometry, is_used) = (has_geometry(start), is_used(start));
    match format {
        0 if is_used && (has_geometry || is_named) => Remains::Damaged,
        0 if is_named || word_of(start, SEGMENT_BYTES) == length => Remains::Unfinished,
        0 => Remains::Nothing,
        _ if has_geometry => Remains::Damaged,
        _ => Remains::Nothing,
    }
}

/// Whether the words that say where the arena is agree.
fn has_geometry(start: &[u8]) -> bool {
    let extent_bytes = word_of(start, EXTENT_BYTES);
    let arena = word_of(start, EXTENTS_MAX).checked_mul(extent_bytes);
    let all = arena.and_then(|bytes| bytes.checked_add(word_of(start, ARENA_OFFSET)));
    extent_bytes.is_power_of_two()
        && (EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&extent_bytes)
        && arena != Some(0)
        && all == Some(word_of(start, SEGMENT_BYTES))
}

/// Whether a client used it, which none does before it is whole: stamps were given out, or an entry of the
/// client table was taken once.
fn is_used(start: &[u8]) -> bool {
    let clients = start.get(SUPERBLOCK_BYTES as usize..).unwrap_or(&[]);
    !matches!(word_of(start, NEXT_STAMP), 0 | STAMP_BLOCK) || clients.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::config::CreateOptions;
    use crate::layout::{FORMAT_WORD, Superblock};
    use crate::region::Plain;
    use crate::store::{
        Access, Condition, ObjectName, PutOptions, Store, attach, create, destroy, private_on_heap,
    };
    use crate::sys::holder::Holder;

    #[test]
    fn the_words_are_those_of_the_superblock() {
        for (number, offset) in [
            (SEGMENT_BYTES, offset_of!(Superblock, segment_bytes)),
            (EXTENTS_MAX, offset_of!(Superblock, extents_max)),
            (EXTENT_BYTES, offset_of!(Superblock, extent_bytes)),
            (ARENA_OFFSET, offset_of!(Superblock, arena_offset)),
            (NEXT_STAMP, offset_of!(Superblock, next_stamp)),
        ] {
            assert_eq!(number * 8, offset);
        }
    }

    #[test]
    fn what_was_used_was_whole() {
        let store: Store<Plain> =
            private_on_heap(&CreateOptions::new(1 << 20), 7).expect("a store");
        let told = |format: u64, named| {
            let mut image = store.image().expect("an image");
            let length = image.len() as u64;
            image[..8].copy_from_slice(&format.to_le_bytes());
            remains(&image[..START_BYTES], length, named)
        };
        for named in [false, true] {
            assert_eq!(told(0, named), Remains::Unfinished, "nobody ever used it");
            assert_eq!(told(77, named), Remains::Damaged, "a creator leaves 0 or the word");
        }
        let session = store.open_session().expect("an entry");
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(&session, b"key", b"value", &options, always).expect("a put");
        store.close_session(&session).expect("a close");
        for named in [false, true] {
            assert_eq!(told(0, named), Remains::Damaged);
        }
        let mut image = store.image().expect("an image");
        let length = image.len() as u64;
        image[..SUPERBLOCK_BYTES as usize].fill(0);
        assert_eq!(remains(&image[..START_BYTES], length, true), Remains::Damaged);
        assert_eq!(remains(&image[..START_BYTES], length, false), Remains::Nothing);
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_damaged_segment_is_told_by_each_of_its_names() {
        let own = std::process::id();
        let key = ObjectName::Key(0x4400_0000 | own & 0xFF_FFFF);
        for name in [key, ObjectName::Registered(format!("remains-{own}"))] {
            let store = create::<Plain>(&name, &CreateOptions::new(1 << 20)).expect("a store");
            let session = store.open_session().expect("an entry");
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, b"key", b"value", &options, always).expect("a put");
            let Holder::SystemV(segment) = store.segment.region.holder() else {
                panic!("{name} is a segment");
            };
            let by_id = ObjectName::Segment(segment.id());
            let format = &store.segment.superblock().format;
            for word in [0, 77] {
                format.store::<Plain>(word);
                for name in [&name, &by_id] {
                    let found = attach::<Plain>(name, Access::ReadOnly);
                    assert!(matches!(found, Err(AttachError::Damaged { .. })), "{name}: {found:?}");
                }
            }
            format.store::<Plain>(FORMAT_WORD);
            store.close_session(&session).expect("a close");
            destroy(&name).expect("it is ours");
        }
    }

    #[test]
    fn other_bytes_are_no_store() {
        for (bytes, named) in [(0, Remains::Unfinished), (b'x', Remains::Nothing)] {
            for length in [0, 1, 63, 64, 4096, START_BYTES] {
                let start = vec![bytes; length];
                let length = length as u64 + 1;
                let named = if start.len() < 8 { Remains::Unfinished } else { named };
                assert_eq!(remains(&start, length, true), named);
                assert_eq!(remains(&start, length, false), Remains::Nothing);
            }
        }
    }
}
