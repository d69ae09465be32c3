//! Keys, and what their values mean.

use store_benches::appended;

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

/// What a value of records is; an error if nobody wrote it so.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<State, String> {
    let stamps = appended::read(key, value)?;
    let (first, appended) = (stamps[0], stamps.len() as u32 - 1);
    Ok(State::Record { writer: first.writer, seq: first.seq, appended })
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
    use store_benches::appended::{append_stamp, fill, put_stamp};

    use super::{read, read_number};
    use crate::ledger::State;

    #[test]
    fn a_value_tells_its_put_and_how_much_was_appended() {
        let (mut value, mut more) = (Vec::new(), Vec::new());
        fill(&mut value, b"k", put_stamp(3, 7));
        fill(&mut more, b"k", append_stamp(4, 8));
        let state = |appended| Ok(State::Record { writer: 3, seq: 14, appended });
        assert_eq!(read(b"k", &value), state(0));
        assert_eq!(read(b"k", &[&value[..], &more[..], &more[..]].concat()), state(2));
    }

    #[test]
    fn a_number_is_decimal() {
        assert_eq!(read_number(b"k", b"-17"), Ok(State::Number(-17)));
        assert!(read_number(b"k", b"1x").is_err());
    }
}
