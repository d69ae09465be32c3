//! A read-only client on a segment with arbitrary bytes: errors and misses, nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store_core::{Plain, from_image};
use store_fuzz::{bounded, changed_image, read};

fuzz_target!(|input: &[u8]| {
    // A few inputs are whole segments themselves.
    let image = if input.starts_with(b"CISTERN") { input.to_vec() } else { changed_image(input) };
    let Ok(store) = bounded("attach", || from_image::<Plain>(&image)) else { return };
    read(&store);
});
