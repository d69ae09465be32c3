//! The mark of a clean shutdown, for stores on a disk.
//!
//! When the machine goes down, the kernel may have written some of a file's pages and not others.
//! So a file is believed after a reboot only if its last writer closed it: the mark is set when
//! everything is on the disk, and cleared, on the disk too, before the next writer stores anything.
//!
//! The clean word also counts the writers that opened. Whoever closes reads it first, then sees
//! that no client is left, syncs, and sets the mark by a compare-and-swap: it fails if a writer
//! opened meanwhile.

use super::attach::CREATION_DEADLINE;
use super::{Session, Store};
use crate::error::{AttachError, Corruption};
use crate::layout::{CLEAN, CLEAN_WRITER, ClientState, ClientWord};
use crate::recovery::{bequeath, reap};
use crate::region::Shim;
use crate::sys::clock;
use crate::sys::object::Object;

impl<S: Shim> Store<S> {
    /// The file, if the store is on a disk.
    fn file(&self) -> Option<&Object> {
        self.segment.region.holder().object().filter(|object| object.is_on_disk())
    }

    /// A store of an earlier boot is let in if it was closed cleanly. Whoever may write renews
    /// its clock and its boot id; the clients of that boot are gone.
    ///
    /// # Errors
    /// `UncleanReboot`; `System` if somebody holds the file's lock for 2 s.
    pub(super) fn admit_after_reboot(&self) -> Result<(), AttachError> {
        let Some(file) = self.file() else { return Ok(()) };
        if self.is_of_this_boot() {
            return Ok(());
        }
        let superblock = self.segment.superblock();
        let refused = || AttachError::UncleanReboot { name: self.name.clone() };
        let is_clean = || superblock.clean.load() & CLEAN != 0 && clock::boot_id() != 0;
        if !is_clean() {
            return Err(refused());
        }
        if !self.is_writable() {
            return Ok(());
        }
        let _lock = file.lock(CREATION_DEADLINE).map_err(|source| AttachError::System {
            call: "flock",
            name: self.name.clone(),
            source,
        })?;
        if self.is_of_this_boot() {
            return Ok(());
        }
        if !is_clean() {
            return Err(refused());
        }
        for client in 0..self.segment.geometry.clients {
            let entry = self.segment.client(client)?;
            let word = ClientWord::of(entry.word.load());
            if word.state != ClientState::Free {
                bequeath(&self.segment, client)?;
                let free = ClientWord { state: ClientState::Free, pid: 0, ..word };
                entry.word.store::<S>(free.word());
            }
        }
        // The semaphores of that boot are gone.
        superblock.guard_set.store::<S>(0);
        // Dies before the boot id: the next one does all this again.
        let boot = clock::boot_id();
        superblock.clock_offset_ms.store::<S>(self.clock_offset_ms);
        superblock.boot_id[0].store::<S>(boot as u64);
        superblock.boot_id[1].store::<S>((boot >> 64) as u64);
        Ok(())
    }

    fn is_of_this_boot(&self) -> bool {
        let superblock = self.segment.superblock();
        let boot = clock::boot_id();
        superblock.boot_id[0].load() == boot as u64
            && superblock.boot_id[1].load() == (boot >> 64) as u64
    }

    /// Clears the mark, for a writer that has registered and stored nothing else yet. One
    /// `fdatasync` if it was set.
    ///
    /// # Errors
    /// `System` if the disk does not take it.
    pub(super) fn clear_clean_mark(&self) -> Result<(), AttachError> {
        let Some(file) = self.file() else { return Ok(()) };
        let clean = &self.segment.superblock().clean;
        let mut found = clean.load_acquire();
        loop {
            let open = (found & !CLEAN).wrapping_add(CLEAN_WRITER);
            match clean.compare_exchange::<S>(found, open) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        if found & CLEAN == 0 {
            return Ok(());
        }
        file.sync().map_err(|source| AttachError::System {
            call: "fdatasync",
            name: self.name.clone(),
            source,
        })
    }

    /// Reaps the dead, so that they don't keep the mark from being set.
    pub(super) fn reap_before_mark(&self, session: &Session) -> Result<(), Corruption> {
        if self.file().is_some() {
            reap(&self.segment, session.owner())?;
        }
        Ok(())
    }

    /// Sets the mark if no writer is left, after all is on the disk: one `fdatasync`; where it fails
    /// the store stays unmarked. The mark itself goes to the disk when the kernel likes, or at the
    /// orderly end of the machine; until then the file counts as not closed.
    pub(super) fn set_clean_mark(&self) -> Result<(), Corruption> {
        let Some(file) = self.file() else { return Ok(()) };
        let clean = &self.segment.superblock().clean;
        let found = clean.load_acquire();
        for client in 0..self.segment.geometry.clients {
            let word = ClientWord::of(self.segment.client(client)?.word.load_acquire());
            if word.state != ClientState::Free {
                return Ok(());
            }
        }
        if self.is_retired() {
            return Ok(());
        }
        // On the disk with the rest. Dies before the mark: nobody believes it.
        self.segment.superblock().closed_ms.store::<S>(self.now_ms());
        if file.sync().is_ok() {
            // It fails if a writer opened meanwhile, whose turn it is then.
            let _ = clean.compare_exchange::<S>(found, found | CLEAN);
        }
        Ok(())
    }
}
