//! A reader on damaged bytes: it comes to an end, or the kernel ends it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_benches::mortal::Mortal;
use store_core::{Store, from_image};
use store_testing::pair::{Op, Pair, geometries, key};

/// How long it reads, and the processor time that it has for that.
const READS_FOR: Duration = Duration::from_secs(3);
const CPU_MAX_S: u64 = 10;

/// Reads all keys of images in which words were changed. How often something was found is
/// 0: what is wrong here is to have no end, and that ends the process.
pub(crate) fn read_damaged() -> Result<u64> {
    setrlimit(Resource::RLIMIT_CPU, CPU_MAX_S, CPU_MAX_S).context("a limit on processor time")?;
    let mut pair = Pair::<Mortal>::new(&geometries()[0]);
    for number in 0..48 {
        pair.apply(&Op::Put(number, usize::from(number) * 11));
    }
    let whole = pair.store.image()?;
    let mut rng = SmallRng::seed_from_u64(1);
    let start = Instant::now();
    while start.elapsed() < READS_FOR {
        let mut image = whole.clone();
        for _ in 0..20 {
            let at = rng.random_range(0..image.len() / 8) * 8;
            image[at..at + 8].copy_from_slice(&rng.random::<u64>().to_le_bytes());
        }
        let Ok(store): Result<Store<Mortal>, _> = from_image(&image) else { continue };
        for number in 0..48 {
            // An error, a miss or a value: whichever, and in the end.
            let _ = store.get(&key(number));
        }
    }
    Ok(0)
}
