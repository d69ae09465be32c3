//! Random numbers of the kernel.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Up to 256 bytes, which the kernel gives at once.
///
/// # Errors
/// Those of `getrandom(2)`: `ENOSYS` before Linux 3.17, and where it is forbidden.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut random = [0; N];
    // A signal comes in between while the kernel has collected too few after the boot.
    let got = rustix::io::retry_on_intr(|| getrandom(&mut random, GetRandomFlags::empty()))?;
    if got == N { Ok(random) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// An id that nothing else has.
///
/// # Errors
/// Those of [`bytes`].
pub(crate) fn id() -> io::Result<u128> {
    Ok(uuid::Builder::from_random_bytes(bytes()?).into_uuid().as_u128())
}
