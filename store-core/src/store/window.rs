//! Room for an item that is larger than an extent, where no neighbouring extents are free: the
//! window of extents with the least in them is emptied.

use super::{Session, Store};
use crate::arena::lease::{can_be_claimed, claim, reserve_stands};
use crate::arena::reserve::Reserved;
use crate::arena::{InFlight, quota, run};
use crate::error::{Corruption, WriteError};
use crate::layout::{ExtentState, Stream};
use crate::region::Shim;

/// Windows that are tried before it is said that there is no room.
const WINDOWS_MAX: usize = 8;
/// Extents that are emptied elsewhere to have room for what lives in a window: so many, or four for
/// each extent of the item.
const EMPTIED_MIN: u32 = 64;
const EMPTIED_FACTOR: u32 = 4;
/// How often an extent is emptied before it is left to those who take it each time.
const ATTEMPTS_MAX: u32 = 3;

impl<S: Shim> Store<S> {
    /// Reserves `bytes`, which are more than an extent has; `None` if no window can be emptied.
    /// Moves at most what the window holds, and what makes room for that.
    pub(super) fn reserve_window(
        &self,
        session: &Session,
        (bytes, stream): (u64, Stream),
    ) -> Result<Option<Reserved<'_, S>>, WriteError> {
        let segment = &self.segment;
        let Some(count) = run::extents_for(segment, bytes) else { return Ok(None) };
        if quota::left(segment, stream.group)?.is_some_and(|left| left < count) {
            return Ok(None);
        }
        let mut failed = Vec::new();
        while failed.len() < WINDOWS_MAX {
            let Some(head) = self.window_with_room(session, stream.group, count, &failed)? else {
                return Ok(None);
            };
            let mut claimed = 0;
            let result = loop {
                if claimed == count {
                    break reserve_stands(segment).map_err(WriteError::from);
                }
                match self.claim_emptied(session, head + claimed) {
                    Ok(true) => claimed += 1,
                    other => break other,
                }
            };
            if matches!(result, Ok(true)) {
                let in_flight = InFlight::begin(segment, session.owner())?;
                let place = run::occupy(segment, session.owner(), head, (bytes, stream))?;
                return Ok(Some(Reserved::new(place, in_flight)));
            }
            run::give_back(segment, head, claimed)?;
            result?;
            failed.push(head + claimed.min(count - 1));
        }
        Ok(None)
    }

    /// The window with the least in it, once there is room for that elsewhere.
    fn window_with_room(
        &self,
        session: &Session,
        group: u8,
        count: u32,
        failed: &[u32],
    ) -> Result<Option<u32>, WriteError> {
        let geometry = &self.segment.geometry;
        for _ in 0..count.saturating_mul(EMPTIED_FACTOR).max(EMPTIED_MIN) {
            let Some((head, live)) = self.emptiest_window(group, count, failed)? else {
                return Ok(None);
            };
            let window = head..head + count;
            let mut free = 0;
            for extent in (0..geometry.extents).filter(|extent| !window.contains(extent)) {
                free += u64::from(self.is_free(extent)?);
            }
            // Items that don't fill an extent leave up to half of it.
            let needed = (2 * live).div_ceil(u64::from(geometry.extent_units()));
            if free >= needed + u64::from(geometry.cleaners()) {
                return Ok(Some(head));
            }
            if !self.clean_in_need(session, group, count)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn is_free(&self, extent: u32) -> Result<bool, Corruption> {
        can_be_claimed(&self.segment, extent)
    }

    /// The first extent of the window with the least live units, and how many; without those that
    /// can't be emptied.
    fn emptiest_window(
        &self,
        group: u8,
        count: u32,
        failed: &[u32],
    ) -> Result<Option<(u32, u64)>, Corruption> {
        let mut best = None;
        let (mut row, mut live) = (0, 0);
        let mut units = Vec::new();
        for extent in 0..self.segment.geometry.extents {
            let word = self.segment.extent_word(extent)?;
            // The end of another large value stays where it is.
            let emptied = matches!(word.state, ExtentState::Open | ExtentState::Sealed)
                && run::tail_units(&self.segment, extent)? == 0
                // What can't be moved out of a cache goes.
                && (!self.segment.evicts || self.segment.stream(extent)?.group == group)
                || self.is_free(extent)?;
            units.push(u64::from(word.live));
            if !emptied || failed.contains(&extent) {
                (row, live) = (0, 0);
                continue;
            }
            row += 1;
            live += u64::from(word.live);
            if row > count {
                live -= units[(extent - count) as usize];
            }
            if row >= count && best.is_none_or(|(_, least)| live < least) {
                best = Some((extent + 1 - count, live));
            }
        }
        Ok(best)
    }

    /// Claims an extent, emptied first if it has to be.
    fn claim_emptied(&self, session: &Session, extent: u32) -> Result<bool, WriteError> {
        for _ in 0..ATTEMPTS_MAX {
            if self.is_free(extent)? {
                return Ok(claim(&self.segment, extent, session.owner())?);
            }
            if !self.empty_extent(session, extent)? {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, Store, private_on_heap};

    #[test]
    fn a_store_of_large_values_grows_to_its_largest_size() {
        let options = CreateOptions::new(256 << 10).max_size(4 << 20).extent_size(4 << 10);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        let mut keys = 0_u32;
        let put = |key: u32| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &[5; 18_000], &options, always)
        };
        while put(keys).is_ok() {
            keys += 1;
        }
        assert!(keys * 20 > 4000 * 9 / 10, "{keys}");
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    }

    /// Small items everywhere, every second one deleted: no two neighbouring extents are free, and
    /// half of the memory is.
    #[test]
    fn neighbours_are_emptied_for_a_large_value() {
        let options = CreateOptions::new(1 << 20).extent_size(4 << 10).items(4000);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        let put = |key: u32, value: &[u8]| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), value, &options, always)
        };
        let small = |key: u32| vec![key as u8; 200 + key as usize % 100];
        let mut keys = 0;
        while put(keys, &small(keys)).is_ok() {
            keys += 1;
        }
        for key in (0..keys).step_by(2) {
            store.delete(&session, &key.to_le_bytes()).expect("a delete");
        }
        // A tenth of the arena each, and all of them together a good part of what was deleted.
        let large: Vec<u8> = (0..80_000_u32).map(|i| (i * 7) as u8).collect();
        for key in 0..3 {
            put(1 << 20 | key, &large).expect("room can be made");
        }
        for key in (1..keys).step_by(2) {
            assert_eq!(store.get(&key.to_le_bytes()), Ok(Some(small(key))), "{key}");
        }
        for key in 0..3_u32 {
            let key = (1 << 20 | key).to_le_bytes();
            assert_eq!(store.get(&key).as_ref(), Ok(&Some(large.clone())));
        }
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    }
}
