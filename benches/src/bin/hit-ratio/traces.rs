//! The recorded traces, read into keys that are numbered from 0 in the order they first appear.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hashbrown::HashMap;
use ruzstd::decoding::StreamingDecoder;

/// Bytes of an `oracleGeneral` request, and where its key is in them.
const RECORD_BYTES: usize = 24;
const RECORD_KEY: std::ops::Range<usize> = 4..12;

/// A file of requests, and the capacities that are asked of it.
pub(crate) struct Recording {
    pub(crate) name: &'static str,
    file: &'static str,
    form: Form,
    requests: usize,
    keys: u32,
    /// Capacities, of all its keys.
    pub(crate) percents: &'static [u32],
    /// Short enough for `--quick`.
    pub(crate) short: bool,
}

enum Form {
    Lis,
    OracleGeneral,
}

/// All of `benches/traces`.
pub(crate) const RECORDINGS: [Recording; 3] = [
    Recording {
        name: "OLTP",
        file: "OLTP.lis.zst",
        form: Form::Lis,
        requests: 914_145,
        keys: 186_880,
        percents: &[1, 5, 10, 20],
        short: true,
    },
    Recording {
        name: "cloudPhysicsIO",
        file: "cloudPhysicsIO.oracleGeneral.bin.zst",
        form: Form::OracleGeneral,
        requests: 113_872,
        keys: 48_974,
        percents: &[5, 10, 20],
        short: true,
    },
    Recording {
        name: "P3",
        file: "P3.lis.zst",
        form: Form::Lis,
        requests: 3_912_296,
        keys: 762_543,
        percents: &[5, 10, 20],
        short: false,
    },
];

/// The requests of a recording.
pub(crate) struct Trace {
    /// The numbers of the keys in the order they are asked for.
    pub(crate) requests: Vec<u32>,
    /// How many different ones; all numbers are below.
    pub(crate) keys: u32,
}

/// Where the recordings of this repository are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces")
}

impl Recording {
    /// Items that a cache of so many percent of all keys has.
    pub(crate) fn capacity(&self, percent: u32) -> u32 {
        (u64::from(self.keys) * u64::from(percent) / 100) as u32
    }

    /// Requests that are played, over all capacities.
    pub(crate) fn plays(&self) -> u64 {
        self.requests as u64 * self.percents.len() as u64
    }

    pub(crate) fn read(&self, folder: &Path) -> Result<Trace> {
        let path = folder.join(self.file);
        let trace =
            self.decode(&path).with_context(|| format!("{} can't be read", path.display()))?;
        ensure!(
            trace.requests.len() == self.requests && trace.keys == self.keys,
            "{} has {} requests for {} keys instead of {} for {}: take the file of benches/traces",
            path.display(),
            trace.requests.len(),
            trace.keys,
            self.requests,
            self.keys,
        );
        Ok(trace)
    }

    fn decode(&self, path: &Path) -> Result<Trace> {
        let compressed = fs::read(path)?;
        let mut bytes = Vec::new();
        StreamingDecoder::new(compressed.as_slice())?.read_to_end(&mut bytes)?;
        let mut numbering = Numbering::default();
        match self.form {
            Form::Lis => lis(&bytes, &mut numbering)?,
            Form::OracleGeneral => oracle_general(&bytes, &mut numbering)?,
        }
        Ok(numbering.into_trace())
    }
}

fn lis(bytes: &[u8], numbering: &mut Numbering) -> Result<()> {
    for (at, line) in str::from_utf8(bytes)?.lines().enumerate() {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(start)), Some(Ok(count))) = (fields.next(), fields.next()) else {
            anyhow::bail!("line {} is {line:?} instead of `start count 0 number`", at + 1);
        };
        (start..start.saturating_add(count)).for_each(|key| numbering.request(key));
    }
    Ok(())
}

fn oracle_general(bytes: &[u8], numbering: &mut Numbering) -> Result<()> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    ensure!(rest.is_empty(), "{} bytes are left over after whole records", rest.len());
    for record in records {
        let mut key = [0; 8];
        key.copy_from_slice(&record[RECORD_KEY]);
        numbering.request(u64::from_le_bytes(key));
    }
    Ok(())
}

#[derive(Default)]
struct Numbering {
    numbers: HashMap<u64, u32>,
    requests: Vec<u32>,
}

impl Numbering {
    fn request(&mut self, key: u64) {
        let next = self.numbers.len() as u32;
        self.requests.push(*self.numbers.entry(key).or_insert(next));
    }

    fn into_trace(self) -> Trace {
        Trace { keys: self.numbers.len() as u32, requests: self.requests }
    }
}

#[cfg(test)]
mod tests {
    use super::{Numbering, RECORDINGS, folder, lis, oracle_general};

    #[test]
    fn recordings_have_the_requests_and_keys_of_their_table() {
        for recording in RECORDINGS {
            let trace = recording.read(&folder()).expect("a recording of this repository");
            assert_eq!(trace.requests.len(), recording.requests, "{}", recording.name);
            assert_eq!(trace.requests.iter().max(), Some(&(recording.keys - 1)));
        }
    }

    #[test]
    fn a_lis_line_is_a_range_of_keys() {
        let mut numbering = Numbering::default();
        lis(b"70 3 0 0\n71 1 0 1\n", &mut numbering).expect("well-formed");
        assert_eq!(numbering.into_trace().requests, [0, 1, 2, 1]);
        let error = lis(b"70 3 0 0\n71\n", &mut Numbering::default()).expect_err("half a line");
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn an_oracle_general_record_has_its_key_behind_the_time() {
        let mut bytes = [0xff; 48];
        bytes[4..12].copy_from_slice(&7_u64.to_le_bytes());
        bytes[28..36].copy_from_slice(&(7_u64 << 32).to_le_bytes());
        let mut numbering = Numbering::default();
        oracle_general(&bytes, &mut numbering).expect("two records");
        assert_eq!(numbering.into_trace().requests, [0, 1]);
        assert!(oracle_general(&bytes[1..], &mut Numbering::default()).is_err());
    }
}
