//! What a store says of itself.

use std::time::Duration;

use super::Store;
use super::eviction_stats::EvictionStats;
use super::expiry::TTL_TOLERANCE;
use super::grow::LOAD_TENTHS;
use super::tally::ClientCounts;
use crate::arena::usage::{Usage, may_live};
use crate::config::{GuardKind, HashKind, HugePages, Mode};
use crate::error::Corruption;
use crate::index::overflow;
use crate::layout::{
    Cleaner, ClientState as EntryState, ClientWord, ExtentState, ExtentWord, FEATURE_HUGE_PAGES,
    FEATURE_POOL, FORMAT_VERSION,
};
use crate::recovery::state_of;
use crate::region::{Cell64, Shim};
use crate::sync::{Owner, Turn};
use crate::sys::holder::Backing;
use crate::sys::object::Object;
use crate::sys::pages::HUGE_PAGE_BYTES;
use crate::sys::process::Liveness;
use crate::sys::sysv::removed_when_detached;

/// What an item costs in the index, for estimates.
const INDEX_BYTES_PER_ITEM: u64 = 16;

/// What a store is. Sizes in bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Info {
    /// Where it is.
    pub name: String,
    /// What holds its memory.
    pub backing: Backing,
    /// The seals of its memfd, such as `shrink`.
    pub seals: Vec<&'static str>,
    /// Whether a seal forbids new mappings that write, and no client lives that could.
    pub read_only_for_good: bool,
    /// Whether the kernel removes its System V segment with the last detach, although nobody asked
    /// for it (`kernel.shm_rmid_forced`).
    pub removed_when_detached: bool,
    /// Its id, new for each store made.
    pub uuid: String,
    /// Version of the format.
    pub format_version: u32,
    /// What happens when it is full.
    pub mode: Mode,
    /// Permission bits of the place where readers mark what they look up; 0: there is none.
    pub heat_permissions: u32,
    /// Its present size: structures and the extents that have memory.
    pub segment_bytes: u64,
    /// The size it may grow to, which is the address space that a mapping takes.
    pub max_segment_bytes: u64,
    /// Memory or disk that the kernel counts for it; 0 for a private store.
    pub resident_bytes: u64,
    /// The arena at its maximum size, with what the index takes of it. `Stats::arena_bytes` is what
    /// has memory now, without the index.
    pub max_arena_bytes: u64,
    /// The unit of the arena.
    pub extent_bytes: u64,
    /// Extents that have memory.
    pub extents: u32,
    /// Extents at the maximum size.
    pub extents_max: u32,
    /// Buckets of 7 lanes. They grow with the number of items.
    pub buckets: u64,
    /// Lines of 7 lanes that full buckets can be given.
    pub overflow_lines: u64,
    /// Guards.
    pub stripes: u32,
    /// Clients that can write at once.
    pub clients_max: u32,
    /// The hash function.
    pub hash: &'static str,
    /// The kind of its guards.
    pub guard: GuardKind,
    /// Whether items carry checksums.
    pub checksums: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The longest key.
    pub key_bytes_max: u64,
    /// The largest value, for a short key.
    pub value_bytes_max: u64,
    /// Items that the index was laid out for when the store was made.
    pub planned_items: u64,
    /// Namespaces that it has, and how many it has room for.
    pub namespaces: u32,
    /// See [`Info::namespaces`].
    pub namespaces_max: u32,
    /// The clock that all its clients go by.
    pub clock: &'static str,
    /// How much earlier or later than asked an item may be gone.
    pub clock_tolerance: Duration,
    /// Where it is mapped in this process.
    pub address: u64,
    /// Huge pages that its maker asked for.
    pub huge_pages: HugePages,
    /// Bytes of that mapping that huge pages serve now. Where some were asked for, all that there are.
    pub huge_page_bytes: u64,
    /// Whether this process may write to it.
    pub writable: bool,
    /// Who has it attached for writing.
    pub clients: Vec<ClientInfo>,
    /// The process of its server, if it has one that lives.
    pub server: Option<u32>,
    /// Guards that were held at the moment.
    pub held: Vec<HeldGuard>,
    /// Loader leases that the store has.
    pub leases_max: u32,
    /// Loader leases that were held at the moment: values that are being computed.
    pub leases: Vec<HeldLease>,
}

/// A client that writes. Readers have no entry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Its entry in the client table.
    pub index: u32,
    /// How often the entry was used.
    pub generation: u32,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Whether it lives.
    pub state: ClientState,
    /// When its process started, in clock ticks since the machine did; 0: unknown.
    pub start_time: u64,
    /// Inode number of its PID namespace; 0: unknown.
    pub pid_namespace: u64,
    /// When it attached, in milliseconds since 1970.
    pub attached_unix_ms: u64,
    /// Extents that it has open.
    pub open_extents: u32,
    /// Guards of stripes that it held at the moment.
    pub guards: u32,
    /// What it has counted and told.
    pub counts: ClientCounts,
}

/// Whether a client lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientState {
    /// It does.
    Alive,
    /// It does not, and nobody has reaped it yet.
    Dead,
    /// Its process has ended, and its parent has not waited for it; nobody has reaped it yet.
    Zombie,
    /// Its process executed another program; nobody has reaped it yet.
    Executed,
    /// It is of another PID namespace, and counts as alive.
    ForeignNamespace,
    /// The kernel does not say: it counts as alive.
    Unknown,
}

impl ClientState {
    /// Whether it is gone for certain, and waits to be reaped.
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Dead | Self::Zombie | Self::Executed)
    }
}

/// A guard that was held at the moment of looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldGuard {
    /// Which.
    pub stripe: u32,
    /// The entry of the client that holds it.
    pub client: u32,
    /// The process id in that entry.
    pub pid: u32,
    /// Whether somebody waits for it.
    pub waiters: bool,
}

/// A loader lease that was held at the moment of looking: a value that a client computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldLease {
    /// Which.
    pub lease: u32,
    /// The entry of the client that holds it.
    pub client: u32,
    /// The process id in that entry.
    pub pid: u32,
    /// For how long it has, in milliseconds.
    pub held_ms: u64,
    /// Whether somebody waits for the value.
    pub waiters: bool,
}

/// What a store holds. The store goes on meanwhile, so sums are near.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Items. Expired ones count until they are swept, though no scan shows them.
    pub items: u64,
    /// How many more items of the mean size memory takes: whole ones, where each would have to go.
    /// 0 for an empty store, which has no mean size.
    pub room_items: u64,
    /// Bytes of items that can be read: headers, keys, values, padding.
    pub live_bytes: u64,
    /// Bytes of overwritten and deleted items whose extents still hold live ones.
    pub dead_bytes: u64,
    /// Bytes that new items can use.
    pub free_bytes: u64,
    /// Bytes of everything that is not for items: tables and the index.
    pub structure_bytes: u64,
    /// Of these, bytes of the index: buckets and overflow lines.
    pub index_bytes: u64,
    /// Bytes for items that have memory: the arena without the index and without what it may still
    /// grow by.
    pub arena_bytes: u64,
    /// Bytes that are kept free for cleaning, so that it can always go on.
    pub reserve_bytes: u64,
    /// Extents in all.
    pub extents: u32,
    /// Extents that hold nothing.
    pub extents_free: u32,
    /// Extents that take items.
    pub extents_open: u32,
    /// Extents that take none any more.
    pub extents_sealed: u32,
    /// Extents of the index.
    pub extents_index: u32,
    /// Extents that take the items that cleaning moves.
    pub extents_relocation: u32,
    /// Extents without items that wait for pins to be taken off.
    pub extents_pinned: u32,
    /// Extents that cleaning emptied since the store was made.
    pub emptied: u64,
    /// Bytes that it moved.
    pub moved_bytes: u64,
    /// Extents whose live bytes a crash may have left too high.
    pub extents_suspect: u32,
    /// Extents that have no memory yet.
    pub extents_uncommissioned: u32,
    /// Buckets of the index.
    pub buckets: u64,
    /// Overflow lines in use.
    pub overflow_lines_used: u64,
    /// Overflow lines.
    pub overflow_lines: u64,
    /// Items for each hundred lanes of the buckets.
    pub index_load_percent: f64,
    /// What clients that write have counted of their operations since the store was made, and
    /// told: those that live, and those that are gone. Readers count nothing.
    pub counts: ClientCounts,
    /// Clients that write now: they count what they put and delete.
    pub clients: u32,
    /// Those of them that count their lookups too.
    pub clients_counting_lookups: u32,
    /// Items that were dropped since their time was over, by sweeps, cleaning, or writes to their keys.
    pub expired: u64,
    /// What eviction did; `None` in store mode.
    pub eviction: Option<EvictionStats>,
}

impl Stats {
    /// The share of the arena's bytes that is dead, in percent. Cleaning makes them free, but for ends
    /// of extents that are too short for an item.
    pub fn fragmentation_percent(&self) -> f64 {
        self.dead_bytes as f64 / self.arena_bytes.max(1) as f64 * 100.0
    }

    /// Bytes that cleaning moved for each byte that was put, near; `None` if no put was told.
    pub fn moved_per_put_byte(&self) -> Option<f64> {
        (self.counts.put_bytes > 0).then(|| self.moved_bytes as f64 / self.counts.put_bytes as f64)
    }
}

impl<S: Shim> Store<S> {
    /// Items in the store, those of all namespaces. Expired ones count until they are swept, though
    /// no scan shows them. One load for each stripe, so near while others write. Of a namespace
    /// ([`Store::in_namespace`]): its items, one load, off by one at most for each killed process.
    pub fn len(&self) -> u64 {
        if self.segment.namespace != 0 {
            let namespace = self.segment.namespace;
            let record = self.segment.namespace_record(namespace);
            return record
                .filter(|_| self.segment.is_meant(namespace))
                .map_or(0, |record| record.items.load());
        }
        (0..self.segment.geometry.stripes)
            .filter_map(|stripe| self.segment.stripe(stripe).ok())
            .fold(0, |sum, stripe| sum.saturating_add(stripe.items.load()))
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it is, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the store was destroyed since it was attached: the mapping works, but nobody who
    /// attaches now will find it. One load.
    pub fn is_retired(&self) -> bool {
        self.segment.superblock().state.load() == crate::layout::STATE_RETIRED
    }

    /// Whether the mapping can be written.
    pub fn is_writable(&self) -> bool {
        self.segment.region.writable()
    }

    /// The huge pages that its maker asked for.
    fn huge_pages(&self) -> HugePages {
        match self.segment.superblock().features_optional.load() {
            features if features & FEATURE_HUGE_PAGES != 0 => HugePages::Transparent,
            features if features & FEATURE_POOL != 0 => HugePages::Reserved,
            _ => HugePages::Default,
        }
    }

    /// Reads a word of each huge page that has memory, so that this process maps it as one.
    fn touch(&self) {
        let geometry = &self.segment.geometry;
        let of_arena = (0..geometry.extents)
            .filter(|extent| self.segment.generation(*extent).is_ok_and(|cell| cell.load() != 0))
            .map(|extent| geometry.extent_offset(extent));
        let of_head = (0..geometry.arena_offset).step_by(HUGE_PAGE_BYTES);
        let mut touched = None;
        for offset in of_head.chain(of_arena) {
            let page = offset / HUGE_PAGE_BYTES as u64;
            if touched != Some(page)
                && let Ok(cell) = self.segment.region.view::<Cell64>(offset)
            {
                std::hint::black_box(cell.load());
                touched = Some(page);
            }
        }
    }

    /// What the store is, and who writes to it.
    ///
    /// # Errors
    /// `Corruption` where its bytes make no sense.
    pub fn info(&self) -> Result<Info, Corruption> {
        let superblock = self.segment.superblock();
        let geometry = &self.segment.geometry;
        let uuid =
            u128::from(superblock.uuid[0].load()) | u128::from(superblock.uuid[1].load()) << 64;
        let usage = Usage::of(&self.segment)?;
        let holder = self.segment.region.holder();
        let backing = holder.backing();
        let clients = self.clients()?;
        let sealed = holder.object().is_some_and(Object::is_sealed);
        let writer_lives = clients.iter().any(|client| !client.state.is_dead());
        let huge_pages = self.huge_pages();
        if huge_pages != HugePages::Default {
            self.touch();
        }
        Ok(Info {
            name: self.name.clone(),
            backing,
            seals: holder.object().map(Object::seals).unwrap_or_default(),
            read_only_for_good: sealed && !writer_lives,
            removed_when_detached: backing == Backing::SystemV && removed_when_detached(),
            uuid: uuid::Uuid::from_u128(uuid).to_string(),
            format_version: FORMAT_VERSION,
            mode: if self.segment.evicts { Mode::Cache } else { Mode::Store },
            heat_permissions: self.segment.superblock().heat_permissions.load() as u32,
            segment_bytes: geometry.arena_offset
                + (u64::from(geometry.extents - usage.uncommissioned) << geometry.extent_shift),
            max_segment_bytes: geometry.segment_bytes,
            resident_bytes: self.segment.region.resident_bytes(),
            max_arena_bytes: geometry.arena_bytes(),
            extent_bytes: geometry.extent_bytes(),
            extents: geometry.extents - usage.uncommissioned,
            extents_max: geometry.extents,
            buckets: self.segment.index_size().buckets(),
            overflow_lines: self.overflow_lines(),
            stripes: geometry.stripes,
            clients_max: geometry.clients,
            hash: match self.segment.hasher.kind {
                HashKind::Rapidhash => "rapidhash v3",
                HashKind::Siphash => "siphash-1-3",
            },
            guard: self.guard_kind(),
            checksums: self.segment.checksums,
            created_unix_ms: superblock.created_unix_ms.load(),
            key_bytes_max: geometry.key_bytes_max(),
            value_bytes_max: geometry.value_bytes_max(64),
            planned_items: geometry.planned_items,
            namespaces: self.records().filter(|(_, record)| record.is_taken()).count() as u32,
            namespaces_max: geometry.namespaces - 1,
            clock: "CLOCK_MONOTONIC_COARSE",
            clock_tolerance: TTL_TOLERANCE,
            address: self.segment.region.address() as u64,
            huge_pages,
            huge_page_bytes: crate::sys::map::huge_page_bytes(self.segment.region.address()),
            writable: self.is_writable(),
            clients,
            server: self.server(),
            held: self.held_guards()?,
            leases_max: geometry.loaders,
            leases: self.held_leases()?,
        })
    }

    /// The entries of the client table that are taken. A few system calls for each.
    ///
    /// # Errors
    /// `Corruption` where the table is out of bounds.
    pub fn clients(&self) -> Result<Vec<ClientInfo>, Corruption> {
        let mut clients = Vec::new();
        for index in 0..self.segment.geometry.clients {
            let entry = self.segment.client(index)?;
            let word = ClientWord::of(entry.word.load());
            if word.state == EntryState::Free {
                continue;
            }
            let state = match state_of(&self.segment, index) {
                None => continue,
                Some(Liveness::Alive) => ClientState::Alive,
                Some(Liveness::Dead) => ClientState::Dead,
                Some(Liveness::Zombie) => ClientState::Zombie,
                Some(Liveness::Executed) => ClientState::Executed,
                Some(Liveness::Foreign) => ClientState::ForeignNamespace,
                Some(Liveness::Unknown) => ClientState::Unknown,
            };
            clients.push(ClientInfo {
                index,
                generation: word.generation,
                pid: word.pid,
                state,
                start_time: entry.start_time.load(),
                pid_namespace: entry.pid_namespace.load(),
                attached_unix_ms: entry.attached_unix_ms.load(),
                open_extents: 0,
                guards: 0,
                counts: ClientCounts::of(&entry.counters),
            });
        }
        self.count_open_extents(&mut clients)?;
        self.count_guards(&mut clients)?;
        Ok(clients)
    }

    /// Clients that have an entry, and those of them that count their lookups.
    fn clients_counting(&self) -> Result<(u32, u32), Corruption> {
        let (mut clients, mut counting) = (0, 0);
        for index in 0..self.segment.geometry.clients {
            let entry = self.segment.client(index)?;
            let word = ClientWord::of(entry.word.load());
            if word.state != EntryState::Free {
                let owner = Owner::new(index, word.generation);
                let said = entry.counters.lookups_generation.load();
                clients += 1;
                counting += u32::from(said == u64::from(owner.generation));
            }
        }
        Ok((clients, counting))
    }

    fn count_open_extents(&self, clients: &mut [ClientInfo]) -> Result<(), Corruption> {
        for extent in 0..self.segment.geometry.extents {
            let word: ExtentWord = self.segment.extent_word(extent)?;
            for client in &mut *clients {
                if word.is_owned_by(Owner::new(client.index, client.generation)) {
                    client.open_extents += 1;
                }
            }
        }
        Ok(())
    }

    fn count_guards(&self, clients: &mut [ClientInfo]) -> Result<(), Corruption> {
        for stripe in 0..self.segment.geometry.stripes {
            let guard = self.segment.stripe_guard(stripe, self.segment.stripe(stripe)?);
            let Some((owner, _)) = guard.holder() else { continue };
            for client in &mut *clients {
                client.guards += u32::from(owner == Owner::new(client.index, client.generation));
            }
        }
        Ok(())
    }

    /// The guards that are held at this moment: one load for each stripe.
    ///
    /// # Errors
    /// `Corruption` where the stripes are out of bounds.
    pub fn held_guards(&self) -> Result<Vec<HeldGuard>, Corruption> {
        let mut held = Vec::new();
        for stripe in 0..self.segment.geometry.stripes {
            let guard = self.segment.stripe_guard(stripe, self.segment.stripe(stripe)?);
            if let Some((owner, waiters)) = guard.holder() {
                let pid = self.pid_of(owner.client);
                held.push(HeldGuard { stripe, client: owner.client, pid, waiters });
            }
        }
        Ok(held)
    }

    /// The loader leases that are held at this moment: one load for each that there is.
    ///
    /// # Errors
    /// `Corruption` where they are out of bounds.
    pub fn held_leases(&self) -> Result<Vec<HeldLease>, Corruption> {
        let mut held = Vec::new();
        for lease in 0..self.segment.geometry.loaders {
            let record = self.segment.loader(lease)?;
            if let Some((word, owner)) = Turn::new(&record.owner).holder() {
                held.push(HeldLease {
                    lease,
                    client: owner.client,
                    pid: self.pid_of(owner.client),
                    held_ms: self.now_ms().saturating_sub(record.taken_ms.load()),
                    waiters: Owner::has_waiters(word),
                });
            }
        }
        Ok(held)
    }

    /// The process id in a client entry; 0 if there is no such entry.
    pub(super) fn pid_of(&self, client: u32) -> u32 {
        self.segment.client(client).map_or(0, |entry| ClientWord::of(entry.word.load()).pid)
    }

    /// How many more items the index has buckets for.
    fn index_spare(&self) -> u64 {
        let items = self.segment.index_size().buckets().saturating_mul(LOAD_TENTHS) / 10;
        items.saturating_sub(self.len())
    }

    fn overflow_lines(&self) -> u64 {
        let each = self.segment.geometry.overflow_lines_per_extent();
        overflow::extents_of_lines(&self.segment).saturating_mul(each)
    }

    /// How many items of so many bytes fit. The ends of extents that are too short for one don't
    /// count, unless it is in pieces, nor do the extents that are kept. Of the bytes that cleaning gives
    /// back, as many items as they hold.
    fn room_for(&self, bytes: u64) -> Result<u64, Corruption> {
        let extent_bytes = self.segment.geometry.extent_bytes();
        let in_pieces = bytes > self.segment.geometry.whole_bytes_max();
        let (mut room, mut gain) = (0_u64, 0);
        // In store mode puts that find no room otherwise have what is kept, up to a limit.
        let mut kept = if self.segment.evicts { self.segment.kept_with_memory() } else { 1 };
        // An extent is emptied for a part of it at least, or for one item. What no item fits in stays.
        let worth = (extent_bytes / super::clean::GAIN_PART_MIN).min(bytes);
        let filled = extent_bytes - if in_pieces { 0 } else { extent_bytes % bytes };
        for extent in 0..self.segment.geometry.extents {
            let word = self.segment.extent_word(extent)?;
            let free = match word.state {
                ExtentState::Free if kept > 0 => {
                    kept -= 1;
                    0
                }
                ExtentState::Free => extent_bytes,
                ExtentState::Sealed => {
                    let dead = filled.saturating_sub(u64::from(word.live) * 8);
                    gain += if dead >= worth { dead } else { 0 };
                    0
                }
                ExtentState::Open => extent_bytes.saturating_sub(u64::from(word.used) * 8),
                _ => 0,
            };
            if in_pieces {
                gain += free;
            } else {
                room += free / bytes;
            }
        }
        let room = (room + gain / bytes).min(may_live(&self.segment, 0)? / bytes);
        // What the index has room for, and behind that what it takes of the arena to grow.
        let spare = self.index_spare().min(room);
        Ok(spare + (room - spare) * bytes / (bytes + INDEX_BYTES_PER_ITEM))
    }

    /// What the store holds: one line for each extent and 8 bytes for each overflow line are read.
    ///
    /// # Errors
    /// `Corruption` where its bytes make no sense.
    pub fn stats(&self) -> Result<Stats, Corruption> {
        let geometry = &self.segment.geometry;
        let usage = Usage::of(&self.segment)?;
        let mut overflow_lines_used = 0;
        for line in overflow::lines(&self.segment) {
            let (_, owner) = line?;
            overflow_lines_used += u64::from(owner != 0);
        }
        let (clients, clients_counting_lookups) = self.clients_counting()?;
        let buckets = self.segment.index_size().buckets();
        let items = self.len();
        let lanes = buckets as f64 * crate::layout::LANES as f64;
        let sum = |of: fn(&Cleaner) -> u64| {
            self.segment.cleaners().iter().fold(0_u64, |sum, cleaner| sum.wrapping_add(of(cleaner)))
        };
        let index_bytes = u64::from(usage.index) << geometry.extent_shift;
        let each = usage.live_bytes.checked_div(items).unwrap_or(0);
        Ok(Stats {
            items,
            room_items: if each == 0 { 0 } else { self.room_for(each.next_multiple_of(8))? },
            live_bytes: usage.live_bytes,
            dead_bytes: usage.dead_bytes,
            free_bytes: usage.free_bytes,
            structure_bytes: geometry.arena_offset + index_bytes,
            index_bytes,
            arena_bytes: usage.capacity_bytes,
            reserve_bytes: usage.reserve_bytes,
            extents: geometry.extents,
            extents_free: usage.free,
            extents_open: usage.open,
            extents_sealed: usage.sealed,
            extents_index: usage.index,
            extents_relocation: usage.relocation,
            extents_pinned: usage.pinned,
            emptied: sum(|cleaner| cleaner.emptied.load()),
            moved_bytes: sum(|cleaner| cleaner.moved_bytes.load()),
            extents_suspect: usage.suspect,
            extents_uncommissioned: usage.uncommissioned,
            buckets,
            overflow_lines_used,
            overflow_lines: self.overflow_lines(),
            index_load_percent: items as f64 / lanes * 100.0,
            counts: self.client_counts()?,
            clients,
            clients_counting_lookups,
            expired: self.segment.superblock().expired.load(),
            eviction: self.eviction_stats()?,
        })
    }
}
