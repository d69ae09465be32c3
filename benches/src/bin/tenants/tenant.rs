//! A namespace in use: keys of a Zipf distribution are looked up, and put where they are missing.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, Zipf};

use store_benches::records::{Stamp, fill, key_of, mix, varied_len, verify};
use store_client::{WriteError, Writer};

/// Exponent of the Zipf distribution.
const ZIPF_EXPONENT: f64 = 0.9;
const VALUE_BYTES: std::ops::Range<usize> = 64..1024;

/// What a tenant asked and was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) lookups: u64,
    pub(crate) hits: u64,
    pub(crate) refused: u64,
    pub(crate) wrong_values: u64,
}

impl Counted {
    /// Hits among the lookups, in percent.
    pub(crate) fn hit_percent(&self) -> f64 {
        self.hits as f64 * 100.0 / self.lookups.max(1) as f64
    }
}

/// The same requests for the same seed, whatever goes on beside.
pub(crate) struct Tenant<'a> {
    keys: &'a Writer,
    zipf: Zipf<f64>,
    rng: SmallRng,
    found: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Tenant<'a> {
    /// Asks for so many keys.
    pub(crate) fn new(keys: &'a Writer, number: u32, seed: u64) -> Result<Self> {
        Ok(Self {
            keys,
            zipf: Zipf::new(number.into(), ZIPF_EXPONENT).context("a Zipf distribution")?,
            rng: SmallRng::seed_from_u64(seed),
            found: vec![0; VALUE_BYTES.end],
            value: Vec::new(),
        })
    }

    pub(crate) fn ask(&mut self, requests: u64) -> Result<Counted> {
        let mut counted = Counted::default();
        for _ in 0..requests {
            let number = self.zipf.sample(&mut self.rng) as u32;
            let key = key_of(number);
            counted.lookups += 1;
            if let Some(len) = self.keys.get_into(&key, &mut self.found)? {
                counted.hits += 1;
                let torn = verify(&key, &self.found[..len]).is_err();
                counted.wrong_values += u64::from(torn);
                continue;
            }
            let len = varied_len(mix(number.into()), VALUE_BYTES.start, VALUE_BYTES.end);
            fill(&mut self.value, &key, Stamp { writer: 0, seq: number }, len);
            match self.keys.put(&key, &self.value) {
                Ok(_) => {}
                Err(
                    WriteError::Full(_)
                    | WriteError::QuotaFull { .. }
                    | WriteError::IndexFull { .. },
                ) => counted.refused += 1,
                Err(error) => return Err(error).context("a put"),
            }
        }
        Ok(counted)
    }
}
