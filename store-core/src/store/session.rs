//! A writer's registration: its client entry, its open extent, its stamps.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::Store;
use super::ahead::Ahead;
use super::evict::Order;
use super::grow::Growth;
use super::listener::Listener;
use super::pace::Pace;
use super::tally::Tally;
use crate::arena::{Lease, pin};
use crate::error::{AttachError, Corruption};
use crate::layout::{ClientState, ClientWord, Stamp};
use crate::recovery::{Reaped, bequeath, reap, release, state_of};
use crate::region::Shim;
use crate::sync::{Owner, WaitLimit};
use crate::sys::presence::PresenceLock;
use crate::sys::process::{Liveness, ProcessId};
use crate::sys::use_count::UseCount;
use crate::sys::{clock, fork, process};

/// Stamps that are taken from the segment at once.
pub(super) const STAMP_BLOCK: u64 = 4096;

/// After so many puts in a row that found nothing to overwrite the next ones don't look for it first.
const FITS_REMEMBERED: u8 = 8;

/// How long a write waits for a guard unless told otherwise.
const GUARD_DEADLINE: Duration = Duration::from_secs(5);

/// A client's entry, and its lock.
type Registered = (Owner, Option<PresenceLock>);

/// One client of a store that writes. Used by all threads of a process; a forked child needs its
/// own ([`Session::is_of_this_process`]).
#[derive(Debug)]
pub struct Session {
    lease: Lease,
    /// Leases for the groups of namespaces that it writes to, made when they are needed.
    leases_of_groups: OnceLock<Box<[OnceLock<Lease>]>>,
    /// The last stamp given out; a multiple of the block size: none left.
    stamp: AtomicU64,
    /// Whether puts replace what they could overwrite where it stands: a hint, see [`Session::note_fit`].
    fits: AtomicU8,
    process_mark: u64,
    /// Address of the mapping that it belongs to.
    segment: usize,
    closed: AtomicBool,
    /// Tells others that this process has not executed another program.
    presence: Mutex<Option<PresenceLock>>,
    /// Where it is counted among the users of the guards' semaphores.
    pub(super) users: Mutex<Option<UseCount>>,
    guard_deadline_ms: AtomicU64,
    last_reap_ms: AtomicU64,
    /// The next bucket that this session sweeps.
    pub(super) sweep_position: AtomicU64,
    /// The next extent that it compares with others to choose what to clean.
    clean_position: AtomicU32,
    pub(super) growth: Growth,
    pub(super) tally: Arc<Tally>,
    /// Bytes of moving that puts owe and have not done yet.
    pub(super) cleaning_owed: AtomicU64,
    pub(super) pace: Pace,
    pub(super) ahead: Box<Ahead>,
    pub(super) eviction_order: Box<Order>,
    pub(super) listener: Box<Listener>,
}

impl Session {
    /// Whether the calling process is the one that opened the session: not after a fork. One load.
    #[inline]
    pub fn is_of_this_process(&self) -> bool {
        self.process_mark == fork::process_mark()
    }

    /// The last stamp that it gave out; 0: none yet.
    #[inline(always)]
    pub(super) fn last_stamp(&self) -> u64 {
        self.stamp.load(Ordering::Relaxed)
    }

    /// Whether one of the last puts replaced a value that could be overwritten where it stood.
    #[inline(always)]
    pub(super) fn expects_fit(&self) -> bool {
        self.fits.load(Ordering::Relaxed) > 0
    }

    /// Notes whether a put did: the next ones may be like it.
    #[inline(always)]
    pub(super) fn note_fit(&self, fits: bool) {
        let before = self.fits.load(Ordering::Relaxed);
        let now = if fits { FITS_REMEMBERED } else { before.saturating_sub(1) };
        if now != before {
            self.fits.store(now, Ordering::Relaxed);
        }
    }

    /// Where items of a group of namespaces are written to.
    #[inline]
    pub(super) fn lease(&self, group: u8) -> &Lease {
        if group == 0 { &self.lease } else { self.lease_of_group(group) }
    }

    fn lease_of_group(&self, group: u8) -> &Lease {
        let leases = self.leases_of_groups.get_or_init(|| {
            std::iter::repeat_with(OnceLock::new).take(usize::from(u8::MAX) + 1).collect()
        });
        leases[usize::from(group)].get_or_init(|| Lease::new(self.owner(), group))
    }

    /// Every lease that it has.
    fn leases(&self) -> impl Iterator<Item = &Lease> {
        let of_groups = self.leases_of_groups.get().into_iter().flatten();
        std::iter::once(&self.lease).chain(of_groups.filter_map(OnceLock::get))
    }

    /// Whether it was closed. One load.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn owner(&self) -> Owner {
        self.lease.owner()
    }

    #[inline(always)]
    pub(super) fn wait_limit(&self) -> WaitLimit {
        WaitLimit::For(Duration::from_millis(self.guard_deadline_ms.load(Ordering::Relaxed)))
    }

    /// Sets how long a write waits for a guard that a living process holds (5 s if never set).
    pub fn set_guard_deadline(&self, deadline: Duration) {
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.guard_deadline_ms.store(millis, Ordering::Relaxed);
    }

    /// Where to look for something to clean, in steps of `looked` extents.
    pub(super) fn next_candidates(&self, looked: u32) -> u32 {
        self.clean_position.fetch_add(looked, Ordering::Relaxed)
    }

    /// What its client has counted, for those who count lookups ([`Store::count_lookups`]).
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The number of its client entry, as `info` shows it.
    pub fn client(&self) -> u32 {
        self.owner().client
    }
}

impl<S: Shim> Store<S> {
    /// Registers this process as a client that writes. About ten system calls.
    ///
    /// # Errors
    /// `TooManyClients` if every entry belongs to a living process; `ForeignPidNamespace` if one of
    /// another PID namespace writes; `PermissionDenied` if the mapping is read-only. If the guards
    /// are System V semaphores also `ForeignGuards` and `GuardLimit`. `System` where `/proc` can't be
    /// read, as without a free descriptor, or a disk does not take what a file holds.
    pub fn open_session(&self) -> Result<Session, AttachError> {
        if !self.segment.region.writable() {
            let name = self.name.clone();
            return Err(AttachError::PermissionDenied { name, access: "writing" });
        }
        self.refuse_foreign_namespace()?;
        let users = self.open_guards()?;
        let (owner, presence) = self.register().inspect_err(|_| {
            if let Some(users) = users {
                self.close_guards(users);
            }
        })?;
        let session = Session {
            lease: Lease::new(owner, 0),
            leases_of_groups: OnceLock::new(),
            stamp: AtomicU64::new(0),
            fits: AtomicU8::new(FITS_REMEMBERED),
            process_mark: fork::process_mark(),
            segment: self.segment.region.address(),
            closed: AtomicBool::new(false),
            presence: Mutex::new(presence),
            users: Mutex::new(users),
            guard_deadline_ms: AtomicU64::new(GUARD_DEADLINE.as_millis() as u64),
            last_reap_ms: AtomicU64::new(0),
            sweep_position: AtomicU64::new(0),
            clean_position: AtomicU32::new(0),
            growth: Growth::new(),
            tally: Arc::new(Tally::new(owner.client)),
            cleaning_owed: AtomicU64::new(0),
            pace: Pace::default(),
            ahead: Box::default(),
            eviction_order: Box::default(),
            listener: Box::default(),
        };
        self.clear_clean_mark().inspect_err(|_| {
            // Else its entry would be taken as long as this process lives.
            let _ = self.close_session(&session);
        })?;
        self.open_reader_heat();
        Ok(session)
    }

    /// Processes of different PID namespaces can't tell whether the other one lives, so all that
    /// write are of one.
    fn refuse_foreign_namespace(&self) -> Result<(), AttachError> {
        let own = process::own_pid_namespace().map_err(self.no_process("stat"))?;
        for client in 0..self.segment.geometry.clients {
            let entry = self.segment.client(client)?;
            let word = ClientWord::of(entry.word.load());
            let filled = entry.identity_generation.load() == u64::from(word.generation);
            let theirs = entry.pid_namespace.load();
            if word.state == ClientState::Live && filled && theirs != own && theirs != 0 {
                // A client from before a reboot is of no namespace that still exists.
                if state_of(&self.segment, client).is_some_and(Liveness::is_dead) {
                    continue;
                }
                return Err(AttachError::ForeignPidNamespace {
                    name: self.name.clone(),
                    pid: word.pid,
                });
            }
        }
        Ok(())
    }

    fn no_process(&self, call: &'static str) -> impl FnOnce(io::Error) -> AttachError {
        let name = self.name.clone();
        move |source| AttachError::System { call, name, source }
    }

    /// Takes an entry that is free, or whose client is dead.
    fn register(&self) -> Result<Registered, AttachError> {
        let me = process::own_id().map_err(self.no_process("reading /proc/self/stat"))?;
        let registered = match self.register_free(&me)? {
            Some(registered) => Some(registered),
            None => self.register_dead(&me)?,
        };
        registered.ok_or_else(|| AttachError::TooManyClients {
            limit: self.segment.geometry.clients,
            name: self.name.clone(),
        })
    }

    /// Takes the first free client entry.
    fn register_free(&self, me: &ProcessId) -> Result<Option<Registered>, Corruption> {
        for client in 0..self.segment.geometry.clients {
            let found = self.segment.client(client)?.word.load_acquire();
            if ClientWord::of(found).state == ClientState::Free
                && let Some(registered) = self.register_at(client, found, me)?
            {
                return Ok(Some(registered));
            }
        }
        Ok(None)
    }

    /// Takes the first entry whose client is dead, and releases what that one held; or one that was
    /// freed since none was free: a reaper frees those of the dead.
    ///
    /// Dies before it is done: what still names the last client of the entry is of a generation
    /// that the entry does not have, so it counts as dead.
    fn register_dead(&self, me: &ProcessId) -> Result<Option<Registered>, Corruption> {
        for client in 0..self.segment.geometry.clients {
            let found = self.segment.client(client)?.word.load_acquire();
            let word = ClientWord::of(found);
            let is_free = word.state == ClientState::Free;
            if !is_free && !state_of(&self.segment, client).is_some_and(Liveness::is_dead) {
                continue;
            }
            if let Some(registered) = self.register_at(client, found, me)? {
                if is_free {
                    return Ok(Some(registered));
                }
                bequeath(&self.segment, client)?;
                let dead = Owner::new(client, word.generation);
                let mut reaped = Reaped::default();
                release(&self.segment, registered.0, dead, &mut reaped)?;
                return Ok(Some(registered));
            }
        }
        Ok(None)
    }

    /// Makes an entry, which has the word `found`, this process's; `None` if it has another by now.
    ///
    /// Dies after the compare-and-swap: the entry has the pid and no identity; it is reaped when
    /// nobody has that pid.
    fn register_at(
        &self,
        client: u32,
        found: u64,
        me: &ProcessId,
    ) -> Result<Option<Registered>, Corruption> {
        let entry = self.segment.client(client)?;
        let generation = ClientWord::of(found).generation.wrapping_add(1);
        let live = ClientWord { state: ClientState::Live, generation, pid: me.pid }.word();
        if entry.word.compare_exchange::<S>(found, live).is_err() {
            return Ok(None);
        }
        let generation = ClientWord::of(live).generation;
        let boot = clock::boot_id();
        // Without it (no object, or the last client's byte is locked by a child that it forked)
        // this process counts as alive until it ends.
        let object = self.segment.region.holder().object();
        let presence = object.and_then(|object| PresenceLock::take(object.as_fd(), client).ok());
        if presence.is_some() {
            entry.lock_generation.store::<S>(generation.into());
        }
        entry.start_time.store::<S>(me.start_time);
        entry.pid_namespace.store::<S>(me.pid_namespace);
        entry.boot_id[0].store::<S>(boot as u64);
        entry.boot_id[1].store::<S>((boot >> 64) as u64);
        entry.attached_unix_ms.store::<S>(clock::wall_ms());
        entry.identity_generation.store::<S>(generation.into());
        Ok(Some((Owner::new(client, generation), presence)))
    }

    /// Panics on a session that was closed, is of another store or, after a fork, of another
    /// process: its owner word names somebody else, and guards would be robbed.
    #[inline]
    pub(super) fn assert_usable(&self, session: &Session) {
        assert!(
            session.segment == self.segment.region.address()
                && !session.closed.load(Ordering::Relaxed)
                && session.is_of_this_process(),
            "a session is used with another store, after it was closed, or after a fork"
        );
    }

    /// Ends a session: hands its open extent on and frees its entry. In a forked child it does
    /// nothing, since the session is the parent's.
    ///
    /// # Errors
    /// `Corruption` where the segment's bytes make no sense; the entry is then left to the reaper.
    pub fn close_session(&self, session: &Session) -> Result<(), Corruption> {
        if !session.is_of_this_process()
            || session.segment != self.segment.region.address()
            || session.closed.swap(true, Ordering::Relaxed)
        {
            return Ok(());
        }
        self.reap_before_mark(session)?;
        for lease in session.leases() {
            lease.close(&self.segment)?;
        }
        pin::release(&self.segment, session.owner())?;
        self.tell(&session.tally)?;
        bequeath(&self.segment, session.owner().client)?;
        let entry = self.segment.client(session.owner().client)?;
        let found = entry.word.load_acquire();
        let word = ClientWord::of(found);
        let mine = word.generation & Owner::GENERATION_MASK == session.owner().generation;
        if word.state == ClientState::Live && mine {
            let free = ClientWord { state: ClientState::Free, pid: 0, ..word };
            let _ = entry.word.compare_exchange::<S>(found, free.word());
        }
        // Behind the entry: who finds the byte free finds that entry.
        session.presence.lock().take();
        if let Some(users) = session.users.lock().take() {
            self.close_guards(users);
        }
        self.set_clean_mark()
    }

    /// Reaps the dead: repairs and gives back the guards that they held, hands their extents on,
    /// frees their entries. A few system calls for each client entry that is taken; of System V and
    /// anonymous memory the list of its process's mappings is read, about 0.1 ms.
    ///
    /// # Errors
    /// `Corruption` where the segment's bytes make no sense.
    pub fn reap(&self, session: &Session) -> Result<Reaped, Corruption> {
        self.assert_usable(session);
        reap(&self.segment, session.owner())
    }

    /// [`Store::reap`] for a writer in need, at most ten times a second.
    pub(super) fn reap_in_need(&self, session: &Session) -> Result<bool, Corruption> {
        let now = clock::monotonic_coarse_ms();
        let last = session.last_reap_ms.load(Ordering::Relaxed);
        if now.wrapping_sub(last) < 100 {
            return Ok(false);
        }
        session.last_reap_ms.store(now, Ordering::Relaxed);
        let reaped = reap(&self.segment, session.owner())?;
        Ok(reaped.extents > 0)
    }

    /// A stamp that no other item of the segment has or will have.
    #[inline(always)]
    pub(super) fn stamp(&self, session: &Session) -> Result<u64, Corruption> {
        let mut last = session.stamp.load(Ordering::Relaxed);
        loop {
            let next = if last.is_multiple_of(STAMP_BLOCK) {
                // Dies after it: a block of numbers is never used.
                let block = self.segment.superblock().next_stamp.fetch_add::<S>(STAMP_BLOCK);
                // The highest bit is none of the number.
                Stamp(block).number() / STAMP_BLOCK * STAMP_BLOCK + 1
            } else {
                last.wrapping_add(1)
            };
            // Of two threads that lease a block at once one wastes its block.
            match session.stamp.compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(next),
                Err(now) => last = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::private_on_heap;

    #[test]
    fn an_entry_that_was_freed_after_none_was_free_is_taken() {
        let store: Store<Plain> =
            private_on_heap(&CreateOptions::new(1 << 20), 3).expect("a store");
        let me = process::own_id().expect("/proc is there");
        // As if a reaper had just freed all that this process found taken.
        let registered = store.register_dead(&me).expect("the table is whole");
        assert_eq!(registered.map(|(owner, _)| owner.client), Some(0));
    }
}
