//! The semaphores of a store whose guards are System V semaphores: making, finding, removing them.
//!
//! A set is made whole before its id is stored, by a compare-and-swap, in the superblock. The words
//! of the guards decide who holds them, so it does no harm to make a set anew: for a store that
//! came through a reboot, or whose set somebody removed. A set counts the clients that use it, so
//! that one which nobody uses can be told and removed.

use std::io;

use super::{Session, Store};
use crate::config::GuardKind;
use crate::error::{AttachError, Corruption, WriteError};
use crate::layout::{
    CLEANERS_MAX, FEATURE_OTHER_GUARD, GUARD_FUTEX, GUARD_SYSTEM_V, GuardSetWord, Superblock,
};
use crate::recovery::state_of;
use crate::region::{Region, Shim};
use crate::sys::clock;
use crate::sys::holder::Backing;
use crate::sys::process::own_ipc_namespace;
use crate::sys::semaphore::{self, ListedSet, SemaphoreSet, VALUE_MAX};
use crate::sys::use_count::UseCount;

/// Semaphores behind those of the guards: what tells the store that a set is of. The first one has
/// [`MARK`], the others 15 bits each of the store's id.
const IDENTITY: usize = 10;
/// `CI`.
const MARK: u16 = 0x4349;
/// Behind those: the one that counts the clients.
const USERS: usize = 1;

/// How often a set may be removed by others while a client comes.
const ATTEMPTS: u32 = 16;

impl<S: Shim> Store<S> {
    /// The kind of its guards.
    pub(super) fn guard_kind(&self) -> GuardKind {
        kind_of(self.segment.superblock())
    }

    /// Finds the semaphores of the guards, or makes them, and counts this client among those who use
    /// them, if the guards are of that kind. Of a private store they are not, whatever its bytes
    /// say.
    ///
    /// # Errors
    /// `ForeignGuards`; `GuardLimit`; `PermissionDenied`; `System`; `Corruption` for a kind that
    /// there is not.
    pub(super) fn open_guards(&self) -> Result<Option<UseCount>, AttachError> {
        if self.segment.region.holder().backing() == Backing::Private {
            return Ok(None);
        }
        let superblock = self.segment.superblock();
        let kind = superblock.guard_kind.load();
        let other = superblock.features_to_write.load() & FEATURE_OTHER_GUARD != 0;
        match (other, kind) {
            (false, GUARD_FUTEX) => return Ok(None),
            (true, GUARD_SYSTEM_V) => {}
            _ => return Err(Corruption { what: "the kind of the guards", offset: 72 }.into()),
        }
        for _ in 0..ATTEMPTS {
            let set = self.find_or_make_set()?;
            let users = users_of(set, values(superblock).len());
            let entered = users.enter().inspect_err(|_| self.leave_guards(users));
            if entered.map_err(|source| self.no_set("semop", source))? {
                self.segment.set_semaphores(set);
                return Ok(Some(users));
            }
        }
        Err(self.no_set("semop", io::Error::from_raw_os_error(libc::EIDRM)))
    }

    /// Finds or makes the semaphores again, after somebody removed them. Who else had the old ones
    /// finds the new ones by the superblock.
    ///
    /// # Errors
    /// `Retired`, since whoever destroys a store removes its semaphores; `GuardsRemoved` if there
    /// can be none.
    #[cold]
    pub(super) fn renew_guards(&self, session: &Session) -> Result<(), WriteError> {
        let name = || self.name.clone();
        if self.is_retired() {
            return Err(WriteError::Retired { name: name() });
        }
        let mut users = session.users.lock();
        let renewed = self
            .open_guards()
            .map_err(|error| WriteError::GuardsRemoved { name: name(), source: Box::new(error) })?;
        if *users == renewed {
            // Another thread was faster: it is counted already.
            renewed.inspect(|users| users.leave());
        }
        *users = renewed;
        Ok(())
    }

    /// Counts a client out. The last one of a store that no list of stores shows (a memfd,
    /// anonymous memory, a file) removes the semaphores: the next one makes them anew.
    pub(super) fn close_guards(&self, users: UseCount) {
        users.leave();
        self.leave_guards(users);
    }

    /// Removes the semaphores if nobody uses them and no list of stores shows whose they are.
    fn leave_guards(&self, users: UseCount) {
        let backing = self.segment.region.holder().backing();
        let listed = !matches!(backing, Backing::Memfd | Backing::Anonymous | Backing::File);
        if !listed || self.is_retired() {
            // Who neither owns it nor made it can't: it stays for the next client.
            let _ = users.remove_unused();
        }
    }

    /// The id of the set of semaphores that its guards are, if they are that, and one was made that
    /// this process can see.
    pub fn semaphores(&self) -> Option<i32> {
        set_of(&self.segment.region).ok().flatten().map(SemaphoreSet::id)
    }

    fn no_set(&self, call: &'static str, source: io::Error) -> AttachError {
        let name = self.name.clone();
        match (source.raw_os_error(), semaphore::limit_of(&source)) {
            (Some(libc::EACCES), _) => AttachError::PermissionDenied { name, access: "writing" },
            (_, Some(limit)) if call == "semget" => {
                AttachError::GuardLimit { name, limit: limit.name, value: limit.value }
            }
            _ => AttachError::System { call, name, source },
        }
    }

    /// Whether some client may live.
    fn has_clients(&self) -> bool {
        let mut states =
            (0..self.segment.geometry.clients).filter_map(|client| state_of(&self.segment, client));
        states.any(|state| !state.is_dead())
    }

    fn find_or_make_set(&self) -> Result<SemaphoreSet, AttachError> {
        let system = |call| move |source| self.no_set(call, source);
        let superblock = self.segment.superblock();
        let ipc_namespace = own_ipc_namespace().map_err(system("stat"))? as u32;
        let values = values(superblock);
        loop {
            let found = superblock.guard_set.load_acquire();
            if let Some(word) = GuardSetWord::of(found) {
                let set = SemaphoreSet::of_id(word.id);
                if is_foreign(word, ipc_namespace) {
                    // One that nobody uses does not count, whether its namespace is there or not.
                    if self.has_clients() {
                        return Err(AttachError::ForeignGuards { name: self.name.clone() });
                    }
                } else if is_of_store(set, &values).map_err(system("semctl"))? {
                    return Ok(set);
                }
            }
            let ownership = self.segment.region.holder().ownership().map_err(system("fstat"))?;
            // Dies before it is named: a set that nobody uses.
            let set = SemaphoreSet::create(&values, ownership).map_err(system("semget"))?;
            let word = GuardSetWord { id: set.id(), ipc_namespace }.word();
            if superblock.guard_set.compare_exchange::<S>(found, word).is_ok() {
                return Ok(set);
            }
            // Another one was faster.
            let _ = set.remove();
        }
    }
}

fn kind_of(superblock: &Superblock) -> GuardKind {
    match superblock.guard_kind.load() {
        GUARD_SYSTEM_V => GuardKind::SystemV,
        _ => GuardKind::Futex,
    }
}

/// What the semaphores of a store's set are made with: 1 for each guard, its identity, no users.
fn values(superblock: &Superblock) -> Vec<u16> {
    // More stripes than that are refused when a store is attached.
    let guards = superblock.stripes_count.load().min(4096) as usize + CLEANERS_MAX;
    let uuid = u128::from(superblock.uuid[0].load()) | u128::from(superblock.uuid[1].load()) << 64;
    let parts = (0..IDENTITY - 1).map(|part| (uuid >> (15 * part)) as u16 & VALUE_MAX);
    std::iter::repeat_n(1, guards).chain([MARK]).chain(parts).chain([0; USERS]).collect()
}

/// The count of the users of a set with so many semaphores.
fn users_of(set: SemaphoreSet, count: usize) -> UseCount {
    UseCount::of(set, (count - USERS) as u16)
}

/// Whether a set is there, is the one of the store whose set is made with these values, and can be
/// used.
fn is_of_store(set: SemaphoreSet, values: &[u16]) -> io::Result<bool> {
    let matches = || {
        if set.count()? != values.len() {
            return Ok(false);
        }
        let identity = values.len() - USERS - IDENTITY;
        for (at, expected) in values.iter().enumerate().skip(identity).take(IDENTITY) {
            // There are a few thousand at most.
            if set.semaphore(at as u16).value()? != *expected {
                return Ok(false);
            }
        }
        Ok(!users_of(set, values.len()).is_closed()?)
    };
    matches().or_else(|error: io::Error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::EIDRM) => Ok(false),
        _ => Err(error),
    })
}

/// The count of the users of a set, if it was made for some store's guards.
///
/// # Errors
/// Those of `semctl(2)`: `EACCES` without read permission, `EINVAL` or `EIDRM` if it is gone.
pub(super) fn users_of_listed(listed: &ListedSet) -> io::Result<Option<UseCount>> {
    let set = SemaphoreSet::of_id(listed.id);
    let Some(mark) = listed.count.checked_sub(IDENTITY + USERS) else { return Ok(None) };
    // There are a few thousand at most.
    if listed.key != 0 || mark > CLEANERS_MAX + 4096 || set.semaphore(mark as u16).value()? != MARK
    {
        return Ok(None);
    }
    Ok(Some(users_of(set, listed.count)))
}

fn is_foreign(word: GuardSetWord, own: u32) -> bool {
    word.ipc_namespace != 0 && own != 0 && word.ipc_namespace != own
}

/// The set of the store in a region, if there is one that this process can see.
fn set_of(region: &Region) -> io::Result<Option<SemaphoreSet>> {
    let Ok(superblock) = region.view::<Superblock>(0) else { return Ok(None) };
    let boot = clock::boot_id();
    let same_boot = superblock.boot_id[0].load() == boot as u64
        && superblock.boot_id[1].load() == (boot >> 64) as u64;
    let named = GuardSetWord::of(superblock.guard_set.load());
    let own = own_ipc_namespace()? as u32;
    let Some(word) = named.filter(|word| same_boot && !is_foreign(*word, own)) else {
        return Ok(None);
    };
    let set = SemaphoreSet::of_id(word.id);
    Ok(is_of_store(set, &values(superblock))?.then_some(set))
}

/// Removes the semaphores of a store that was destroyed. Who waits for one is told that the store
/// was. What can't be removed is left.
pub(super) fn remove_guards(region: &Region) {
    if let Ok(Some(set)) = set_of(region) {
        let _ = set.remove();
    }
}

/// Gives the semaphores the owner and mode that the store has.
///
/// # Errors
/// Those of `semctl(2)`: `EPERM`.
pub(super) fn own_guards<S: Shim>(store: &Store<S>) -> io::Result<()> {
    let region = &store.segment.region;
    match set_of(region)? {
        Some(set) => set.set(region.holder().ownership()?),
        None => Ok(()),
    }
}
