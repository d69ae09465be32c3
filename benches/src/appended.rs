//! Values that one put wrote and any number of appends made longer, and that say of themselves
//! whether they are whole.
//!
//! A value is a record ([`crate::records`]), or several, one behind the other: what a put writes, whose
//! length its stamp decides, and eight bytes for each append. The lowest bit of a sequence number
//! tells which of the two a record is.

use crate::records::{self, LEN_MIN, Stamp, claimed_stamp, mix, varied_len, verify};

/// The stamp of what a put writes.
pub fn put_stamp(writer: u8, number: u32) -> Stamp {
    Stamp { writer, seq: number << 1 }
}

/// The stamp of what an append writes.
pub fn append_stamp(writer: u8, number: u32) -> Stamp {
    Stamp { writer, seq: number << 1 | 1 }
}

fn is_append(stamp: Stamp) -> bool {
    stamp.seq & 1 == 1
}

/// Most values are small, some nearly fill an extent of 4 KiB, some are larger than that.
fn record_len(stamp: Stamp) -> usize {
    if is_append(stamp) {
        return LEN_MIN;
    }
    let seed = u64::from(stamp.seq) << 4 | u64::from(stamp.writer);
    match mix(seed) % 20 {
        0 => varied_len(seed, 4100, 13_000),
        1..=3 => varied_len(seed, 400, 4000),
        // Many of one length, which are overwritten where they stand.
        4..=13 => 40,
        _ => varied_len(seed, LEN_MIN, 256),
    }
}

/// Makes `value` the record of `stamp` under `key`.
pub fn fill(value: &mut Vec<u8>, key: &[u8], stamp: Stamp) {
    records::fill(value, key, stamp, record_len(stamp));
}

/// The stamps of a value's records, in order: a put first, unless it was appended to nothing, then
/// appends.
///
/// # Errors
/// What is wrong with a value that nobody wrote so.
pub fn read(key: &[u8], value: &[u8]) -> Result<Vec<Stamp>, String> {
    let mut stamps = Vec::new();
    let mut rest = value;
    while !rest.is_empty() || stamps.is_empty() {
        let claimed = claimed_stamp(rest).filter(|stamp| record_len(*stamp) <= rest.len());
        let Some(stamp) = claimed else {
            return Err(format!(
                "the value of {} ({} bytes) ends in the middle of its record {}",
                String::from_utf8_lossy(key),
                value.len(),
                stamps.len()
            ));
        };
        let (record, behind) = rest.split_at(record_len(stamp));
        verify(key, record).map_err(|torn| torn.to_string())?;
        if !is_append(stamp) && !stamps.is_empty() {
            return Err(format!("the value of {} is of two puts", String::from_utf8_lossy(key)));
        }
        stamps.push(stamp);
        rest = behind;
    }
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::{append_stamp, fill, put_stamp, read};
    use crate::records::Stamp;

    fn record(key: &[u8], stamp: Stamp) -> Vec<u8> {
        let mut value = Vec::new();
        fill(&mut value, key, stamp);
        value
    }

    #[test]
    fn a_value_tells_its_put_and_what_was_appended() {
        for number in 0..300 {
            let mut stamps = vec![put_stamp(3, number)];
            let mut value = record(b"k", stamps[0]);
            for appended in 0..3 {
                assert_eq!(read(b"k", &value), Ok(stamps.clone()));
                stamps.push(append_stamp(5, number + appended));
                value.extend(record(b"k", stamps[stamps.len() - 1]));
            }
        }
        let alone = append_stamp(1, 9);
        assert_eq!(read(b"k", &record(b"k", alone)), Ok(vec![alone]), "appended to nothing");
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
    }
}
