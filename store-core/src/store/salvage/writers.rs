//! Who may be writing to a wreck.

use super::wreck::Wreck;
use crate::layout::ClientEntry;
use crate::recovery::state_of_entry;
use crate::sys::process::Liveness;

/// A table has no more entries.
const CLIENTS_MAX: u64 = 4095;

impl Wreck {
    /// The process ids of the clients that are registered for writing and not known to be dead, as far as the
    /// table of clients can be read. A few system calls for each.
    pub fn writers(&self) -> Vec<u32> {
        let Ok(superblock) = self.superblock() else { return Vec::new() };
        let count = superblock.clients_count.load().min(CLIENTS_MAX);
        let bytes = size_of::<ClientEntry>() as u64;
        let Some(table) = self.table(superblock.clients_offset.load(), count, bytes) else {
            return Vec::new();
        };
        let mut pids = Vec::new();
        for client in 0..count {
            let Ok(entry) = self.region.view::<ClientEntry>(table + client * bytes) else { break };
            let state = state_of_entry(&self.region, entry, client as u32);
            if state.is_some_and(|state: Liveness| !state.is_dead()) {
                pids.push(entry.word.load() as u32);
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether a process makes it or removes it at this moment, as its lock says.
    pub fn is_locked(&self) -> bool {
        let object = self.region.holder().object();
        object.is_some_and(|object| object.creator_at_work().unwrap_or(false))
    }
}
