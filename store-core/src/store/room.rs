//! Room for what is put: where it comes from, and what is said if there is none.

use super::large::Size;
use super::{Session, Store};
use crate::arena::reserve::{self, Reach, Reserved};
use crate::arena::usage::{Usage, may_live};
use crate::arena::{NoRoom, quota};
use crate::error::{Corruption, Fullness, WriteError};
use crate::layout::Shelf;
use crate::region::Shim;

/// Rounds of cleaning and trying again before a put is refused.
const CLEANING_ROUNDS: u32 = 16;

/// How often a put that was refused looks again, because much is free all the same.
const FULL_AGAIN_MAX: u32 = 16;
/// Rounds in which less is gained than cleaning is worth otherwise.
const LAST_ROUNDS: u32 = 4;

impl<S: Shim> Store<S> {
    /// Room for an item, not for more than may live, where that is a limit. Nearly always it is in the
    /// open extent, or a free one.
    #[inline]
    pub(super) fn reserve(
        &self,
        session: &Session,
        bytes: u64,
        shelf: Shelf,
        limited: bool,
    ) -> Result<Reserved<'_, S>, WriteError> {
        self.assert_usable(session);
        // No room is made in what others have under its number.
        self.refuse_if_gone()?;
        self.grow_if_due(session);
        let lease = session.lease(self.group());
        match reserve::reserve(&self.segment, lease, (bytes, shelf), Reach::Own) {
            Ok(place) => Ok(place),
            Err(NoRoom::Corruption(error)) => Err(error.into()),
            Err(_) => self.reserve_in_need(session, bytes, shelf, limited),
        }
    }

    /// [`Store::reserve`] where there is none at once: extents are cleaned; if that gives none, the dead
    /// are reaped and some expired items deleted; in the end, any room in anybody's extent will do.
    #[cold]
    fn reserve_in_need(
        &self,
        session: &Session,
        bytes: u64,
        shelf: Shelf,
        limited: bool,
    ) -> Result<Reserved<'_, S>, WriteError> {
        let reserve =
            || self.until_unstuck(session, || self.reserve_once(session, (bytes, shelf), limited));
        for _ in 0..FULL_AGAIN_MAX {
            match reserve() {
                // Somebody made room, or had it for a moment only, while this one looked.
                Err(WriteError::Full(full)) if self.is_free_for_all(full.free) => {}
                other => return other,
            }
            std::thread::yield_now();
        }
        reserve()
    }

    /// Whether of free bytes there is an extent that is not kept for what others may take.
    fn is_free_for_all(&self, free: u64) -> bool {
        let kept = quota::kept_from(&self.segment, self.group()).unwrap_or(0);
        free >= u64::from(kept).saturating_add(1).saturating_mul(self.extent_bytes())
    }

    pub(super) fn extent_bytes(&self) -> u64 {
        self.segment.geometry.extent_bytes()
    }

    fn reserve_once(
        &self,
        session: &Session,
        (bytes, shelf): (u64, Shelf),
        limited: bool,
    ) -> Result<Reserved<'_, S>, WriteError> {
        let group = self.group();
        let lease = session.lease(group);
        let try_in = |reach| reserve::reserve(&self.segment, lease, (bytes, shelf), reach);
        let may_be_had =
            || Ok::<_, Corruption>(!limited || bytes <= may_live(&self.segment, self.group())?);
        let mut stuck = None;
        // Others may take what was cleaned, so the number of rounds is bounded, not fixed.
        for round in 0..CLEANING_ROUNDS {
            // What was cleaned may be in a destination only: the next victim would go there.
            let reach = if round == 0 || self.segment.evicts { Reach::Own } else { Reach::Any };
            match try_in(reach) {
                Ok(place) => return Ok(place),
                Err(NoRoom::Corruption(error)) => return Err(error.into()),
                Err(NoRoom::Full | NoRoom::Grow(_)) => {}
            }
            // Nothing is moved for what can't live in the end.
            if !may_be_had()? {
                if self.reap_in_need(session)? | self.sweep_in_need(session) {
                    continue;
                }
                break;
            }
            // What is moved may leave as much at the ends of extents as what goes gives.
            let urgent = round >= CLEANING_ROUNDS / 2 && self.segment.group_evicts(group);
            match self.clean_in_need(session, group, urgent) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error @ WriteError::Stuck { .. }) => {
                    stuck = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
            if !(self.reap_in_need(session)? | self.sweep_in_need(session)) {
                break;
            }
        }
        // For the sake of this item alone.
        let mut reach = Reach::Own;
        let at_last = || {
            let place = try_in(Reach::Last)?;
            // What else there is room for is not for everybody.
            lease.leave_open(&self.segment, shelf)?;
            Ok(place)
        };
        if stuck.is_none() && may_be_had()? {
            reach = Reach::Last;
            // In what others have open for such items first: they fill that, while what is kept stays.
            if !self.segment.evicts
                && let Ok(place) = try_in(Reach::Alike)
            {
                return Ok(place);
            }
            for _ in 0..LAST_ROUNDS {
                if let Ok(place) = at_last() {
                    return Ok(place);
                }
                if !self.clean_for(session, group, (bytes / 8) as u32, true)? {
                    break;
                }
            }
        }
        let place = if reach == Reach::Last { at_last() } else { try_in(reach) };
        place.map_err(|error| match (error, stuck) {
            (NoRoom::Full, Some(stuck)) => stuck,
            (error, _) => self.no_room(error, Size { head: bytes, large: None }),
        })
    }

    pub(super) fn no_room(&self, error: NoRoom, size: Size) -> WriteError {
        let bytes = size.bytes();
        if let (NoRoom::Full, Some(full)) = (&error, self.quota_full(bytes)) {
            return full;
        }
        match error {
            NoRoom::Grow(source) => WriteError::Grow { name: self.name.clone(), source },
            NoRoom::Corruption(error) => error.into(),
            NoRoom::Full => match self.fullness(bytes) {
                Ok(fullness) => WriteError::Full(Box::new(fullness)),
                Err(error) => error.into(),
            },
        }
    }

    fn fullness(&self, needed: u64) -> Result<Fullness, Corruption> {
        let usage = Usage::of(&self.segment)?;
        let limit = usage.live_limit(&self.segment, self.group())?.unwrap_or(u64::MAX);
        let largest = usage.largest_below(needed, self.segment.geometry.whole_bytes_max());
        Ok(Fullness {
            needed,
            live: usage.live_bytes,
            limit: limit.min(usage.capacity_bytes),
            dead: usage.dead_bytes,
            free: usage.free_bytes,
            reserve: usage.reserve_bytes,
            largest: largest.min(limit.saturating_sub(usage.live_bytes)),
            capacity: usage.capacity_bytes,
        })
    }
}
