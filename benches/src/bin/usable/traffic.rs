//! A cache in use: keys of a Zipf distribution are looked up, and put where they are missing.

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

use store_benches::records::{LEN_MIN, Stamp, fill, key_of, mix, varied_len, verify};
use store_client::{WriteError, Writer};

/// Exponent of the Zipf distribution: a third or a quarter of the lookups miss.
const ZIPF_EXPONENT: f64 = 0.8;
/// So many times more keys than the store has room for.
const KEYS_PER_ITEM: u32 = 4;
/// The longest key and header, and what alignment adds.
const ITEM_BYTES_MORE: u64 = 36;

/// Values of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    Of(usize),
    /// From the first to below the second, each doubling equally likely.
    Mixed(usize, usize),
}

impl Values {
    pub(crate) fn len_max(self) -> usize {
        match self {
            Self::Of(len) => len,
            Self::Mixed(_, max) => max,
        }
    }

    fn len(self, seed: u64) -> usize {
        match self {
            Self::Of(len) => len,
            Self::Mixed(min, max) => varied_len(seed, min, max),
        }
    }

    /// How many items fill `bytes`, near.
    pub(crate) fn items_in(self, bytes: u64) -> u32 {
        const DRAWN: u64 = 10_000;
        let lens: u64 = (0..DRAWN).map(|seed| self.len(seed) as u64).sum();
        u32::try_from(bytes / (lens / DRAWN + ITEM_BYTES_MORE)).unwrap_or(u32::MAX / KEYS_PER_ITEM)
    }
}

/// What a store was asked and answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) lookups: u64,
    pub(crate) hits: u64,
    pub(crate) puts: u64,
    /// Of these: of a key that was there.
    pub(crate) overwrites: u64,
    pub(crate) put_bytes: u64,
    pub(crate) refused: u64,
    pub(crate) wrong_values: u64,
}

pub(crate) struct Traffic<'a> {
    writer: &'a Writer,
    values: Values,
    /// Each put of a missing key is followed by one of a key that is there, with another length.
    overwrites: bool,
    zipf: Zipf<f64>,
    rng: SmallRng,
    found: Vec<u8>,
    value: Vec<u8>,
    pub(crate) counted: Counted,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(
        writer: &'a Writer,
        values: Values,
        overwrites: bool,
        items: u32,
        seed: u64,
    ) -> Result<Self> {
        let keys = f64::from(items) * f64::from(KEYS_PER_ITEM);
        Ok(Self {
            writer,
            values,
            overwrites,
            zipf: Zipf::new(keys, ZIPF_EXPONENT).context("a Zipf distribution")?,
            rng: SmallRng::seed_from_u64(seed),
            found: vec![0; values.len_max().max(LEN_MIN)],
            value: Vec::new(),
            counted: Counted::default(),
        })
    }

    /// Goes on until so many bytes of keys and values were put in all.
    pub(crate) fn go_on_until(&mut self, put_bytes: u64) -> Result<()> {
        while self.counted.put_bytes < put_bytes {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let number = self.zipf.sample(&mut self.rng) as u32;
        let key = key_of(number);
        self.counted.lookups += 1;
        let hit = match self.writer.get_into(&key, &mut self.found)? {
            Some(len) => {
                self.counted.hits += 1;
                self.counted.wrong_values += u64::from(verify(&key, &self.found[..len]).is_err());
                true
            }
            None => false,
        };
        let counted = &mut self.counted;
        let seed = match hit {
            // A key has its length, as long as it is not overwritten.
            false => mix(number.into()),
            true if self.overwrites && counted.overwrites * 2 < counted.puts => {
                counted.overwrites += 1;
                self.rng.random()
            }
            true => return Ok(()),
        };
        fill(&mut self.value, &key, Stamp { writer: 0, seq: number }, self.values.len(seed));
        counted.puts += 1;
        counted.put_bytes += (key.len() + self.value.len()) as u64;
        match self.writer.put(&key, &self.value) {
            Ok(_) => {}
            Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => counted.refused += 1,
            Err(error) => return Err(error).context("a put"),
        }
        Ok(())
    }
}
