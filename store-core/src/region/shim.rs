//! The one shim through which every store to shared memory goes.
//!
//! It is a zero-sized type parameter of the whole core: the shipped binaries use [`Plain`], which
//! compiles to nothing; tests use types of their own that log each store, stop the process before
//! the n-th one, or leave out one rule ([`Mutation`]) to see that a test fails without it.

use std::str::FromStr;

/// One rule of the protocol that a test can take out, to prove that the tests need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// A taken-over guard is used without repairing what its dead owner left.
    SkipRepair,
    /// A reader believes the bytes of an item without looking at the generation again.
    SkipGenerationCheck,
    /// A reader believes the bytes of an item without looking at its stamp again.
    SkipStampCheck,
    /// A value is overwritten where it stands without a redo record.
    SkipRedoRecord,
    /// A link is published before the slot it displaces was copied to the overflow line.
    LinkBeforeCopy,
    /// Lines are unlinked and items raised in their chain without telling readers to look again.
    SkipEpochBump,
    /// A split clears the old bucket before the size word says that there is a new one.
    ClearBeforeSize,
    /// An item is published before its bits are in the filter.
    SlotBeforeFilter,
    /// Live bytes are added after publication instead of at reservation.
    SkipLiveBytes,
    /// An extent is recounted without asking who may still publish in it.
    SkipInFlight,
    /// An extent is used anew without asking who has it pinned.
    SkipPins,
    /// The generation of an extent is not bumped before its bytes are used again.
    SkipGenerationBump,
    /// An extent is used anew without a fence between its new generation and the look at the pins.
    SkipReuseFence,
    /// A lookup that never makes sense is begun again without end.
    SkipAttemptsBound,
    /// A loader lease is taken without looking under the guard whether a value stands by now.
    SkipSecondLook,
    /// Operations that need the value that stands don't try apart from the guard first.
    RewriteUnderGuard,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::SkipRepair,
        Self::SkipGenerationCheck,
        Self::SkipStampCheck,
        Self::SkipRedoRecord,
        Self::LinkBeforeCopy,
        Self::SkipEpochBump,
        Self::ClearBeforeSize,
        Self::SlotBeforeFilter,
        Self::SkipLiveBytes,
        Self::SkipInFlight,
        Self::SkipPins,
        Self::SkipGenerationBump,
        Self::SkipReuseFence,
        Self::SkipAttemptsBound,
        Self::SkipSecondLook,
        Self::RewriteUnderGuard,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SkipRepair => "skip-repair",
            Self::SkipGenerationCheck => "skip-generation-check",
            Self::SkipStampCheck => "skip-stamp-check",
            Self::SkipRedoRecord => "skip-redo-record",
            Self::LinkBeforeCopy => "link-before-copy",
            Self::SkipEpochBump => "skip-epoch-bump",
            Self::ClearBeforeSize => "clear-before-size",
            Self::SlotBeforeFilter => "slot-before-filter",
            Self::SkipLiveBytes => "skip-live-bytes",
            Self::SkipInFlight => "skip-in-flight",
            Self::SkipPins => "skip-pins",
            Self::SkipGenerationBump => "skip-generation-bump",
            Self::SkipReuseFence => "skip-reuse-fence",
            Self::SkipAttemptsBound => "skip-attempts-bound",
            Self::SkipSecondLook => "skip-second-look",
            Self::RewriteUnderGuard => "rewrite-under-guard",
        }
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| {
            format!("{name:?} is no rule; it is one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// Sees every store to shared memory before it happens.
pub trait Shim: Send + Sync + 'static {
    /// Whether a rule is left out; none is in everything that is shipped. Asked wherever a rule stands, so
    /// that it may differ from one time to the next.
    #[inline(always)]
    fn leaves_out(rule: Mutation) -> bool {
        let _ = rule;
        false
    }

    /// So many stamps are between the one of an item and that of a value which overwrites it where it stands:
    /// a value that changes all the time is written to another place each time, so that it can be read.
    const OVERWRITE_APART: i64 = 64;

    /// Whether [`Shim::before_store`] is to be called at all.
    const OBSERVES: bool = false;

    /// Called before the word of `bytes` bytes (8, or 4 of the filter and of guards) at `address` becomes
    /// `value`; of compare-and-swaps, before those that are about to succeed.
    #[inline(always)]
    fn before_store(address: usize, value: u64, bytes: usize) {
        let _ = (address, value, bytes);
    }

    /// Called instead of [`Shim::before_store`] for the word of a guard, or of a loader lease's owner.
    #[inline(always)]
    fn before_guard_store(address: usize, value: u32) {
        Self::before_store(address, value.into(), size_of::<u32>());
    }
}

/// The shim of every shipped binary: does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Shim for Plain {}

/// Whether `S` leaves out `rule`; [`Plain`] leaves out none, so the branch is gone from shipped code.
#[inline(always)]
pub(crate) fn mutated<S: Shim>(rule: Mutation) -> bool {
    S::leaves_out(rule)
}
