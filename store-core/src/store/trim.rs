//! Giving memory that holds nothing back to the kernel, when somebody asks for it.

use super::{Session, Store};
use crate::arena::lease::can_be_claimed;
use crate::arena::trim::{NotTrimmed, trim};
use crate::error::WriteError;
use crate::region::Shim;
use crate::sys::object::Object;

/// What was given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// Extents that have no memory any more.
    pub extents: u32,
    /// Their bytes.
    pub bytes: u64,
}

impl<S: Shim> Store<S> {
    /// Gives the memory of free extents back to the kernel, from the end of the arena on, but for
    /// `keep` bytes of them and what cleaners need. The store takes it again as it grows, up to its
    /// maximum size. A system call for each extent; `progress` is told (done, all) in extents.
    ///
    /// Never done by itself: a reader that is stopped from before an extent became free until after
    /// it was given back touches what has no memory. It believes nothing of it, but takes a page
    /// again, and where the file system is full that is a SIGBUS.
    ///
    /// # Errors
    /// `Trim` if the kernel refuses; what was given back until then stays so.
    pub fn trim(
        &self,
        session: &Session,
        keep: u64,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Trimmed, WriteError> {
        self.assert_usable(session);
        if self.is_retired() {
            return Err(WriteError::Retired { name: self.name.clone() });
        }
        let segment = &self.segment;
        if segment.region.holder().object().is_some_and(Object::is_sealed) {
            return Err(WriteError::Trim { source: std::io::ErrorKind::Unsupported.into() });
        }
        let extent_bytes = segment.geometry.extent_bytes();
        let mut free = Vec::new();
        for extent in 0..segment.geometry.extents {
            if can_be_claimed(segment, extent)? {
                free.push(extent);
            }
        }
        let kept = keep.div_ceil(extent_bytes).saturating_add(segment.kept_extents().into());
        let all = (free.len() as u64).saturating_sub(kept);
        let mut trimmed = Trimmed::default();
        for (extent, done) in free.into_iter().rev().zip(0..all) {
            progress(done, all);
            let given = trim(segment, session.owner(), extent).map_err(|error| match error {
                NotTrimmed::Refused(source) => WriteError::Trim { source },
                NotTrimmed::Corruption(error) => error.into(),
            })?;
            if given {
                trimmed.extents += 1;
                trimmed.bytes += extent_bytes;
            }
        }
        Ok(trimmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, private_on_heap};

    fn fill(store: &Store<Plain>, session: &Session, turn: u8) {
        for key in 0..100_u32 {
            let (options, always) = (PutOptions::new(), Condition::Always);
            let put = store.put(session, &key.to_le_bytes(), &[turn; 1000], &options, always);
            put.expect("a put");
        }
    }

    #[test]
    fn generations_go_on_where_they_were() {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(200);
        let store: Store<Plain> = private_on_heap(&options, 7).expect("a store");
        let session = store.open_session().expect("an entry");
        let generation = |extent| store.segment.generation(extent).expect("a cell").load();
        let extents = store.segment.geometry.extents;
        let mut last = vec![0; extents as usize];
        let mut commissioned_anew = 0;
        for turn in 0..10 {
            fill(&store, &session, turn);
            for extent in 0..extents {
                let (before, now) = (last[extent as usize], generation(extent));
                assert!(now == 0 || now >= before, "{extent}: {before}, then {now}");
                commissioned_anew += u32::from(before > 1 && now > before);
                last[extent as usize] = before.max(now);
            }
            store.clear(&session).expect("a clear");
            let trimmed = store.trim(&session, 0, |_, _| {}).expect("trims");
            assert_eq!(trimmed.bytes, u64::from(trimmed.extents) * 4096);
            let stats = store.stats().expect("stats");
            // What cleaners need, and the rest of what the session has open.
            assert!(stats.extents_free <= store.segment.kept_extents() + 1, "{stats:?}");
            assert!(stats.extents_uncommissioned >= trimmed.extents && trimmed.extents > 20);
        }
        assert!(commissioned_anew > 100);
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    }

    #[test]
    fn what_is_to_be_kept_is() {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(200);
        let store: Store<Plain> = private_on_heap(&options, 7).expect("a store");
        let session = store.open_session().expect("an entry");
        let free = store.stats().expect("stats").extents_free;
        let mut told = Vec::new();
        let trimmed = store.trim(&session, 10 * 4096, |done, all| told.push((done, all)));
        let kept = 10 + store.segment.kept_extents();
        assert_eq!(trimmed.expect("trims").extents, free - kept);
        assert_eq!(told.len() as u32, free - kept);
        assert_eq!(store.stats().expect("stats").extents_free, kept);
        assert_eq!(store.trim(&session, u64::MAX, |_, _| {}).expect("trims"), Trimmed::default());
    }
}
