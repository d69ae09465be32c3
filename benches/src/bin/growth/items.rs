//! Items by number: what is put, and what a lookup must find.

use store_benches::records::{Key, key_of, mix};

const VALUE_BYTES_MIN: usize = 8;
pub(crate) const VALUE_BYTES_MAX: usize = 32;

pub(crate) struct Item {
    pub(crate) key: Key,
    bytes: [u8; VALUE_BYTES_MAX],
    len: usize,
}

impl Item {
    pub(crate) fn of(number: u32) -> Self {
        let word = mix(!u64::from(number));
        let mut bytes = [0; VALUE_BYTES_MAX];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let lens = VALUE_BYTES_MAX - VALUE_BYTES_MIN + 1;
        Self { key: key_of(number), bytes, len: VALUE_BYTES_MIN + word as usize % lens }
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, VALUE_BYTES_MAX, VALUE_BYTES_MIN};

    #[test]
    fn lengths_reach_both_ends() {
        let lens: Vec<_> = (0..1000).map(|number| Item::of(number).value().len()).collect();
        assert_eq!(lens.iter().min(), Some(&VALUE_BYTES_MIN));
        assert_eq!(lens.iter().max(), Some(&VALUE_BYTES_MAX));
    }
}
