//! Values of types whose bytes are their value: nothing is encoded, the length is checked.

use std::any::type_name;

use store_core::{PutOptions, WriteError};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::TypedReadError;
use crate::reader::Reader;
use crate::writer::{Stored, Writer};

impl Reader {
    /// The value of `key` as a `T`, copied out. The value must be exactly as long as a `T`; its
    /// bytes are the type's in memory, so use types of a fixed layout (`repr(C)`) and, for files
    /// that travel, of a fixed byte order. Costs a [`get_with`](Reader::get_with) and a copy.
    /// Needs the feature `zerocopy`.
    ///
    /// ```
    /// # use store_client::{CreateOptions, PutOptions, TypedReadError, Writer};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes};
    ///
    /// #[derive(Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
    /// #[repr(C)]
    /// struct Price {
    ///     bid: f64,
    ///     ask: f64,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// let price = Price { bid: 1.0840, ask: 1.0842 };
    /// store.put_zerocopy(b"EURUSD", &price, &PutOptions::new())?;
    /// assert_eq!(store.get_zerocopy::<Price>(b"EURUSD")?, Some(price));
    /// let shorter = store.get_zerocopy::<f64>(b"EURUSD");
    /// assert!(matches!(shorter, Err(TypedReadError::WrongSize { expected: 8, found: 16, .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `WrongSize` with both sizes; `Read`. A counter is decimal text, not 8 bytes.
    pub fn get_zerocopy<T: FromBytes>(&self, key: &[u8]) -> Result<Option<T>, TypedReadError> {
        self.get_with(key, |bytes| {
            T::read_from_bytes(bytes).map_err(|_| TypedReadError::WrongSize {
                type_name: type_name::<T>(),
                expected: size_of::<T>(),
                found: bytes.len(),
            })
        })?
        .transpose()
    }
}

impl Writer {
    /// Puts the bytes of `value` under `key`. Costs a put. Needs the feature `zerocopy`; for an
    /// example see [`get_zerocopy`](Reader::get_zerocopy).
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put_zerocopy<T: IntoBytes + Immutable + ?Sized>(
        &self,
        key: &[u8],
        value: &T,
        options: &PutOptions,
    ) -> Result<Stored, WriteError> {
        self.put_with(key, value.as_bytes(), options)
    }
}
