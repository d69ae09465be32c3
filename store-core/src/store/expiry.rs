//! Time to live. One clock for all clients: the coarse monotonic clock (one tick of about 4 ms
//! off) plus an offset in the superblock that is set anew after a reboot. Tolerance 10 ms.

use std::time::Duration;

use super::{PutOptions, Store};
use crate::error::{Corruption, WriteError};
use crate::layout::{Header, flags};
use crate::region::{Cell64, Shim};
use crate::sys::clock;

/// How much earlier or later than asked an item may be gone: two ticks of the clock, and some more.
pub(super) const TTL_TOLERANCE: Duration = Duration::from_millis(10);

/// The longest time to live: about a thousand years.
pub(super) const TTL_MS_MAX: u64 = 1000 * 366 * 24 * 3600 * 1000;

/// How long an item still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// Until it is deleted.
    Never,
    /// So long, in whole milliseconds.
    Left(Duration),
}

impl<S: Shim> Store<S> {
    /// The segment's time in milliseconds. About 5 ns, no system call.
    #[inline]
    pub(super) fn now_ms(&self) -> u64 {
        clock::monotonic_coarse_ms().wrapping_add(self.clock_offset_ms)
    }

    /// When an item written now with this time to live, or that of its namespace, expires.
    ///
    /// # Errors
    /// `InvalidTtl` for less than a millisecond or more than about a thousand years.
    #[inline(always)]
    pub(super) fn expiry_of(&self, ttl: Option<Duration>) -> Result<Option<u64>, WriteError> {
        self.expiry_after(ttl.or_else(|| self.default_ttl()))
    }

    /// When an item written with options expires.
    ///
    /// # Errors
    /// As for [`Store::expiry_of`].
    #[inline(always)]
    pub(super) fn expiry_with(&self, options: &PutOptions) -> Result<Option<u64>, WriteError> {
        if options.for_ever { Ok(None) } else { self.expiry_of(options.ttl) }
    }

    /// [`Store::expiry_of`] where no time to live means for ever, whatever the namespace says.
    #[inline(always)]
    pub(super) fn expiry_after(&self, ttl: Option<Duration>) -> Result<Option<u64>, WriteError> {
        ttl.map(|ttl| self.expiry_in(ttl)).transpose()
    }

    /// When an item expires that lives so long from now.
    ///
    /// # Errors
    /// As for [`Store::expiry_of`].
    fn expiry_in(&self, ttl: Duration) -> Result<u64, WriteError> {
        match u64::try_from(ttl.as_millis()) {
            Ok(millis @ 1..=TTL_MS_MAX) => Ok(self.now_ms().saturating_add(millis)),
            _ => Err(WriteError::InvalidTtl { millis: ttl.as_millis(), limit: TTL_MS_MAX }),
        }
    }

    /// The expiry word of the item at `item`, if it has one.
    #[inline(always)]
    pub(super) fn expiry_word(&self, item: u64, header: Header) -> Result<Option<u64>, Corruption> {
        if !header.has(flags::EXPIRES) {
            return Ok(None);
        }
        let word = self.segment.region.view::<Cell64>(item + header.shape().expiry)?.load();
        Ok(Some(word))
    }

    /// Whether the item at `item` has expired. Asks the clock only where there is an expiry.
    #[inline(always)]
    pub(super) fn is_expired(&self, item: u64, header: Header) -> Result<bool, Corruption> {
        Ok(self.expiry_word(item, header)?.is_some_and(|expiry| expiry <= self.now_ms()))
    }

    /// The time to live that an expiry word leaves.
    pub(super) fn ttl_left(&self, expiry: Option<u64>) -> Ttl {
        match expiry {
            None => Ttl::Never,
            Some(expiry) => Ttl::Left(Duration::from_millis(expiry.saturating_sub(self.now_ms()))),
        }
    }
}
