//! Values of Rust types instead of bytes.

mod error;
#[cfg(feature = "serde")]
mod postcard;
#[cfg(feature = "zerocopy")]
mod zerocopy;

pub use error::TypedReadError;
#[cfg(feature = "serde")]
pub use error::TypedWriteError;
