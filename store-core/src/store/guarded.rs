//! What is done under a stripe's guard: taking it, repairing what a dead holder left, publishing an
//! item by one store of its slot, unpublishing one.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::listener::Cause;
use super::{Session, Store, Version};
use crate::arena::{Place, retire};
use crate::error::{AttachError, Corruption, WriteError};
use crate::index::search::{Search, Standing};
use crate::index::{CHAIN_LINES_MAX, change, filter, overflow};
use crate::layout::{Intent, IntentKind, LINK_LANE, Segment, Slot, Stripe, TagWord, flags};
use crate::recovery::{is_dead, repair_stripe};
use crate::region::{Mutation, Shim, mutated};
use crate::sync::{Acquired, Guard, Refused, WaitLimit};

/// A stripe's guard, given back when dropped.
pub(super) struct Held<'a, S: Shim> {
    segment: &'a Segment<S>,
    guard: Guard<'a>,
    pub(super) record: &'a Stripe,
    pub(super) session: &'a Session,
}

impl<S: Shim> Drop for Held<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        self.guard.release::<S>();
    }
}

/// The item that has a key, which has not expired, as it stands under the guard.
#[derive(Clone, Copy)]
pub(super) struct Present {
    pub(super) standing: Standing,
    pub(super) version: Version,
}

impl<S: Shim> Held<'_, S> {
    /// Sets the stripe's count, and notes now and then that the index may have to grow.
    pub(super) fn count_items(&self, items: u64) {
        let near = &self.segment.superblock().items_near;
        if self.record.count_items::<S>(items, near, self.segment.geometry.counted_step()) {
            self.session.growth.due.store(true, Ordering::Relaxed);
        }
    }

    /// Arms the intent to put `new` in the place of an item, whose pieces go with it if it has some.
    pub(super) fn arm_swap(&self, standing: &Standing, new: Slot) {
        self.arm(standing, new, standing.header.has(flags::LARGE));
    }

    /// Arms the intent to move an item, which keeps its pieces.
    pub(super) fn arm_move(&self, standing: &Standing, new: Slot) {
        self.arm(standing, new, false);
    }

    /// Arms the intent to overwrite the item of the slot at offset `cell` where it stands.
    pub(super) fn arm_overwrite(&self, cell: u64, slot: Slot) {
        self.record.arm::<S>(&Intent {
            kind: IntentKind::Overwrite,
            items_before: self.record.items.load(),
            cell,
            old: slot,
            new: slot,
            line: 0,
        });
    }

    fn arm(&self, standing: &Standing, new: Slot, with_pieces: bool) {
        self.record.arm::<S>(&Intent {
            kind: IntentKind::Swap,
            items_before: self.record.items.load(),
            cell: self.segment.slot_offset(standing.at),
            old: standing.slot,
            new,
            line: with_pieces.into(),
        });
    }
}

impl<S: Shim> Store<S> {
    /// Takes the guard of the stripe of `hash` (or of a bucket), and repairs what a dead holder
    /// left.
    #[inline]
    pub(super) fn hold<'a>(
        &'a self,
        session: &'a Session,
        hash: u64,
    ) -> Result<Held<'a, S>, WriteError> {
        let held = self.hold_within(session, hash, session.wait_limit())?;
        // Under the guard: whoever removes a namespace passes each of them before it is gone.
        if self.segment.namespace_stands() { Ok(held) } else { Err(self.namespace_gone()) }
    }

    /// Refuses what is to be done in a namespace that was removed.
    #[inline]
    pub(super) fn refuse_if_gone(&self) -> Result<(), WriteError> {
        if self.segment.namespace_stands() { Ok(()) } else { Err(self.namespace_gone()) }
    }

    #[cold]
    fn namespace_gone(&self) -> WriteError {
        WriteError::NamespaceGone { namespace: self.namespace_name() }
    }

    /// [`Store::hold`] with a limit of its own.
    #[inline]
    pub(super) fn hold_within<'a>(
        &'a self,
        session: &'a Session,
        hash: u64,
        limit: WaitLimit,
    ) -> Result<Held<'a, S>, WriteError> {
        match self.hold_at_once(session, hash) {
            Some(held) => Ok(held),
            None => self.hold_waiting(session, hash, limit),
        }
    }

    /// Takes the guard of the stripe of `hash` where that is one compare-and-swap: it is free, no semaphore,
    /// and left in order. `None` says nothing: [`Store::hold_within`] finds out.
    #[inline(always)]
    pub(super) fn hold_at_once<'a>(
        &'a self,
        session: &'a Session,
        hash: u64,
    ) -> Option<Held<'a, S>> {
        self.assert_usable(session);
        let segment = &self.segment;
        let stripe = segment.geometry.stripe_of(hash);
        let record = segment.stripe(stripe).ok()?;
        let guard = segment.stripe_guard(stripe, record);
        if self.is_retired() || !guard.acquire_if_free::<S>(session.owner()) {
            return None;
        }
        if record.armed() {
            guard.release::<S>();
            return None;
        }
        Some(Held { segment, guard, record, session })
    }

    /// [`Store::hold_within`] where the guard can't be had at once.
    #[cold]
    #[inline(never)]
    fn hold_waiting<'a>(
        &'a self,
        session: &'a Session,
        hash: u64,
        limit: WaitLimit,
    ) -> Result<Held<'a, S>, WriteError> {
        if self.is_retired() {
            return Err(WriteError::Retired { name: self.name.clone() });
        }
        let segment = &self.segment;
        let stripe = segment.geometry.stripe_of(hash);
        let record = segment.stripe(stripe)?;
        let (guard, acquired) =
            self.acquire(session, limit, || segment.stripe_guard(stripe, record))?;
        let held = Held { segment, guard, record, session };
        // An intent without a dead holder: somebody met corruption halfway and gave up.
        if acquired == Acquired::TakenOver || record.armed() {
            repair_stripe(segment, stripe)?;
        }
        Ok(held)
    }

    /// Takes a guard. If the semaphores were removed, they are made anew, and it is tried again.
    pub(super) fn acquire<'a>(
        &'a self,
        session: &Session,
        limit: WaitLimit,
        guard: impl Fn() -> Guard<'a>,
    ) -> Result<(Guard<'a>, Acquired), WriteError> {
        let segment = &self.segment;
        let acquire = || {
            let guard = guard();
            guard
                .acquire::<S>(session.owner(), limit, |owner| is_dead(segment, owner))
                .map(|acquired| (guard, acquired))
        };
        acquire().or_else(|refused| {
            if matches!(&refused, Refused::Semaphore(source) if is_gone(source)) {
                self.renew_guards(session)?;
                return acquire().map_err(|refused| self.no_guard(refused));
            }
            Err(self.no_guard(refused))
        })
    }

    /// Does `attempt` again, as long as a guard that somebody holds was in its way, until the
    /// session's deadline. An attempt may wait for less.
    pub(super) fn until_unstuck<T>(
        &self,
        session: &Session,
        mut attempt: impl FnMut() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let mut start = None;
        loop {
            let stuck = attempt();
            let Err(WriteError::Stuck { pid, waited }) = stuck else { return stuck };
            let waited = match start {
                None => waited,
                Some((start, before)) => before + Instant::elapsed(&start),
            };
            start.get_or_insert_with(|| (Instant::now(), waited));
            if !session.wait_limit().is_longer_than(waited) {
                return Err(WriteError::Stuck { pid, waited });
            }
            std::thread::yield_now();
        }
    }

    /// What it means that a guard could not be had.
    #[cold]
    pub(super) fn no_guard(&self, refused: Refused) -> WriteError {
        match refused {
            Refused::Blocked { holder, waited } => {
                WriteError::Stuck { pid: self.pid_of(holder.client), waited }
            }
            // Whoever destroys a store removes its semaphores.
            Refused::Semaphore(_) if self.is_retired() => {
                WriteError::Retired { name: self.name.clone() }
            }
            Refused::Semaphore(source) if is_gone(&source) => {
                let name = self.name.clone();
                let source = AttachError::System { call: "semop", name: name.clone(), source };
                WriteError::GuardsRemoved { name, source: Box::new(source) }
            }
            Refused::Semaphore(source) => match source.raw_os_error() {
                Some(libc::EACCES) => WriteError::GuardsDenied { name: self.name.clone() },
                _ => WriteError::Guard { name: self.name.clone(), source },
            },
        }
    }

    /// What stands under the key that was searched, if it has not expired.
    pub(super) fn present(&self, found: &Search) -> Result<Option<Present>, Corruption> {
        let Some(standing) = found.found else { return Ok(None) };
        let item = standing.slot.offset();
        if self.is_expired(item, standing.header)? {
            return Ok(None);
        }
        let stamp = self.segment.stamp(item)?.number();
        let number = self.number(item, standing.header)?;
        Ok(Some(Present { standing, version: Version { stamp, number } }))
    }

    /// Makes the item at `place` the one of its key: one store of the slot.
    pub(super) fn publish(
        &self,
        held: &Held<'_, S>,
        found: &Search,
        hash: u64,
        place: Place,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let shift = segment.geometry.slot_hash_shift;
        let new = Slot::of_item(place.offset, place.generation, hash, shift);
        let tag = TagWord::tag_of(hash);
        let items = held.record.items.load();
        let late = mutated::<S>(Mutation::SlotBeforeFilter);
        // Dies behind this: bits of an item that is not there, until the next removal.
        if !late {
            segment.filter.add::<S>(hash);
        }
        match (found.found, found.free) {
            (Some(standing), _) => {
                held.arm_swap(&standing, new);
                change::overwrite(segment, standing.at, new)?;
                // Dies before: the old item's extent counts too much; the intent tells.
                retire::retire(segment, standing.slot)?;
            }
            (None, Some(at)) => {
                held.record.arm::<S>(&Intent {
                    kind: IntentKind::Swap,
                    items_before: items,
                    cell: segment.slot_offset(at),
                    old: Slot::EMPTY,
                    new,
                    line: 0,
                });
                change::insert(segment, at, new, tag)?;
                held.count_items(items.wrapping_add(1));
                self.count_namespaced(segment.namespace, 1);
            }
            (None, None) => {
                let room = found.lines < CHAIN_LINES_MAX;
                let linked = if room {
                    overflow::link(segment, held.record, found.bucket, found.tail, new, tag)?
                } else {
                    None
                };
                if room && linked.is_none_or(|taken| taken.crowded) {
                    held.session.growth.crowded.store(true, Ordering::Relaxed);
                }
                if linked.is_none() {
                    return Err(WriteError::IndexFull {
                        items: self.len(),
                        buckets: segment.index_size().buckets(),
                    });
                }
                held.count_items(items.wrapping_add(1));
                self.count_namespaced(segment.namespace, 1);
            }
        }
        if late {
            segment.filter.add::<S>(hash);
        }
        held.record.disarm::<S>();
        Ok(())
    }

    /// Notes that the item which another one is about to replace has expired, if it has.
    pub(super) fn note_if_expired(
        &self,
        held: &Held<'_, S>,
        found: &Search,
        present: Option<&Present>,
    ) -> Result<(), Corruption> {
        match (found.found, present) {
            (Some(standing), None) => {
                let item = (standing.slot.offset(), standing.header);
                self.count_expired(standing.header.namespace);
                self.note_gone(held.session, item, Cause::Expired)
            }
            _ => Ok(()),
        }
    }

    /// [`Store::remove`] of an item whose time is over.
    pub(super) fn remove_expired(
        &self,
        held: &Held<'_, S>,
        standing: &Standing,
    ) -> Result<(), Corruption> {
        let item = (standing.slot.offset(), standing.header);
        self.note_gone(held.session, item, Cause::Expired)?;
        self.count_expired(standing.header.namespace);
        self.remove(held, standing)
    }

    /// Unpublishes an item and gives its bytes back.
    pub(super) fn remove(&self, held: &Held<'_, S>, standing: &Standing) -> Result<(), Corruption> {
        let segment = &self.segment;
        let items = held.record.items.load();
        held.arm_swap(standing, Slot::EMPTY);
        change::remove(segment, standing.at)?;
        held.count_items(items.saturating_sub(1));
        self.count_namespaced(standing.header.namespace, 1_u64.wrapping_neg());
        retire::retire(segment, standing.slot)?;
        held.record.disarm::<S>();
        let bucket = segment.bucket_of_line(standing.at.line)?;
        if segment.line(segment.bucket_line(bucket)?)?.slot(LINK_LANE).is_link() {
            overflow::shorten(segment, held.record, bucket)?;
        }
        filter::renew(segment, bucket);
        Ok(())
    }
}

/// Whether a set of semaphores was removed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIDRM | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, Outcome, PutOptions, private_on_heap};

    /// Half of a full store is dead, and the guards of what lives in it are held for a while.
    #[test]
    fn a_put_waits_for_the_room_that_guards_hold_back() {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(800);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        let other = store.open_session().expect("another entry");
        let put = |key: u32| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &[7; 200], &options, always)
        };
        let mut keys = 0;
        while put(keys).is_ok() {
            keys += 1;
        }
        for key in (0..keys).step_by(2) {
            store.delete(&session, &key.to_le_bytes()).expect("a delete");
        }
        let hold_all = || -> Vec<_> {
            let stripes = 0..u64::from(store.segment.geometry.stripes);
            stripes.map(|stripe| store.hold(&other, stripe).expect("it is free")).collect()
        };
        let held = hold_all();
        let deadline = Duration::from_millis(50);
        session.set_guard_deadline(deadline);
        let refused = put(keys);
        assert!(
            matches!(refused, Err(WriteError::Stuck { waited, .. }) if waited >= deadline),
            "{refused:?}"
        );
        session.set_guard_deadline(Duration::from_secs(60));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| put(keys));
            std::thread::sleep(2 * deadline);
            drop(held);
            let done = writer.join().expect("no panic");
            assert!(matches!(done, Ok(Outcome::Inserted)), "{done:?}");
        });
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    }
}
