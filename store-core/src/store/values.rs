//! The values of many keys, one behind the other in one buffer.

/// What [`Store::get_many_into`](super::Store::get_many_into) fills: a copy of each value, all in one
/// buffer that is used again the next time, so that no value has an allocation of its own.
#[derive(Debug, Clone, Default)]
pub struct Values {
    bytes: Vec<u8>,
    /// Of each key where its value ends, and whether it has one.
    ends: Vec<(usize, bool)>,
    found: usize,
}

impl Values {
    /// None. Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys that were asked for.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Keys that have a value.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Whether no key was asked for.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of key `number`, counted from 0 in the order in which they were asked for; `None` if
    /// it is absent, or if there were not so many.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let (end, found) = *self.ends.get(number)?;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before));
        found.then(|| &self.bytes[start.map_or(0, |(end, _)| *end)..end])
    }

    /// The values in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// All values, one behind the other with nothing between them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.found = 0;
    }

    /// Where the value of the next key goes: behind those before it.
    #[inline(always)]
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Notes a key whose value, if it was found, is at the end by now.
    #[inline(always)]
    pub(super) fn note(&mut self, found: bool) {
        self.ends.push((self.bytes.len(), found));
        self.found += usize::from(found);
    }

    pub(super) fn reserve(&mut self, keys: usize) {
        self.ends.reserve(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::Values;

    #[test]
    fn absent_and_empty_values_are_told_apart() {
        let mut values = Values::new();
        for value in [Some("one"), None, Some(""), Some("four")] {
            values.end().extend_from_slice(value.unwrap_or_default().as_bytes());
            values.note(value.is_some());
        }
        let all: Vec<Option<&[u8]>> = values.iter().collect();
        assert_eq!(all, [Some(&b"one"[..]), None, Some(&b""[..]), Some(&b"four"[..])]);
        assert_eq!((values.get(4), values.bytes()), (None, &b"onefour"[..]));
        assert_eq!((values.len(), values.found()), (4, 3));
        values.clear();
        assert!(values.is_empty() && values.bytes().is_empty());
    }
}
