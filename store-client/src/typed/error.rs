//! Why a typed value could not be read or written.

use store_core::ReadError;
#[cfg(feature = "serde")]
use store_core::WriteError;

/// Why a typed get gave no value. A key that is absent is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedReadError {
    /// The lookup failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The value is not as long as the type.
    #[cfg(feature = "zerocopy")]
    #[error("the value has {found} bytes, a {type_name} has {expected}")]
    WrongSize {
        /// The type that was asked for.
        type_name: &'static str,
        /// Its size in bytes.
        expected: usize,
        /// Length of the value in bytes.
        found: usize,
    },
    /// The value is not the encoding of such a type.
    #[cfg(feature = "serde")]
    #[error("the value of {found} bytes is no {type_name} as postcard encodes it: {source}")]
    Decode {
        /// The type that was asked for.
        type_name: &'static str,
        /// Length of the value in bytes.
        found: usize,
        /// What postcard says.
        source: ::postcard::Error,
    },
}

/// Why a typed put was refused. Nothing was changed by it.
#[cfg(feature = "serde")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedWriteError {
    /// The put was refused.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The value can't be encoded.
    #[error("a {type_name} can't be encoded with postcard: {source}")]
    Encode {
        /// The type of the value.
        type_name: &'static str,
        /// What postcard says.
        source: ::postcard::Error,
    },
}
