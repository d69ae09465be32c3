//! Values of any type that serde knows, in the encoding of postcard: compact, without names and
//! without a version. Who changes the type changes the encoding.

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;
use store_core::PutOptions;

use super::{TypedReadError, TypedWriteError};
use crate::reader::Reader;
use crate::writer::{Stored, Writer};

impl Reader {
    /// The value of `key`, decoded with postcard. The whole value must be the encoding of one `T`.
    /// Costs a [`get_with`](Reader::get_with) and the decoding. Needs the feature `serde`.
    ///
    /// ```
    /// # use store_client::{CreateOptions, PutOptions, Writer};
    /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Session {
    ///     user: String,
    ///     roles: Vec<u16>,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// let session = Session { user: "ada".to_owned(), roles: vec![1, 7] };
    /// store.put_postcard(b"session:4711", &session, &PutOptions::new())?;
    /// assert_eq!(store.get_postcard::<Session>(b"session:4711")?, Some(session));
    /// assert_eq!(store.get_postcard::<Session>(b"session:4712")?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Decode` if the value is no such encoding, or has bytes behind it; `Read`.
    pub fn get_postcard<T: DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<T>, TypedReadError> {
        self.get_with(key, |bytes| match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err((bytes.len(), postcard::Error::DeserializeBadEncoding)),
            Err(source) => Err((bytes.len(), source)),
        })?
        .transpose()
        .map_err(|(found, source)| TypedReadError::Decode {
            type_name: type_name::<T>(),
            found,
            source,
        })
    }
}

impl Writer {
    /// Puts `value` under `key`, encoded with postcard. Costs the encoding into new memory and a
    /// put. Needs the feature `serde`; for an example see
    /// [`get_postcard`](Reader::get_postcard).
    ///
    /// # Errors
    /// `Encode` if serde can't serialise the value (a sequence of unknown length); `Write`.
    pub fn put_postcard<T: Serialize + ?Sized>(
        &self,
        key: &[u8],
        value: &T,
        options: &PutOptions,
    ) -> Result<Stored, TypedWriteError> {
        let bytes = postcard::to_stdvec(value)
            .map_err(|source| TypedWriteError::Encode { type_name: type_name::<T>(), source })?;
        Ok(self.put_with(key, &bytes, options)?)
    }
}
