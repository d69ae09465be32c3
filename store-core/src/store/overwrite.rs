//! Overwriting a value where it stands: no room is reserved, and nothing is left for cleaning. For a
//! short value without a time to live that takes as many words as the one before it.
//!
//! What the item is going to be is written to the redo record of its stripe first; then the item says by
//! its stamp that it changes, then it changes, then it has its new stamp. From the first store of the stamp
//! on the new value is the one of the key: who reads meanwhile reads the record, and who finds the writer
//! dead copies it into the item. Before that store nothing has happened.
//!
//! A reader that is overtaken starts anew. So that this is rare, a value that the same client wrote a short
//! while ago is not overwritten where it stands: it goes to another place, and those who read the old one go
//! on reading it.

use std::sync::atomic::{Ordering, fence};

use super::guarded::Held;
use super::write::holds;
use super::{Condition, Outcome, Session, Store, Version};
use crate::arena::pin;
use crate::error::{Corruption, WriteError};
use crate::index::lookup::{Hit, Spot, inspect, prefetch_item, spot_in_bucket};
use crate::layout::{Header, KEY_BYTES_MAX, REDO_WORDS, Slot, Stamp};
use crate::region::{Cell64, Mutation, Shim, copy_in, copy_out, mutated};

/// The item of a key, as it was seen without its guard.
#[derive(Clone, Copy)]
struct Target<'a> {
    slot_cell: &'a Cell64,
    slot: Slot,
    item: Hit<'a>,
}

impl Target<'_> {
    /// Whether it still is, for the holder of the guard.
    #[inline(always)]
    fn stands(&self) -> bool {
        let item = &self.item;
        self.slot_cell.load() == self.slot.0
            && item.generation_cell.load() == item.generation
            && item.stamp_cell.load() == item.stamp
    }
}

impl<S: Shim> Store<S> {
    /// Puts a value that does not expire by overwriting the one of the key where it stands; `None` if that
    /// can't be done, and nothing was. One guard, and two copies of the value.
    ///
    /// # Errors
    /// `Stuck`, `Corruption` and others of a guard; nothing was changed then.
    #[inline(always)]
    pub(super) fn overwrite(
        &self,
        session: &Session,
        (key, hash): (&[u8], u64),
        value: &[u8],
        condition: Condition,
    ) -> Result<Option<Outcome>, WriteError> {
        if !session.expects_fit() || value.len() > 8 * REDO_WORDS || key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        let Some(target) = self.target(session, (key, hash), value.len()) else { return Ok(None) };
        let version = Some(Version { stamp: target.item.stamp, number: None });
        // A refusal waits for no guard.
        if !holds(condition, version) {
            return Ok(None);
        }
        let done = match self.hold_at_once(session, hash) {
            Some(held) => self.overwrite_under(&held, (key, hash), value, target)?,
            None => self.overwrite_waiting(session, (key, hash), value, target)?,
        };
        if !done {
            return Ok(None);
        }
        self.mark(hash);
        self.count_put(session, 8 * (target.item.head.len() + target.item.value.len()) as u64);
        self.tell_gone(session);
        Ok(Some(Outcome::Replaced))
    }

    /// [`Store::overwrite`] where the guard can't be had at once.
    #[cold]
    #[inline(never)]
    fn overwrite_waiting(
        &self,
        session: &Session,
        (key, hash): (&[u8], u64),
        value: &[u8],
        target: Target<'_>,
    ) -> Result<bool, WriteError> {
        let held = self.hold(session, hash)?;
        Ok(self.overwrite_under(&held, (key, hash), value, target)?)
    }

    /// [`Store::overwrite`] under the guard; whether it was done.
    #[inline(always)]
    fn overwrite_under(
        &self,
        held: &Held<'_, S>,
        (key, hash): (&[u8], u64),
        value: &[u8],
        target: Target<'_>,
    ) -> Result<bool, Corruption> {
        // Under the guard: whoever removes a namespace passes each of them before it is gone.
        Ok(target.stands()
            && self.segment.namespace_stands()
            && !pin::is_item_pinned(&self.segment, target.slot.offset())?
            && self.overwrite_held(held, (key, hash), value, target)?)
    }

    /// The item of a key, if a value of this length fits in the place of its value, and that stands for some
    /// time.
    #[inline(always)]
    fn target(
        &self,
        session: &Session,
        (key, hash): (&[u8], u64),
        value_bytes: usize,
    ) -> Option<Target<'_>> {
        let (slot_cell, slot) = match spot_in_bucket(&self.segment, hash) {
            Spot::Slot(cell, slot) => (cell, slot),
            Spot::Missing => {
                session.note_fit(false);
                return None;
            }
            Spot::Unclear => return None,
        };
        // All of its lines: the guard lets no store behind it begin before those before it have ended.
        let bytes = 8 * self.segment.plain_key_unit() + (key.len() + value_bytes) as u64;
        prefetch_item(&self.segment, slot, 1 + bytes / 64);
        let item = inspect(&self.segment, (slot_cell, slot), key);
        let item = item.filter(|item| item.value.len() == value_bytes.div_ceil(8));
        session.note_fit(item.is_some());
        let item = item?;
        let age = session.last_stamp().wrapping_sub(item.stamp).cast_signed();
        (age >= S::OVERWRITE_APART).then_some(Target { slot_cell, slot, item })
    }

    /// What the checksum of an item is to be, by its bytes. Not inlined: most stores have none.
    #[inline(never)]
    fn checksum_of(&self, header: Header, key: &[u8], item: Hit<'_>) -> u64 {
        let mut value = [0; 8 * REDO_WORDS];
        let value = &mut value[..item.value_bytes];
        copy_out(item.value, value);
        self.segment.checksum(header, None, key, value)
    }

    /// Whether it was done: not where the item's bytes are not what its checksum says, so that a damaged
    /// length does not lead into the item behind it.
    ///
    /// Dies before the item's stamp is stored: nothing was done. After it: whoever repairs the stripe does
    /// the rest.
    #[inline(always)]
    fn overwrite_held(
        &self,
        held: &Held<'_, S>,
        (key, hash): (&[u8], u64),
        value: &[u8],
        Target { slot_cell, slot, item }: Target<'_>,
    ) -> Result<bool, Corruption> {
        let segment = &self.segment;
        let [stamp_cell, header_cell, others @ ..] = item.head else {
            return Err(Corruption { what: "an item without a head", offset: slot.offset() });
        };
        let stands = Header::of(header_cell.load());
        let header = Header { value_bytes: value.len() as u32, ..stands };
        if !segment.geometry.is_within_extent(slot.offset(), header.shape().bytes) {
            return Ok(false);
        }
        let checksum = match others {
            [cell, ..] if segment.checksums => {
                if cell.load() != self.checksum_of(stands, key, item) {
                    return Ok(false);
                }
                Some((cell, segment.checksum(header, None, key, value)))
            }
            _ => None,
        };
        let record = segment.redo(segment.geometry.stripe_of(hash))?;
        let stamp = self.stamp(held.session)?;
        // From here on nothing fails.
        if !mutated::<S>(Mutation::SkipRedoRecord) {
            record.stamp.store::<S>(0);
            // Pairs with the fence of a reader before it looks at the record's stamp again.
            fence(Ordering::Release);
            record.header.store::<S>(header.word());
            if let Some((_, checksum)) = checksum {
                record.checksum.store::<S>(checksum);
            }
            copy_in::<S>(value, &record.value);
            record.stamp.store::<S>(stamp);
        }
        held.arm_overwrite(segment.region.offset_of(slot_cell), slot);
        stamp_cell.store::<S>(Stamp::overwritten(stamp).0);
        // Pairs with the fence of a reader before it looks at the item's stamp again.
        fence(Ordering::Release);
        header_cell.store::<S>(header.word());
        if let Some((cell, checksum)) = checksum {
            cell.store::<S>(checksum);
        }
        copy_in::<S>(value, item.value);
        stamp_cell.store::<S>(stamp);
        held.record.disarm::<S>();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::index::search::search;
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

    #[test]
    fn a_refusal_waits_for_no_guard() {
        let (store, session) = store(false);
        put(&store, &session, KEY, &[2; 50]);
        wait(&store, &session);
        let other = store.open_session().expect("an entry");
        let _held = store.hold(&other, store.segment.hasher.hash(KEY)).expect("a guard");
        session.set_guard_deadline(std::time::Duration::from_millis(1));
        for condition in [Condition::Absent, Condition::Version(Version { stamp: 1, number: None })]
        {
            let refused = store.put(&session, KEY, &[3; 50], &PutOptions::new(), condition);
            assert!(matches!(refused, Ok(Outcome::Refused(Some(_)))), "{refused:?}");
        }
    }

    /// A damaged word must not take the place of the bit that says that an item is overwritten.
    #[test]
    fn stamps_have_no_highest_bit() {
        let (store, session) = store(false);
        let next_stamp = &store.segment.superblock().next_stamp;
        next_stamp.store::<Plain>(next_stamp.load() | 1 << 63);
        put(&store, &session, KEY, &[2; 50]);
        assert_eq!(store.get(KEY), Ok(Some(vec![2; 50])));
    }

    /// A slot that was damaged leads into the value of another item, which looks like an item that is being
    /// overwritten.
    #[test]
    fn a_repair_changes_nothing_that_a_damaged_slot_leads_into() {
        let (store, session) = store(false);
        let words = [-1_i64, 7].iter().cycle().take(60);
        let value: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        put(&store, &session, KEY, &value);
        put(&store, &session, b"another", &value);
        let hash = store.segment.hasher.hash(b"another");
        let found = search(&store.segment, b"another", hash).expect("a search").found;
        let cell = store.segment.slot_cell(found.expect("it stands").at).expect("a cell");
        // A word of the value that has the highest bit, after stamp, header and key.
        cell.store::<Plain>(cell.load() & !((1 << 38) - 1) | (slot_of(&store).unit() + 3));
        let options = crate::store::RepairOptions::new().max_loss(1);
        let report = store.repair(&session, &options, |_, _| {}).expect("a repair");
        assert_eq!((report.dropped, report.overwrites), (1, 0), "{report:?}");
        assert_eq!(store.get(KEY), Ok(Some(value)));
    }

    /// A length that was damaged, and a put of just that length: it must not reach into the next item.
    #[test]
    fn a_wrong_length_is_told_by_the_checksum() {
        let (store, session) = store(true);
        put(&store, &session, KEY, &[2; 8]);
        put(&store, &session, b"second", &[4; 8]);
        wait(&store, &session);
        let header = slot_of(&store).offset() + 8;
        let cell = store.segment.region.view::<Cell64>(header).expect("a header");
        cell.store::<Plain>(cell.load() ^ 64);
        put(&store, &session, KEY, &[3; 72]);
        assert_eq!(store.get(KEY), Ok(Some(vec![3; 72])));
        assert_eq!(store.get(b"second"), Ok(Some(vec![4; 8])));
    }

    /// A slot with a wrong bit of the hash, which a repair keeps, leads to what a dead writer left.
    #[test]
    fn a_repair_finishes_what_a_damaged_slot_leads_to() {
        let (store, session) = store(false);
        put(&store, &session, KEY, &[2; 40]);
        // Others that show where the hash bits come from.
        (0..8_u8).for_each(|other| put(&store, &session, &[other], &[1; 40]));
        let hash = store.segment.hasher.hash(KEY);
        let (slot, stripe) = (slot_of(&store), store.segment.geometry.stripe_of(hash));
        let record = store.segment.redo(stripe).expect("a record");
        let stamp = store.stamp(&session).expect("a stamp");
        let header = store.segment.header(slot.offset()).expect("a header");
        record.header.store::<Plain>(header.word());
        copy_in::<Plain>(&[3; 40], &record.value);
        record.stamp.store::<Plain>(stamp);
        let cell = store.segment.region.view::<Cell64>(slot.offset()).expect("a stamp");
        cell.store::<Plain>(Stamp::overwritten(stamp).0);
        let found = search(&store.segment, KEY, hash).expect("a search").found.expect("it stands");
        let slot_cell = store.segment.slot_cell(found.at).expect("a cell");
        slot_cell.store::<Plain>(slot.0 ^ 1 << 55);
        let options = crate::store::RepairOptions::new();
        let report = store.repair(&session, &options, |_, _| {}).expect("a repair");
        assert_eq!((report.overwrites, report.slots), (1, 1), "{report:?}");
        assert_eq!(store.get(KEY), Ok(Some(vec![3; 40])));
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
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
        let header = Header { value_bytes: 99, ..header };
        record.header.store::<Plain>(header.word());
        record.checksum.store::<Plain>(store.segment.checksum(header, None, KEY, &[3; 99]));
        copy_in::<Plain>(&[3; 99], &record.value);
        record.stamp.store::<Plain>(stamp);
        let held = store.hold(&session, hash).expect("a guard");
        let found = search(&store.segment, KEY, hash).expect("a search").found.expect("it stands");
        held.arm_overwrite(store.segment.slot_offset(found.at), found.slot);
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
