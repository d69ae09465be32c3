//! Which client is the store's server: a word that names it, and nothing that has to be given back.
//!
//! The word counts for as long as the client that it names lives, as that of a guard does: a server
//! that is stopped keeps it, one that closed or was killed does not, nor does a forked child.

use super::{Session, Store};
use crate::error::KeepError;
use crate::layout::{ClientState, ClientWord, ServerWord};
use crate::recovery::state_of;
use crate::region::Shim;

impl<S: Shim> Store<S> {
    /// Makes this client the store's server, until its session ends.
    ///
    /// # Errors
    /// `Kept` if another one is, and lives; `Corruption`.
    pub fn keep(&self, session: &Session) -> Result<(), KeepError> {
        self.assert_usable(session);
        let cell = &self.segment.superblock().server;
        let client = session.client();
        let generation = ClientWord::of(self.segment.client(client)?.word.load()).generation;
        let mine = ServerWord { client, generation };
        let mut found = cell.load_acquire();
        while ServerWord::of(found) != Some(mine) {
            if let Some(pid) = self.living_server(found) {
                return Err(KeepError::Kept { pid });
            }
            match cell.compare_exchange::<S>(found, mine.word()) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        Ok(())
    }

    /// The process of the store's server, if it has one that lives.
    pub(super) fn server(&self) -> Option<u32> {
        self.living_server(self.segment.superblock().server.load_acquire())
    }

    /// The process of the client in a word, if it lives.
    fn living_server(&self, word: u64) -> Option<u32> {
        let named = ServerWord::of(word)?;
        // Only hostile bytes name an entry that there is not.
        let entry = self.segment.client(named.client).ok()?;
        let client = ClientWord::of(entry.word.load());
        let lives = client.state != ClientState::Free
            && client.generation == named.generation
            && state_of(&self.segment, named.client).is_some_and(|state| !state.is_dead());
        lives.then_some(client.pid)
    }
}
