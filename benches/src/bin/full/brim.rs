//! A store that is filled until it refuses, kept there, and asked for what it must still do.

use anyhow::{Result, bail, ensure};
use indicatif::ProgressBar;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_benches::records::{Key, Stamp, fill, key_of, varied_len, verify};
use store_client::{Reader, WriteError, Writer};

use crate::content::Content;

/// Values of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    Of(usize),
    /// From the first to below the second, each doubling equally likely.
    Mixed(usize, usize),
}

/// A key that stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    number: u32,
    /// Its value's.
    len: usize,
}

/// What refused puts and freed room showed.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) refused: u64,
    /// Refused puts after which something was not as before.
    pub(crate) refused_changed: u64,
    /// Puts that were taken although the store had just refused another one.
    pub(crate) accepted_after_refusal: u64,
    pub(crate) delete_then_put_failed: u64,
    pub(crate) violations: u64,
}

pub(crate) struct Brim<'a> {
    writer: &'a Writer,
    /// Attached by itself.
    reader: &'a Reader,
    values: Values,
    rng: SmallRng,
    standing: Vec<Standing>,
    next: u32,
    value: Vec<u8>,
    pub(crate) findings: Findings,
}

/// Ways to need room.
#[derive(Clone, Copy, Debug)]
enum Need {
    NewKey,
    LargerValue,
    Append,
}

impl<'a> Brim<'a> {
    pub(crate) fn new(writer: &'a Writer, reader: &'a Reader, values: Values, seed: u64) -> Self {
        Self {
            writer,
            reader,
            values,
            rng: SmallRng::seed_from_u64(seed),
            standing: Vec::new(),
            next: 0,
            value: Vec::new(),
            findings: Findings::default(),
        }
    }

    pub(crate) fn items(&self) -> usize {
        self.standing.len()
    }

    /// Puts until one is refused; the length of that one.
    pub(crate) fn fill(&mut self) -> Result<usize> {
        loop {
            let len = match self.values {
                Values::Of(len) => len,
                Values::Mixed(min, max) => varied_len(self.rng.random(), min, max),
            };
            if !self.put_new(len)? {
                return Ok(len);
            }
        }
    }

    /// Puts a key that never was; whether it was taken.
    fn put_new(&mut self, len: usize) -> Result<bool> {
        let number = self.next;
        let key = self.make(number, len);
        self.next += 1;
        let taken = taken(self.writer.put(&key, &self.value))?;
        if taken {
            self.standing.push(Standing { number, len });
        } else {
            self.findings.refused += 1;
        }
        Ok(taken)
    }

    /// Makes the value of a key.
    fn make(&mut self, number: u32, len: usize) -> Key {
        let key = key_of(number);
        fill(&mut self.value, &key, Stamp { writer: 0, seq: number }, len);
        key
    }

    /// Has puts of all kinds refused, for `len` bytes, and compares everything before and after.
    pub(crate) fn compare_refusals(&mut self, len: usize) -> Result<()> {
        let first_violations = self.reader.check(|_, _| {}).violations_total;
        self.findings.violations += first_violations;
        for need in [Need::NewKey, Need::LargerValue, Need::Append] {
            let before = Content::of(self.reader)?;
            if self.attempt(need, len)? {
                self.findings.accepted_after_refusal += 1;
                continue;
            }
            let same = Content::of(self.reader)? == before;
            let violations = self.reader.check(|_, _| {}).violations_total;
            self.findings.violations += violations;
            if !same || violations > first_violations {
                println!("a refused put ({need:?}, {len} bytes) changed the store");
                self.findings.refused_changed += 1;
            }
        }
        Ok(())
    }

    /// Whether it was taken.
    fn attempt(&mut self, need: Need, len: usize) -> Result<bool> {
        let at = self.rng.random_range(0..self.standing.len());
        let Standing { number, len: present } = self.standing[at];
        let taken = match need {
            Need::NewKey => return self.put_new(len),
            Need::LargerValue => {
                let key = self.make(number, len + present);
                taken(self.writer.put(&key, &self.value))?
            }
            Need::Append => {
                let key = key_of(number);
                taken(self.writer.append(&key, &vec![0; len]))?
            }
        };
        match taken {
            // Its value has become another one, so it is none of those that are verified.
            true => self.delete(at)?,
            false => self.findings.refused += 1,
        }
        Ok(taken)
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        let gone = self.standing.swap_remove(at);
        ensure!(self.writer.delete(&key_of(gone.number))?, "key {} was lost", gone.number);
        Ok(())
    }

    /// Deletes any key, and puts another one with as many bytes, `rounds` times.
    pub(crate) fn delete_then_put(&mut self, rounds: u32, bar: &ProgressBar) -> Result<()> {
        for _ in 0..rounds {
            let at = self.rng.random_range(0..self.standing.len());
            let len = self.standing[at].len;
            self.delete(at)?;
            if !self.put_new(len)? {
                self.findings.delete_then_put_failed += 1;
                // What was deleted would be room for those that follow.
                self.fill()?;
            }
            bar.inc(1);
        }
        Ok(())
    }

    /// How many keys don't have, for the second reader, the value that was put.
    pub(crate) fn wrong_values(&self) -> Result<u64> {
        let mut wrong = u64::from(self.reader.len() != self.standing.len() as u64);
        for standing in &self.standing {
            let key = key_of(standing.number);
            let right = self.reader.get_with(&key, |value| {
                value.len() == standing.len
                    && verify(&key, value).is_ok_and(|stamp| stamp.seq == standing.number)
            })?;
            wrong += u64::from(right != Some(true));
        }
        Ok(wrong)
    }
}

/// Whether a write was taken; an error unless it was refused for want of room.
fn taken<T>(answer: Result<T, WriteError>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => Ok(false),
        Err(error) => bail!(error),
    }
}
