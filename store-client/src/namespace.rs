//! Namespaces: keys of their own in one store, each with a quota, a time to live, a mode and numbers
//! of its own.
//!
//! ```
//! use std::time::Duration;
//! use store_client::{CreateOptions, Mode, NamespaceOptions, Writer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Writer::private(&CreateOptions::new(64 << 20).mode(Mode::Cache))?;
//! let sessions = NamespaceOptions::new().quota(16 << 20).default_ttl(Duration::from_secs(1800));
//! store.create_namespace("sessions", &sessions)?;
//! let sessions = store.namespace("sessions")?;
//! sessions.put(b"42", b"Ada")?;
//! assert_eq!(sessions.get(b"42")?.as_deref(), Some(&b"Ada"[..]));
//! assert_eq!(store.get(b"42")?, None, "keys without a namespace are others");
//! assert_eq!(store.namespaces()?[0].items, 1);
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use store_core::{Corruption, NamespaceError, NamespaceInfo, NamespaceOptions};

use crate::reader::Reader;
use crate::writer::Writer;

impl Reader {
    /// The keys of a namespace, on the same mapping. It goes on while other handles are dropped. Once
    /// the namespace is removed every key of it is a miss, also if there is one of that name again.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn namespace(&self, name: &str) -> Result<Self, NamespaceError> {
        Ok(Self { store: Arc::new(self.store.in_namespace(name)?), tally: None })
    }

    /// The namespaces that there are, in the order of their numbers. Looks through the extents once
    /// for each that has a quota.
    ///
    /// # Errors
    /// `Corruption` where the store's bytes make no sense.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>, Corruption> {
        self.store.namespaces()
    }
}

impl Writer {
    /// Makes a namespace. A store has room for 255 of them, one below 4 MiB for fewer, at least
    /// 127.
    ///
    /// # Errors
    /// See [`NamespaceError`]; nothing was made then.
    pub fn create_namespace(
        &self,
        name: &str,
        options: &NamespaceOptions,
    ) -> Result<(), NamespaceError> {
        self.reader().store.create_namespace(self.session()?, name, options)
    }

    /// Changes what its options say of a namespace, and nothing else of it. What is beyond a smaller
    /// quota goes as writes to it need room; in store mode such writes are refused meanwhile.
    ///
    /// # Errors
    /// See [`NamespaceError`]; nothing was changed then.
    pub fn change_namespace(
        &self,
        name: &str,
        options: &NamespaceOptions,
    ) -> Result<(), NamespaceError> {
        self.reader().store.change_namespace(self.session()?, name, options)
    }

    /// Deletes a namespace and all its items; how many these were. From its beginning on writes to
    /// it are refused with `NamespaceGone`, by every handle that has it. If this process dies halfway
    /// the namespace is `leaving`: remove it again.
    ///
    /// # Errors
    /// `NotFound`; `Stuck` if a stopped process holds a guard.
    pub fn remove_namespace(&self, name: &str) -> Result<u64, NamespaceError> {
        self.reader().store.remove_namespace(self.session()?, name)
    }

    /// The keys of a namespace, for reading and writing: the same registration, so as cheap as
    /// another reference. What it looks up is counted for the namespace.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn namespace(&self, name: &str) -> Result<Self, NamespaceError> {
        Ok(self.on(Arc::new(self.reader().store.in_namespace(name)?)))
    }
}

#[cfg(test)]
mod tests {
    use store_core::{CreateOptions, NamespaceOptions, WriteError};

    use crate::Writer;

    #[test]
    fn handles_of_one_registration_end_apart() {
        let store = Writer::private(&CreateOptions::new(4 << 20)).expect("memory");
        store.create_namespace("n", &NamespaceOptions::new()).expect("a record");
        let place = store.namespace("n").expect("it is there");
        drop(store);
        place.put(b"k", b"v").expect("the registration stands");
        let other = place.namespace("n").expect("it is there");
        let reader = place.into_protected_reader().expect("mprotect");
        assert_eq!(reader.get(b"k"), Ok(Some(b"v".to_vec())));
        assert!(matches!(other.put(b"k", b"w"), Err(WriteError::Closed)));
        assert!(other.create_namespace("m", &NamespaceOptions::new()).is_err());
        assert_eq!(other.get(b"k"), Ok(Some(b"v".to_vec())));
        drop(other);
        assert_eq!(reader.get(b"k"), Ok(Some(b"v".to_vec())));
    }
}
