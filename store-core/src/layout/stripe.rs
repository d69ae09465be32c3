//! A stripe: the guard of the buckets with the same low bits, its intent, its count of items.
//!
//! The intent is what the holder is about to do, noted before it does it. It is armed by its
//! first word, stored last, and disarmed by a 0 there: whoever takes the guard and finds it armed
//! finishes or undoes the step. Redoing a repair is harmless.

use super::assert_offsets;
use super::slot::Slot;
use crate::region::{Cell32, Cell64, Shared, Shim};

/// See the module: one line of 64 bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Stripe {
    pub(crate) guard: Cell32,
    pub(crate) reserved: Cell32,
    /// Kind in the low 8 bits, the count of items from before in the upper 56; 0: no intent.
    intent: Cell64,
    /// Offset of the slot word that changes.
    intent_cell: Cell64,
    intent_old: Cell64,
    intent_new: Cell64,
    /// The overflow line that is linked or unlinked; of a swap: 1 if `old` goes with its
    /// pieces.
    intent_line: Cell64,
    /// Items whose bucket is of this stripe. Changes only under the guard, by [`Stripe::count_items`].
    pub(crate) items: Cell64,
    pub(crate) reserved_end: Cell64,
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), cells only, two 4-byte ones side by side, so no padding (asserted).
unsafe impl Shared for Stripe {}

assert_offsets!(Stripe, 64, {
    guard: 0,
    intent: 8,
    intent_cell: 16,
    intent_old: 24,
    intent_new: 32,
    intent_line: 40,
    items: 48,
});

/// What an intent is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntentKind {
    /// The slot at `cell` goes from `old` to `new` (either may be empty). `line` is 1 if the item
    /// at `old` goes with its pieces, and 0 if it is moved, or has none.
    Swap,
    /// Overflow line `line` is linked at `cell`, a lane 7 that held `old`; its first lane takes
    /// `old`, its second `new`.
    Link,
    /// The overflow line `line`, linked at `cell`, is unlinked; `cell` takes `new`, the last item
    /// in it, if there is one.
    Unlink,
    /// The item `new` goes up its chain to `cell`, from the lane whose offset is `old`.
    Raise,
    /// The bucket of the line of `cell` is split, and bucket `line` made.
    Split,
    /// The item at `old`, whose slot is at `cell`, becomes where it stands what the stripe's redo record says.
    Overwrite,
}

/// An intent, as copied from the stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) kind: IntentKind,
    pub(crate) items_before: u64,
    pub(crate) cell: u64,
    pub(crate) old: Slot,
    pub(crate) new: Slot,
    pub(crate) line: u64,
}

impl Stripe {
    /// Sets the count of items, and adds it in steps of `step` to the near count of all. Whether it
    /// took a step up.
    ///
    /// Dies between the two: the near count is near, until growth counts anew.
    #[inline]
    pub(crate) fn count_items<S: Shim>(&self, items: u64, near: &Cell64, step: u64) -> bool {
        let before = self.items.load();
        self.items.store::<S>(items);
        let (from, to) = (before / step, items / step);
        if from != to {
            near.fetch_add::<S>(to.wrapping_sub(from).wrapping_mul(step));
        }
        to > from
    }

    /// Notes `intent` and arms it.
    #[inline]
    pub(crate) fn arm<S: Shim>(&self, intent: &Intent) {
        self.intent_cell.store::<S>(intent.cell);
        self.intent_old.store::<S>(intent.old.0);
        self.intent_new.store::<S>(intent.new.0);
        self.intent_line.store::<S>(intent.line);
        let kind = match intent.kind {
            IntentKind::Swap => 1,
            IntentKind::Link => 2,
            IntentKind::Unlink => 3,
            IntentKind::Raise => 4,
            IntentKind::Split => 5,
            IntentKind::Overwrite => 6,
        };
        self.intent.store::<S>(intent.items_before << 8 | kind);
    }

    /// Forgets the intent: done, or undone.
    #[inline]
    pub(crate) fn disarm<S: Shim>(&self) {
        self.intent.store::<S>(0);
    }

    /// Whether an intent is armed.
    #[inline]
    pub(crate) fn armed(&self) -> bool {
        self.intent.load() != 0
    }

    /// The armed intent; `None` if there is none, or of no kind that is known.
    pub(crate) fn intent(&self) -> Option<Intent> {
        let word = self.intent.load();
        let kind = match word & 0xFF {
            1 => IntentKind::Swap,
            2 => IntentKind::Link,
            3 => IntentKind::Unlink,
            4 => IntentKind::Raise,
            5 => IntentKind::Split,
            6 => IntentKind::Overwrite,
            _ => return None,
        };
        Some(Intent {
            kind,
            items_before: word >> 8,
            cell: self.intent_cell.load(),
            old: Slot(self.intent_old.load()),
            new: Slot(self.intent_new.load()),
            line: self.intent_line.load(),
        })
    }
}
