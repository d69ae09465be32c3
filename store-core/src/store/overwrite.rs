//! Overwriting a value where it stands: no room is reserved, and nothing is left for cleaning. For a
//! short value without a time to live that takes as many words as the one before it.
//!
//! What the item is going to be is written to the redo record of its stripe first; then the item says by
//! its stamp that it changes, then it changes, then it has its new stamp. From the first store of the stamp
//! on the new value is the one of the key: who reads meanwhile reads the record, and who finds the writer
//! dead copies it into the item. Before that store nothing has happened.
//!
//! A reader that is overtaken starts anew. So that none is overtaken again and again, a value that was
//! written a short while ago is not overwritten where it stands: it goes to another place, and those who
//! read the old one go on reading it.

use std::sync::atomic::{Ordering, fence};

use super::guarded::Held;
use super::write::{Item, Value, holds};
use super::{Condition, Outcome, Session, Store};
use crate::arena::pin;
use crate::error::{Corruption, WriteError};
use crate::index::lookup::{Spot, spot};
use crate::index::search::{Standing, search};
use crate::layout::{REDO_WORDS, RedoRecord, Slot, Stamp, flags};
use crate::region::{Cell64, Mutation, Shim, copy_in, mutated};

/// The words of an item that change, and the record that says what to.
struct Target<'a> {
    stamp: &'a Cell64,
    header: &'a Cell64,
    checksum: Option<&'a Cell64>,
    value: &'a [Cell64],
    record: &'a RedoRecord,
}

impl<S: Shim> Store<S> {
    /// Puts an item by overwriting the one with its key where it stands; `None` if that can't be done, and
    /// nothing was.
    ///
    /// # Errors
    /// `Stuck`, `Corruption` and others of a guard; nothing was changed then.
    #[inline]
    pub(super) fn overwrite(
        &self,
        session: &Session,
        item: &Item<'_>,
        condition: Condition,
    ) -> Result<Option<Outcome>, WriteError> {
        let Value::Bytes(value) = item.value else { return Ok(None) };
        if value.len() > 8 * REDO_WORDS
            || !self.segment.is_plain(item.header, item.key.len())
            || !self.seems_to_fit(session, item)
        {
            return Ok(None);
        }
        let held = self.hold(session, item.hash)?;
        let found = search(&self.segment, item.key, item.hash)?;
        let Some(standing) = found.found.filter(|it| item.header.fits_in(it.header)) else {
            return Ok(None);
        };
        let version = self.present(&found)?.map(|present| present.version);
        if !holds(condition, version) {
            return Ok(Some(Outcome::Refused(version)));
        }
        if !self.may_be_overwritten(session, standing.slot)? {
            return Ok(None);
        }
        self.overwrite_held(&held, item, value, &standing)?;
        drop(held);
        self.mark(item.hash);
        Ok(Some(Outcome::Replaced))
    }

    /// Whether the key's item looks as if it could be overwritten; without its guard no more than a hint. It
    /// also has the processor fetch what the holder of the guard looks at.
    #[inline(always)]
    fn seems_to_fit(&self, session: &Session, item: &Item<'_>) -> bool {
        if !session.expects_fit() {
            return false;
        }
        let slot = match spot(&self.segment, item.hash) {
            Spot::Slot(_, slot) => slot,
            Spot::Missing => {
                session.note_fit(false);
                return false;
            }
            Spot::Unclear => return false,
        };
        self.segment.slot_stands(slot)
            && self.segment.header(slot.offset()).is_ok_and(|header| {
                let fits = item.header.fits_in(header);
                session.note_fit(fits);
                fits && self.may_be_overwritten(session, slot) == Ok(true)
            })
    }

    /// Whether an item stands for some time, and nobody reads it in place.
    #[inline(always)]
    fn may_be_overwritten(&self, session: &Session, slot: Slot) -> Result<bool, Corruption> {
        let stamp = self.segment.stamp(slot.offset())?;
        let age = session.last_stamp().wrapping_sub(stamp.number()).cast_signed();
        Ok(!stamp.is_overwritten()
            && age >= S::OVERWRITE_APART
            && !pin::is_item_pinned(&self.segment, slot.offset())?)
    }

    /// Dies before the stamp is stored: nothing was done. After it: whoever repairs the stripe does the rest.
    #[inline(always)]
    fn overwrite_held(
        &self,
        held: &Held<'_, S>,
        item: &Item<'_>,
        value: &[u8],
        standing: &Standing,
    ) -> Result<(), WriteError> {
        let target = self.target(item, standing.slot)?;
        let checksum =
            target.checksum.map(|_| self.segment.checksum(item.header, None, item.key, value));
        let stamp = self.stamp(held.session)?;
        if !mutated::<S>(Mutation::SkipRedoRecord) {
            let record = target.record;
            record.stamp.store::<S>(0);
            // Pairs with the fence of a reader before it looks at the record's stamp again.
            fence(Ordering::Release);
            record.header.store::<S>(item.header.word());
            record.checksum.store::<S>(checksum.unwrap_or(0));
            copy_in::<S>(value, &record.value);
            record.stamp.store::<S>(stamp);
        }
        held.arm_overwrite(standing);
        target.stamp.store::<S>(Stamp::overwritten(stamp).0);
        // Pairs with the fence of a reader before it looks at the item's stamp again.
        fence(Ordering::Release);
        target.header.store::<S>(item.header.word());
        if let (Some(cell), Some(checksum)) = (target.checksum, checksum) {
            cell.store::<S>(checksum);
        }
        copy_in::<S>(value, target.value);
        target.stamp.store::<S>(stamp);
        held.record.disarm::<S>();
        Ok(())
    }

    /// All words that are stored to, so that nothing fails once one was.
    #[inline(always)]
    fn target(&self, item: &Item<'_>, slot: Slot) -> Result<Target<'_>, Corruption> {
        let region = &self.segment.region;
        let shape = item.header.shape();
        let [stamp, header] = region.view::<[Cell64; 2]>(slot.offset())?;
        let checksum = match item.header.has(flags::CHECKSUM) {
            true => Some(region.view::<Cell64>(slot.offset() + shape.checksum)?),
            false => None,
        };
        let words = (shape.bytes - shape.value) / 8;
        let value = region.words(slot.offset() + shape.value, words)?;
        let record = self.segment.redo(self.segment.geometry.stripe_of(item.hash))?;
        Ok(Target { stamp, header, checksum, value, record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{PutOptions, Ttl, private_on_heap};

    const KEY: &[u8] = b"key";

    /// A store, a session, and a put.
    fn store(checksums: bool) -> (Store<Plain>, Session) {
        let options = CreateOptions::new(1 << 20).checksums(checksums);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        (store, session)
    }

    fn put(store: &Store<Plain>, session: &Session, key: &[u8], value: &[u8]) {
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(session, key, value, &options, always).expect("room");
    }

    /// So many puts of another key that the one before them was a while ago.
    fn wait(store: &Store<Plain>, session: &Session) {
        (0..Plain::OVERWRITE_APART).for_each(|_| put(store, session, b"another", &[1; 9]));
    }

    fn slot_of(store: &Store<Plain>) -> Slot {
        let hash = store.segment.hasher.hash(KEY);
        search(&store.segment, KEY, hash).expect("a search").found.expect("it stands").slot
    }

    /// Puts one value a while after another: whether it is where the other one was.
    fn stays(store: &Store<Plain>, session: &Session, values: [&[u8]; 2]) -> bool {
        put(store, session, KEY, values[0]);
        wait(store, session);
        let before = (slot_of(store), store.get_entry(KEY).expect("a lookup").expect("it stands"));
        put(store, session, KEY, values[1]);
        let entry = store.get_entry(KEY).expect("a lookup").expect("it stands");
        assert_eq!(entry.value, values[1]);
        assert_ne!(entry.version, before.1.version, "another put is another version");
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
        slot_of(store) == before.0
    }

    #[test]
    fn a_value_of_as_many_words_takes_the_place_of_the_other() {
        for checksums in [false, true] {
            let (store, session) = store(checksums);
            for (old, new, expected) in [
                (100, 100, true),
                (97, 104, true),
                (104, 97, true),
                (0, 0, true),
                (224, 224, true),
                (100, 96, false),
                (96, 100, false),
                (225, 225, false),
            ] {
                let (old, new) = (vec![2; old], vec![3; new]);
                assert_eq!(stays(&store, &session, [&old, &new]), expected, "{}", new.len());
            }
        }
    }

    #[test]
    fn what_was_just_written_or_is_read_in_place_or_expires_stays_as_it_is() {
        let (store, session) = store(false);
        put(&store, &session, KEY, &[2; 50]);
        let first = slot_of(&store);
        put(&store, &session, KEY, &[3; 50]);
        assert_ne!(slot_of(&store), first, "it was written just before");
        wait(&store, &session);
        let second = slot_of(&store);
        let pinned = store.get_pinned(&session, KEY).expect("a pin").expect("it stands");
        put(&store, &session, KEY, &[4; 50]);
        assert_eq!((pinned.to_vec(), slot_of(&store) == second), (vec![3; 50], false));
        drop(pinned);
        wait(&store, &session);
        let third = slot_of(&store);
        let ttl = Ttl::Left(std::time::Duration::from_secs(60));
        assert!(store.set_ttl(&session, KEY, ttl).expect("it stands"));
        wait(&store, &session);
        put(&store, &session, KEY, &[5; 50]);
        assert_ne!(slot_of(&store), third);
        assert_eq!(store.ttl(KEY), Ok(Some(Ttl::Never)));
    }

    #[test]
    fn conditions_hold_where_a_value_stays() {
        let (store, session) = store(false);
        put(&store, &session, KEY, &[2; 50]);
        wait(&store, &session);
        let put_if = |value: &[u8], condition| {
            store.put(&session, KEY, value, &PutOptions::new(), condition).expect("room")
        };
        let version = store.get_entry(KEY).expect("a lookup").expect("it stands").version;
        let before = slot_of(&store);
        assert_eq!(put_if(&[3; 50], Condition::Absent), Outcome::Refused(Some(version)));
        assert_eq!(put_if(&[3; 50], Condition::Version(version)), Outcome::Replaced);
        wait(&store, &session);
        let now = store.get_entry(KEY).expect("a lookup").expect("it stands").version;
        assert_eq!(put_if(&[4; 50], Condition::Version(version)), Outcome::Refused(Some(now)));
        assert_eq!(put_if(&[5; 50], Condition::Present), Outcome::Replaced);
        assert_eq!(slot_of(&store), before);
        assert_eq!(store.get(KEY), Ok(Some(vec![5; 50])));
    }

    /// A writer that died in the middle: readers read on, and the next writer finishes it.
    #[test]
    fn a_half_written_value_reads_as_what_it_becomes() {
        let (store, session) = store(true);
        put(&store, &session, KEY, &[2; 100]);
        let hash = store.segment.hasher.hash(KEY);
        let stripe = store.segment.geometry.stripe_of(hash);
        let item = slot_of(&store).offset();
        let region = &store.segment.region;
        let header = store.segment.header(item).expect("a header");
        let shape = header.shape();
        let record = store.segment.redo(stripe).expect("a record");
        let stamp = store.stamp(&session).expect("a stamp");
        let header = crate::layout::Header { value_bytes: 99, ..header };
        record.header.store::<Plain>(header.word());
        record.checksum.store::<Plain>(store.segment.checksum(header, None, KEY, &[3; 99]));
        copy_in::<Plain>(&[3; 99], &record.value);
        record.stamp.store::<Plain>(stamp);
        let held = store.hold(&session, hash).expect("a guard");
        let found = search(&store.segment, KEY, hash).expect("a search").found.expect("it stands");
        held.arm_overwrite(&found);
        let cell = region.view::<Cell64>(item).expect("a stamp");
        cell.store::<Plain>(Stamp::overwritten(stamp).0);
        region.view::<Cell64>(item + shape.value + 16).expect("a word").store::<Plain>(!0);
        drop(held);
        let mut buffer = [0; 99];
        assert_eq!(store.get(KEY), Ok(Some(vec![3; 99])));
        assert_eq!((store.get_into(KEY, &mut buffer), buffer), (Ok(Some(99)), [3; 99]));
        let entry = store.get_entry(KEY).expect("a lookup").expect("it stands");
        assert_eq!((entry.version.stamp, entry.value), (stamp, vec![3; 99]));
        assert!(store.check(|_, _| {}).violations.iter().any(|it| it.contains("overwritten")));
        assert!(!store.delete(&session, b"another of the stripe").expect("a delete"));
        // Whoever takes its guard next.
        drop(store.hold(&session, hash).expect("a guard"));
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
        assert_eq!(cell.load(), stamp);
        assert_eq!(store.get(KEY), Ok(Some(vec![3; 99])));
    }
}
