//! The registrations of a writer's handles: one for each process that has them.

use std::sync::Arc;

use once_cell::race::OnceBox;
use store_core::{AttachError, Session, Store, WriteError};

/// The session of a process, and behind it those of its forked children, each in its own copy.
/// Closed when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Sessions {
    store: Arc<Store>,
    first: Link,
}

/// A list that only grows, without a lock: one that another thread held at the fork would stay
/// locked.
#[derive(Debug)]
struct Link {
    session: Session,
    forked: OnceBox<Link>,
}

impl Sessions {
    pub(crate) fn open(store: &Arc<Store>) -> Result<Self, AttachError> {
        let first = Link { session: store.open_session()?, forked: OnceBox::new() };
        Ok(Self { store: Arc::clone(store), first })
    }

    /// This process's session: after a fork, the child's own.
    #[inline]
    pub(crate) fn session(&self) -> Result<&Session, WriteError> {
        let session = match self.first.session.is_of_this_process() {
            true => &self.first.session,
            false => self.session_after_fork()?,
        };
        if session.is_closed() { Err(WriteError::Closed) } else { Ok(session) }
    }

    #[cold]
    fn session_after_fork(&self) -> Result<&Session, WriteError> {
        let mut link = &self.first;
        while !link.session.is_of_this_process() {
            link = match link.forked.get() {
                Some(next) => next,
                None => {
                    let session = self
                        .store
                        .open_session()
                        .map_err(|error| WriteError::Reattach(Box::new(error)))?;
                    let fresh = Box::new(Link { session, forked: OnceBox::new() });
                    if let Err(mine) = link.forked.set(fresh) {
                        // Another thread of the child was faster.
                        self.store.close_session(&mine.session)?;
                    }
                    continue;
                }
            };
        }
        Ok(&link.session)
    }

    /// The session of this process, or, if it never wrote, that of a process before it.
    pub(crate) fn last(&self) -> &Session {
        let mut link = &self.first;
        while !link.session.is_of_this_process() {
            match link.forked.get() {
                Some(next) => link = next,
                None => break,
            }
        }
        &link.session
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        let mut link = Some(&self.first);
        while let Some(Link { session, forked }) = link {
            // Does nothing for the sessions of other processes. A session that can't be closed is
            // reaped when the process is gone.
            let _ = self.store.close_session(session);
            link = forked.get();
        }
    }
}
