//! A store whose process can be told to die, or to stop, just before the n-th of its stores to shared
//! memory, and that notes who held a guard when it died and who took that guard over, when.
//!
//! A [`Store<Mortal>`](store_core::Store) does what a shipped one does; every store to the segment
//! passes [`Mortal`] first. A process that was given no [`Fate`] is not watched. All processes must
//! have the segment at the same address, so they are forked.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use store_core::{Mutation, Shim};
use zerocopy::FromZeros;

use crate::records::mix;
use crate::shared::now_ns;

/// Client entries that a store may have.
const CLIENTS_MAX: usize = 4096;
/// Recoveries that are kept until [`Graves::drain`].
const RECOVERIES_KEPT: usize = 1 << 16;
/// The bit of a guard's word that says that somebody waits.
const WAITERS: u32 = 1 << 31;
/// The bits of a guard's word that say which client entry holds it, plus 1.
const CLIENT_MASK: u32 = (1 << 12) - 1;

/// The shim of a store whose processes die by a plan.
#[derive(Debug, Clone, Copy)]
pub struct Mortal;

impl Shim for Mortal {
    const OBSERVES: bool = true;
    /// So that few keys are overwritten where they stand as often as they are written anew.
    const OVERWRITE_APART: i64 = 2;

    #[inline]
    fn leaves_out(rule: Mutation) -> bool {
        LEFT_OUT.load(Ordering::Relaxed) & bit_of(rule) != 0
    }

    #[inline]
    fn before_store(address: usize, _: u64, _: usize) {
        with_fate(|fate| fate.before_store(address, 0, false));
    }

    #[inline]
    fn before_guard_store(address: usize, value: u32) {
        with_fate(|fate| fate.before_store(address, value, true));
    }
}

/// A bit for each rule that this process leaves out.
static LEFT_OUT: AtomicU32 = AtomicU32::new(0);

/// From now on this process, and those that it forks, leave out `rules` and no others.
pub fn leave_out(rules: &[Mutation]) {
    let bits = rules.iter().fold(0, |bits, rule| bits | bit_of(*rule));
    LEFT_OUT.store(bits, Ordering::Relaxed);
}

#[inline]
fn bit_of(rule: Mutation) -> u32 {
    1 << rule as u32
}

thread_local! {
    static FATE: RefCell<Option<Fate>> = const { RefCell::new(None) };
}

#[inline]
fn with_fate(tell: impl FnOnce(&mut Fate)) {
    FATE.with_borrow_mut(|fate| fate.as_mut().map_or((), tell));
}

/// When a process dies by its own hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// Not at all.
    Never,
    /// Before the n-th of its stores to the segment.
    AtStore(u64),
    /// Before the n-th of those that it makes while it holds a guard.
    AtGuardedStore(u64),
}

/// Who takes guards of the dead over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A process that wants to write.
    Peer = 0,
    /// One that reaps, as a server does.
    Upkeep = 1,
}

/// What outlives a process. Of all zeros to begin with.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Life {
    /// Guards that it holds.
    holds: AtomicU64,
    /// Its client entry plus 1, once it has one.
    client: AtomicU64,
}

impl Life {
    /// Makes it that of a process which is about to be forked.
    pub fn begin(&self) {
        self.holds.store(0, Ordering::Relaxed);
        self.client.store(0, Ordering::Release);
    }

    /// Whether it holds, or died holding, a guard.
    pub fn holds_a_guard(&self) -> bool {
        self.holds.load(Ordering::Acquire) > 0
    }
}

/// Who died when, and how long it took until the guards of the dead could be used again. Shared by all
/// processes; zeros to begin with.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Graves {
    /// By client entry: nanoseconds of the monotonic clock; 0: not known to be dead.
    died_at_ns: [AtomicU64; CLIENTS_MAX],
    /// By [`Role`].
    taken_over: [AtomicU64; 2],
    recoveries: AtomicU64,
    /// In units of 100 ns: from the death, and from when the guard was needed.
    recovery: [[AtomicU32; 2]; RECOVERIES_KEPT],
}

/// A guard of a dead process that can be used again.
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// From the death until the guard was given back, mended: also while nobody needed it.
    pub since_death: Duration,
    /// The same from when the process that took it over came to need it, if that was later.
    pub since_needed: Duration,
}

impl Graves {
    /// Notes that a process is about to be killed.
    pub fn bury(&self, life: &Life) {
        self.bury_client(life.client.load(Ordering::Acquire));
    }

    fn bury_client(&self, client_plus_one: u64) {
        if let Some(client) = client_plus_one.checked_sub(1) {
            self.died_at_ns[client as usize].store(now_ns(), Ordering::Release);
        }
    }

    /// Guards of the dead that were taken over by processes of a role.
    pub fn taken_over(&self, role: Role) -> u64 {
        self.taken_over[role as usize].load(Ordering::Acquire)
    }

    /// The guards that were recovered since the last call; some are missing if there were very many.
    /// No process may be writing.
    pub fn drain(&self) -> Vec<Recovery> {
        let count = self.recoveries.swap(0, Ordering::AcqRel);
        let kept = (count as usize).min(RECOVERIES_KEPT);
        let time = |units: &AtomicU32| {
            Duration::from_nanos(u64::from(units.load(Ordering::Acquire)) * 100)
        };
        let recovery = |[death, needed]: &[AtomicU32; 2]| Recovery {
            since_death: time(death),
            since_needed: time(needed),
        };
        self.recovery[..kept].iter().map(recovery).collect()
    }

    fn note_recovery(&self, died_at_ns: u64, needed_ns: u64) {
        let now = now_ns();
        let at = self.recoveries.fetch_add(1, Ordering::AcqRel) as usize % RECOVERIES_KEPT;
        let since = [died_at_ns, died_at_ns.max(needed_ns)];
        for (cell, since) in self.recovery[at].iter().zip(since) {
            let units = now.saturating_sub(since) / 100;
            cell.store(u32::try_from(units).unwrap_or(u32::MAX), Ordering::Release);
        }
    }
}

/// A guard that this process holds.
#[derive(Debug, Clone, Copy)]
struct HeldGuard {
    address: usize,
    /// The word, without the waiters bit: it names this process and no other.
    owner: u32,
    /// When the one died from whom it was taken over; 0 if it was free.
    since_ns: u64,
    taken_over: bool,
}

/// What becomes of this process.
#[derive(Debug)]
pub struct Fate {
    life: &'static Life,
    graves: &'static Graves,
    role: Role,
    doom: Doom,
    signal: Signal,
    /// Of 1024 stores, so many are preceded by letting others run.
    yields: u64,
    random: u64,
    /// When its operation began; 0 if that does not count.
    began_ns: u64,
    held: Vec<HeldGuard>,
    /// Asked for by the last store that was seen; whether it was had, the next one shows.
    asked: Option<HeldGuard>,
}

impl Fate {
    /// A process that is not to die by itself.
    pub fn new(life: &'static Life, graves: &'static Graves, role: Role) -> Self {
        Self {
            life,
            graves,
            role,
            doom: Doom::Never,
            signal: Signal::SIGKILL,
            yields: 0,
            random: 0,
            began_ns: 0,
            held: Vec::with_capacity(4),
            asked: None,
        }
    }

    /// It sends itself `signal` then: SIGKILL, or SIGSTOP.
    pub fn doom(self, doom: Doom, signal: Signal) -> Self {
        Self { doom, signal, ..self }
    }

    /// Before so many of 1024 stores, which `seed` chooses, it lets others run.
    pub fn yields(self, of_1024: u64, seed: u64) -> Self {
        Self { yields: of_1024, random: mix(seed), ..self }
    }

    /// From now on this is the fate of the calling thread.
    pub fn begin(self) {
        FATE.set(Some(self));
    }

    fn before_store(&mut self, address: usize, value: u32, is_guard: bool) {
        self.confirm();
        if is_guard && value != 0 {
            self.ask(address, value);
        }
        self.meet_doom();
        if is_guard && value == 0 {
            self.let_go(address);
        }
        if self.yields > 0 {
            self.random =
                self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            if (self.random >> 33) % 1024 < self.yields {
                std::thread::yield_now();
            }
        }
    }

    /// A compare-and-swap that is about to make a guard's word `value` may lose to another process.
    fn ask(&mut self, address: usize, value: u32) {
        let found = word_at(address);
        if value == found | WAITERS && found & CLIENT_MASK != 0 {
            // It only says that it waits.
            return;
        }
        let dead = found & CLIENT_MASK;
        let since_ns = match dead {
            0 => 0,
            client => self.graves.died_at_ns[client as usize - 1].load(Ordering::Acquire),
        };
        let owner = value & !WAITERS;
        self.asked = Some(HeldGuard { address, owner, since_ns, taken_over: dead != 0 });
    }

    /// Whoever has a guard stores something before anybody else can have it: at the least, the word
    /// that gives it back.
    fn confirm(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        if word_at(asked.address) & !WAITERS != asked.owner {
            return;
        }
        self.held.push(asked);
        self.life.holds.store(self.held.len() as u64, Ordering::Release);
        if asked.taken_over {
            self.graves.taken_over[self.role as usize].fetch_add(1, Ordering::AcqRel);
        }
    }

    fn let_go(&mut self, address: usize) {
        let Some(at) = self.held.iter().position(|held| held.address == address) else { return };
        let held = self.held.swap_remove(at);
        self.life.holds.store(self.held.len() as u64, Ordering::Release);
        if held.since_ns != 0 {
            self.graves.note_recovery(held.since_ns, self.began_ns);
        }
    }

    fn meet_doom(&mut self) {
        let left = match &mut self.doom {
            Doom::Never => return,
            Doom::AtGuardedStore(_) if self.held.is_empty() => return,
            Doom::AtStore(left) | Doom::AtGuardedStore(left) => left,
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        self.doom = Doom::Never;
        if self.signal == Signal::SIGKILL {
            self.graves.bury(self.life);
        }
        raise(self.signal).expect("a process may send itself a signal");
    }
}

/// An operation begins now: whatever guard it needs, it does not need before.
pub fn begin_operation() {
    FATE.with_borrow_mut(|fate| {
        if let Some(fate) = fate {
            fate.began_ns = now_ns();
        }
    });
}

/// The calling thread is not watched any more.
pub fn forget() {
    FATE.set(None);
}

/// Notes the client entry of this process, once it has one, so that its death can be timed.
pub fn registered(life: &Life, graves: &Graves, client: u32) {
    graves.died_at_ns[client as usize].store(0, Ordering::Release);
    life.client.store(u64::from(client) + 1, Ordering::Release);
}

fn word_at(address: usize) -> u32 {
    #[expect(unsafe_code, reason = "the shim is told the address of a word in the segment")]
    // SAFETY: the core is about to store to this word, aligned and mapped, by an atomic operation.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU32>(address) }.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use store_core::{Condition, CreateOptions, PutOptions, Store, private_on_heap};

    use super::{Doom, Fate, Graves, Life, Mortal, Role};
    use crate::forked::Child;
    use crate::shared::zeroed;
    use nix::sys::signal::Signal;
    use nix::sys::wait::WaitStatus;

    fn put(store: &Store<Mortal>) {
        let session = store.open_session().expect("an entry");
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(&session, b"key", &[7; 100], &options, always).expect("a put");
    }

    fn child(doom: Doom) -> (WaitStatus, &'static Life) {
        let options = CreateOptions::new(1 << 20);
        let store: Store<Mortal> = private_on_heap(&options, 3).expect("a store");
        let life = zeroed::<Life>().expect("memory");
        let graves = zeroed::<Graves>().expect("memory");
        // A test has threads; this child allocates and writes to its own copy only.
        let child = Child::start(move || {
            Fate::new(life, graves, Role::Peer).doom(doom, Signal::SIGKILL).begin();
            put(&store);
            Ok(())
        });
        (child.expect("a fork").reap().expect("its end"), life)
    }

    #[test]
    fn it_dies_while_it_holds_a_guard_if_it_is_to() {
        let (status, life) = child(Doom::AtGuardedStore(2));
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
        assert!(life.holds_a_guard());
    }

    #[test]
    fn it_dies_without_one_before_it_took_one() {
        let (status, life) = child(Doom::AtStore(1));
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
        assert!(!life.holds_a_guard());
    }

    #[test]
    fn it_lives_if_it_is_to() {
        let (status, life) = child(Doom::Never);
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        assert!(!life.holds_a_guard());
    }
}
