//! Who is told what a store drops by itself.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::namespace::name_of;
use super::{Session, Store};
use crate::error::Corruption;
use crate::layout::Header;
use crate::region::Shim;

/// Why an item is gone that nobody deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Room was needed, and it was wanted least.
    Evicted,
    /// Its time was over.
    Expired,
}

/// An item that is gone and that nobody deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gone {
    /// The name of its namespace, if it had one.
    pub namespace: Option<String>,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; of a counter, the number as text.
    pub value: Vec<u8>,
    /// Why it is gone.
    pub cause: Cause,
}

type Tell = Box<dyn Fn(Gone) + Send + Sync>;

/// A session's listener, and what it was not told yet.
#[derive(Default)]
pub(super) struct Listener {
    tell: OnceLock<Tell>,
    some: AtomicBool,
    gone: Mutex<Vec<Gone>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("listens", &self.tell.get().is_some())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Has `tell` called for each item that this session drops because it expired, or to make room,
    /// after the operation that did it, when no guard is held: it may use the store. Items that
    /// other sessions drop are theirs to tell. `false` if somebody listens already.
    pub fn listen(&self, tell: impl Fn(Gone) + Send + Sync + 'static) -> bool {
        self.listener.tell.set(Box::new(tell)).is_ok()
    }
}

impl<S: Shim> Store<S> {
    /// Notes that an item is about to be removed, for the session's listener; under its guard.
    #[inline]
    pub(super) fn note_gone(
        &self,
        session: &Session,
        (item, header): (u64, Header),
        cause: Cause,
    ) -> Result<(), Corruption> {
        if session.listener.tell.get().is_some() {
            self.keep_gone(session, (item, header), cause)?;
        }
        Ok(())
    }

    #[cold]
    fn keep_gone(
        &self,
        session: &Session,
        (item, header): (u64, Header),
        cause: Cause,
    ) -> Result<(), Corruption> {
        let mut key = Vec::new();
        self.segment.copy_key(item, header, &mut key)?;
        let mut value = Vec::new();
        match self.number(item, header)? {
            Some(number) => value.extend_from_slice(number.to_string().as_bytes()),
            None => self.append_held(item, header, &mut value)?,
        }
        let namespace = match header.namespace {
            0 => None,
            namespace => self.segment.namespace_record(namespace).map(name_of),
        };
        session.listener.gone.lock().push(Gone { namespace, key, value, cause });
        session.listener.some.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Tells the session's listener what was noted; outside of any guard. One load if nothing was.
    #[inline]
    pub(super) fn tell_gone(&self, session: &Session) {
        if session.listener.some.load(Ordering::Relaxed) {
            session.listener.tell_all();
        }
    }
}

impl Listener {
    #[cold]
    fn tell_all(&self) {
        self.some.store(false, Ordering::Relaxed);
        let gone = std::mem::take(&mut *self.gone.lock());
        if let Some(tell) = self.tell.get() {
            gone.into_iter().for_each(tell);
        }
    }
}
