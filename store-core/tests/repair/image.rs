//! The bytes of a segment at rest, and where in them what is: read and damaged word by word.

/// The bytes of a segment, and where its parts are.
#[derive(Clone)]
pub(crate) struct Image(pub(crate) Vec<u8>);

impl Image {
    pub(crate) fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("8 bytes"))
    }

    pub(crate) fn set(&mut self, at: usize, word: u64) {
        self.0[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    pub(crate) fn extents(&self) -> usize {
        self.word(248) as usize
    }

    pub(crate) fn extent_bytes(&self) -> usize {
        self.word(256) as usize
    }

    /// Offset of the word of an extent.
    pub(crate) fn extent_word(&self, extent: usize) -> usize {
        self.word(240) as usize + 64 * extent
    }

    pub(crate) fn generation(&self, extent: usize) -> usize {
        self.word(264) as usize + 8 * extent
    }

    /// Offset of an extent's first byte.
    pub(crate) fn extent(&self, extent: usize) -> usize {
        self.word(304) as usize + self.extent_bytes() * extent
    }

    pub(crate) fn extents_in(&self, state: u64) -> Vec<usize> {
        let is_in = |extent: &usize| self.word(self.extent_word(*extent)) >> 60 == state;
        (0..self.extents()).filter(is_in).collect()
    }

    pub(crate) fn buckets(&self) -> usize {
        (self.word(512) & ((1 << 40) - 1)) as usize
    }

    pub(crate) fn bucket(&self, number: usize) -> usize {
        let lines = self.extent_bytes() / 64;
        let first = self.word(self.word(272) as usize + 8 * (number / lines)) as usize;
        64 * (first + number % lines)
    }

    /// Offsets of all lines that are in chains.
    pub(crate) fn lines(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        for bucket in 0..self.buckets() {
            let mut line = self.bucket(bucket);
            loop {
                lines.push(line);
                let link = self.word(line + 56);
                if link >> 63 == 0 {
                    break;
                }
                line = 64 * (link & ((1 << 35) - 1)) as usize;
            }
        }
        lines
    }

    /// Offsets of lanes that hold items.
    pub(crate) fn slots(&self) -> Vec<usize> {
        let lanes =
            self.lines().into_iter().flat_map(|line| (1..8).map(move |lane| line + 8 * lane));
        lanes.filter(|at| self.word(*at) != 0 && self.word(*at) >> 63 == 0).collect()
    }

    /// Offsets of lanes that hold links.
    pub(crate) fn links(&self) -> Vec<usize> {
        let lanes = self.lines().into_iter().map(|line| line + 56);
        lanes.filter(|at| self.word(*at) >> 63 != 0).collect()
    }

    /// Offsets of the words of the filter, two at a time.
    pub(crate) fn filter(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.word(288) as usize, 1 << self.word(160));
        (0..count / 2).map(move |pair| first + 8 * pair)
    }

    pub(crate) fn stripes(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.word(224) as usize, self.word(232) as usize);
        (0..count).map(move |stripe| first + 64 * stripe)
    }
}
