//! Values read in place: no copy, for writers, a few at a time.

use super::guarded::Present;
use super::{Session, Store};
use crate::arena::pieces::Pieces;
use crate::arena::pin::{NoPin, Pin, pin, unpin};
use crate::error::{Corruption, PinError};
use crate::index::search::search;
use crate::layout::{Header, PIECE_HEAD_BYTES, PINS_MAX, flags};
use crate::region::{SharedBytes, Shim};

/// A value that stays where it is, as it is, until this is dropped: also if its key is overwritten
/// or deleted meanwhile. It lies in one part, or if it is larger than an eighth of an extent in
/// several, which need not be neighbours. Holds back the memory of the extents that they are in.
#[derive(Debug)]
pub struct Pinned<'a, S: Shim> {
    store: &'a Store<S>,
    session: &'a Session,
    pin: Pin<'a>,
    parts: Vec<SharedBytes<'a>>,
}

impl<S: Shim> Pinned<'_, S> {
    /// The parts of the value, one behind the other. There is one if the item is no larger than an
    /// eighth of an extent, and the store was not almost full when it was put.
    pub fn parts(&self) -> &[SharedBytes<'_>] {
        &self.parts
    }

    /// Bytes of the value.
    pub fn len(&self) -> usize {
        self.parts.iter().map(SharedBytes::len).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `from` on into `to`, as many as there are and fit; how many. At the
    /// speed of a copy.
    pub fn read_at(&self, from: usize, to: &mut [u8]) -> usize {
        let (mut skip, mut done) = (from, 0);
        for part in &self.parts {
            done += part.read_at(skip, &mut to[done..]);
            skip = skip.saturating_sub(part.len());
        }
        done
    }

    /// All bytes, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read_at(0, &mut bytes);
        bytes
    }
}

impl<S: Shim> Drop for Pinned<'_, S> {
    fn drop(&mut self) {
        // In a forked child the pin is the parent's. What can't be taken off goes with the client.
        if self.session.is_of_this_process() {
            let _ = unpin(&self.store.segment, &self.pin);
        }
    }
}

impl<S: Shim> Store<S> {
    /// The value of `key` in place. A lookup, the guard of its key, a compare-and-swap in the client's
    /// own entry and a fence; another compare-and-swap when it is dropped. A key that is not there takes
    /// no guard. A client has at most 8 at a time, all its threads together; they end with the process.
    ///
    /// # Errors
    /// See [`PinError`].
    pub fn get_pinned<'a>(
        &'a self,
        session: &'a Session,
        key: &[u8],
    ) -> Result<Option<Pinned<'a, S>>, PinError> {
        self.assert_usable(session);
        let hash = self.segment.hasher.hash(key);
        let pinned = match self.look_up_hashed(key, hash, |_| Some(()))? {
            Some(()) => self.pin_present(session, key, hash)?,
            None => None,
        };
        self.count_lookup(session, pinned.is_some());
        if pinned.is_some() {
            self.mark(hash);
        }
        Ok(pinned)
    }

    /// Pins a value under its guard: so it is there, with all its pieces, until it is pinned, and nobody
    /// overwrites it where it stands who has not seen the pin.
    fn pin_present<'a>(
        &'a self,
        session: &'a Session,
        key: &[u8],
        hash: u64,
    ) -> Result<Option<Pinned<'a, S>>, PinError> {
        let segment = &self.segment;
        let _held = self.hold(session, hash).map_err(|error| PinError::Guard(Box::new(error)))?;
        let present = self.present(&search(segment, key, hash)?)?;
        let Some(Present { standing, .. }) = present else { return Ok(None) };
        if standing.header.has(flags::COUNTER) {
            return Err(PinError::Counter);
        }
        let item = standing.slot.offset();
        let generation = segment.generation_at(segment.geometry.extent_at(item));
        let generation = generation.map_or(0, crate::region::Cell64::load);
        self.pin_at(session, (item, standing.header), generation)
    }

    /// Pins the item at `item`. `None` if its extent has another generation by now.
    fn pin_at<'a>(
        &'a self,
        session: &'a Session,
        (item, header): (u64, Header),
        generation: u64,
    ) -> Result<Option<Pinned<'a, S>>, PinError> {
        let segment = &self.segment;
        let large = header.has(flags::LARGE);
        let pin = match pin(segment, session.owner(), (item, large), generation) {
            Ok(Some(pin)) => pin,
            Ok(None) => return Ok(None),
            Err(NoPin::Exhausted) => return Err(PinError::TooMany { limit: PINS_MAX }),
            Err(NoPin::Corruption(error)) => return Err(error.into()),
        };
        let mut pinned = Pinned { store: self, session, pin, parts: Vec::new() };
        let part = |at, len: u64| {
            let words = segment.region.words(at, len.div_ceil(8))?;
            Ok::<_, Corruption>(SharedBytes::new(words, len as usize))
        };
        match Pieces::of(segment, item, header)? {
            None => {
                pinned.parts.push(part(item + header.shape().value, header.value_bytes.into())?);
            }
            Some(pieces) => {
                for (slot, bytes) in pieces.places(segment) {
                    pinned.parts.push(part(slot.offset() + PIECE_HEAD_BYTES, bytes)?);
                }
                if pinned.len() as u64 != pieces.large.len {
                    let what = "a large item without one of its pieces";
                    return Err(Corruption { what, offset: item }.into());
                }
            }
        }
        Ok(Some(pinned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::{Mutation, Plain};
    use crate::store::{Condition, PutOptions, private_on_heap};

    struct IgnoresPins;

    impl Shim for IgnoresPins {
        fn leaves_out(rule: Mutation) -> bool {
            rule == Mutation::SkipPins
        }
    }

    fn value(key: u64, turn: u64, len: u64) -> Vec<u8> {
        (0..len).map(|i| (key * 31 + turn * 7 + i) as u8).collect()
    }

    /// Pins a small value and one that is larger than an extent, overwrites the store many times,
    /// and tells whether both are still what they were.
    fn pins_stand<S: Shim>() -> bool {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(200);
        let store: Store<S> = private_on_heap(&options, 3).expect("a tiny store");
        let (mine, other) =
            (store.open_session().expect("an entry"), store.open_session().expect("an entry"));
        let put = |key: u64, turn, len| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store
                .put(&other, &key.to_le_bytes(), &value(key, turn, len), &options, always)
                .expect("there is room");
        };
        put(1, 0, 300);
        put(2, 0, 9000);
        let pinned = [1_u64, 2].map(|key| {
            store.get_pinned(&mine, &key.to_le_bytes()).expect("a pin").expect("it is there")
        });
        assert_eq!([pinned[0].len(), pinned[1].len()], [300, 9000]);
        for turn in 1..200 {
            put(1, turn, 300);
            put(2, turn, 9000);
            for key in 3..20 {
                put(key, turn, 500);
            }
        }
        assert!(store.check(|_, _| {}).violations.is_empty());
        let stand =
            [pinned[0].to_vec(), pinned[1].to_vec()] == [value(1, 0, 300), value(2, 0, 9000)];
        drop(pinned);
        // And then the memory is there again.
        store.clear(&other).expect("a clear");
        store.close_session(&other).expect("closes");
        store.clean(&mine, 100).expect("cleaning");
        let stats = store.stats().expect("stats");
        assert_eq!((stats.live_bytes, stats.extents_pinned), (0, 0));
        stand
    }

    #[test]
    fn pinned_values_stay_as_they_are() {
        assert!(pins_stand::<Plain>());
    }

    #[test]
    fn negative_control_without_a_look_at_the_pins() {
        assert!(!pins_stand::<IgnoresPins>(), "the test does not see the look taken out");
    }

    #[test]
    fn a_client_has_so_many_pins_and_no_more() {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(200);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a tiny store");
        let session = store.open_session().expect("an entry");
        let always = Condition::Always;
        store.put(&session, b"k", b"v", &PutOptions::new(), always).expect("a put");
        store.add_to(&session, b"n", 1).expect("a counter");
        assert!(matches!(store.get_pinned(&session, b"n"), Err(PinError::Counter)));
        assert!(store.get_pinned(&session, b"absent").expect("a lookup").is_none());
        let mut pins: Vec<_> = (0..PINS_MAX)
            .map(|_| store.get_pinned(&session, b"k").expect("a pin").expect("it is there"))
            .collect();
        let refused = store.get_pinned(&session, b"k");
        assert!(matches!(refused, Err(PinError::TooMany { limit: PINS_MAX })));
        pins.pop();
        assert_eq!(store.get_pinned(&session, b"k").expect("a pin").expect("it").to_vec(), b"v");
    }
}
