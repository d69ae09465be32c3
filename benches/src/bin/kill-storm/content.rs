//! Keys, and values that say of themselves whether they are whole.
//!
//! A value is one record ([`store_benches::records`]) or several, one behind the other: what a put
//! writes, whose length its stamp decides, and eight bytes for each append. The lowest bit of a
//! sequence number tells which of the two a record is.

use store_benches::records::{self, LEN_MIN, Stamp, claimed_stamp, mix, varied_len, verify};

use crate::ledger::State;

/// Records of one value at most, so that appends end.
pub(crate) const RECORDS_MAX: u32 = 40;

/// A key that one slot's processes write, and nobody else.
pub(crate) fn own_key(slot: u8, index: usize) -> Vec<u8> {
    format!("own:{slot}:{index}").into_bytes()
}

/// A key that all write.
pub(crate) fn shared_key(index: usize) -> Vec<u8> {
    format!("shared:{index}").into_bytes()
}

/// A number that all add to.
pub(crate) fn shared_counter(index: usize) -> Vec<u8> {
    format!("sum:{index}").into_bytes()
}

/// One of the keys that a slot's processes add at one end and delete at the other.
pub(crate) fn rolling_key(slot: u8, number: u64) -> Vec<u8> {
    format!("roll:{slot}:{number}").into_bytes()
}

/// A key that stands from the beginning of a round to its end.
pub(crate) fn ballast_key(number: u32) -> Vec<u8> {
    format!("ballast:{number}").into_bytes()
}

/// The stamp of what a put writes.
pub(crate) fn put_stamp(writer: u8, number: u32) -> Stamp {
    Stamp { writer, seq: number << 1 }
}

/// The stamp of what an append writes.
pub(crate) fn append_stamp(writer: u8, number: u32) -> Stamp {
    Stamp { writer, seq: number << 1 | 1 }
}

/// Most values are small, some nearly fill an extent of 4 KiB, some are larger than that.
fn record_len(stamp: Stamp) -> usize {
    if stamp.seq & 1 == 1 {
        return LEN_MIN;
    }
    let seed = u64::from(stamp.seq) << 4 | u64::from(stamp.writer);
    match mix(seed) % 20 {
        0 => varied_len(seed, 4100, 13_000),
        1..=3 => varied_len(seed, 400, 4000),
        _ => varied_len(seed, LEN_MIN, 256),
    }
}

/// Makes `value` the record of `stamp` under `key`.
pub(crate) fn fill(value: &mut Vec<u8>, key: &[u8], stamp: Stamp) {
    records::fill(value, key, stamp, record_len(stamp));
}

/// What a value is; an error if nobody wrote it so.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<State, String> {
    let mut rest = value;
    let mut first = None;
    let mut records = 0;
    while !rest.is_empty() || first.is_none() {
        let claimed = claimed_stamp(rest).filter(|stamp| record_len(*stamp) <= rest.len());
        let Some(stamp) = claimed else {
            return Err(format!(
                "{} ends in the middle of record {records} of {} bytes",
                String::from_utf8_lossy(key),
                value.len()
            ));
        };
        let (record, behind) = rest.split_at(record_len(stamp));
        verify(key, record).map_err(|torn| torn.to_string())?;
        if stamp.seq & 1 == 0 && first.is_some() {
            return Err(format!("{} has two puts in it", String::from_utf8_lossy(key)));
        }
        first.get_or_insert(stamp);
        records += 1;
        rest = behind;
    }
    let first = first.expect("the loop ends with one");
    Ok(State::Record { writer: first.writer, seq: first.seq, appended: records - 1 })
}

/// The same of a key whose value is a number.
pub(crate) fn read_number(key: &[u8], value: &[u8]) -> Result<State, String> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(State::Number).ok_or_else(|| {
        format!("{} has {} bytes that are no number", String::from_utf8_lossy(key), value.len())
    })
}

#[cfg(test)]
mod tests {
    use super::{append_stamp, fill, put_stamp, read, read_number};
    use crate::ledger::State;

    fn record(key: &[u8], stamp: store_benches::records::Stamp) -> Vec<u8> {
        let mut value = Vec::new();
        fill(&mut value, key, stamp);
        value
    }

    #[test]
    fn a_value_tells_its_put_and_how_much_was_appended() {
        for number in 0..300 {
            let mut value = record(b"k", put_stamp(3, number));
            for appended in 0..3 {
                let state = State::Record { writer: 3, seq: number << 1, appended };
                assert_eq!(read(b"k", &value), Ok(state));
                value.extend(record(b"k", append_stamp(5, number + appended)));
            }
        }
        assert!(read(b"k", &record(b"k", append_stamp(1, 9))).is_ok(), "appended to nothing");
    }

    #[test]
    fn what_nobody_wrote_so_is_told() {
        let (put, append) = (record(b"k", put_stamp(1, 1)), record(b"k", append_stamp(1, 2)));
        assert!(read(b"k", b"").is_err());
        assert!(read(b"j", &put).is_err());
        assert!(read(b"k", &put[..put.len() - 1]).is_err());
        assert!(read(b"k", &[&put[..], &put[..]].concat()).is_err());
        assert!(read(b"k", &[&put[..], &append[..7]].concat()).is_err());
        let mut torn = [&put[..], &append[..]].concat();
        let last = torn.len() - 1;
        torn[last] ^= 1;
        assert!(read(b"k", &torn).is_err());
        assert_eq!(read_number(b"k", b"-17"), Ok(State::Number(-17)));
        assert!(read_number(b"k", b"1x").is_err());
    }
}
