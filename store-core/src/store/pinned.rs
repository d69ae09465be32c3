//! Values read in place: no copy, for writers, a few at a time.

use std::ops::Deref;

use super::{Session, Store};
use crate::arena::pin::{NoPin, Pin, pin, unpin};
use crate::error::PinError;
use crate::layout::{PINS_MAX, flags};
use crate::region::{SharedBytes, Shim};

/// How often a lookup starts anew because its item was recycled before it was pinned.
const ATTEMPTS_MAX: u32 = 100;

/// A value that stays where it is, as it is, until this is dropped: also if its key is overwritten
/// or deleted meanwhile. Holds back the memory of its extent (of all its extents, for a value that
/// is larger than one).
#[derive(Debug)]
pub struct Pinned<'a, S: Shim> {
    store: &'a Store<S>,
    session: &'a Session,
    pin: Pin<'a>,
    bytes: SharedBytes<'a>,
}

impl<'a, S: Shim> Deref for Pinned<'a, S> {
    type Target = SharedBytes<'a>;

    fn deref(&self) -> &SharedBytes<'a> {
        &self.bytes
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
    /// The value of `key` in place. A lookup, a compare-and-swap in the client's own entry and a
    /// fence; another compare-and-swap when it is dropped. A client has at most 8 at a time, all
    /// its threads together; they end with the process.
    ///
    /// # Errors
    /// See [`PinError`].
    pub fn get_pinned<'a>(
        &'a self,
        session: &'a Session,
        key: &[u8],
    ) -> Result<Option<Pinned<'a, S>>, PinError> {
        self.assert_usable(session);
        let geometry = &self.segment.geometry;
        let hash = self.segment.hasher.hash(key);
        for _ in 0..ATTEMPTS_MAX {
            let found = self.look_up_hashed(key, hash, |item| {
                let extent = geometry.extent_of(item.item)?;
                Some((item.header, item.value_at, item.item, extent, item.generation()))
            })?;
            let Some((header, value_at, item, first, generation)) = found else {
                self.count_lookup(session, false);
                return Ok(None);
            };
            if header.has(flags::COUNTER) {
                return Err(PinError::Counter);
            }
            let end = item + header.shape().bytes - geometry.extent_offset(first);
            let extents = end.div_ceil(geometry.extent_bytes()) as u32;
            let owner = session.owner();
            let pinned = pin(&self.segment, owner, (first, extents), generation);
            match pinned {
                Ok(Some(pin)) => {
                    let len = header.value_bytes as usize;
                    let words = self.segment.region.words(value_at, len.div_ceil(8) as u64)?;
                    let bytes = SharedBytes::new(words, len);
                    self.count_lookup(session, true);
                    self.mark(hash);
                    return Ok(Some(Pinned { store: self, session, pin, bytes }));
                }
                Ok(None) => {}
                Err(NoPin::Exhausted) => return Err(PinError::TooMany { limit: PINS_MAX }),
                Err(NoPin::Corruption(error)) => return Err(error.into()),
            }
        }
        Err(crate::error::ReadError::Contended { attempts: ATTEMPTS_MAX }.into())
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
        const MUTATION: Option<Mutation> = Some(Mutation::SkipPins);
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
