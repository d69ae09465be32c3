//! How the items of a store are spread: over chains of the index, and over sizes.

use super::Store;
use crate::error::ReadError;
use crate::region::Shim;

/// Buckets between two calls of `progress`.
const PROGRESS_STEP: u64 = 1 << 12;

/// How many there are of each kind. The store goes on meanwhile, so the numbers are near: an item
/// that is moved may be counted twice, one that comes or goes may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histograms {
    /// Buckets whose chain has one line, two lines, and so on.
    pub chain_lines: Vec<u64>,
    /// Items by their size, from the smallest power of two that is there to the largest.
    pub item_sizes: Vec<SizeClass>,
}

/// Items of more than half of a size and at most that size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SizeClass {
    /// The size in bytes, a power of two: header, optional words, key and value, with their padding.
    pub bytes_max: u64,
    /// Items of that size, expired ones included.
    pub items: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

impl<S: Shim> Store<S> {
    /// Reads the whole index and the header of each item, as a scan does; `progress` is told
    /// (done, all) in buckets.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn histograms(&self, mut progress: impl FnMut(u64, u64)) -> Result<Histograms, ReadError> {
        let mut chain_lines = Vec::new();
        // Each power of two that the size of an item can be below.
        let mut sizes = [SizeClass::default(); u64::BITS as usize];
        let (mut next, mut done, mut items) = (Some(0), 0, Vec::new());
        while let Some(at) = next {
            if done % PROGRESS_STEP == 0 {
                progress(done, self.segment.index_size().buckets().max(done));
            }
            let (lines, following) = self.quiet_walk(at, |bucket| {
                items.clear();
                self.walk_chain(bucket, |slot, reload| {
                    let read =
                        self.read_item(slot, reload, |item, header| self.bytes_of(item, header))?;
                    items.extend(read.flatten());
                    Ok(read.is_some())
                })
            })?;
            chain_lines.resize(chain_lines.len().max(lines), 0);
            // A chain has its bucket's own line at least.
            chain_lines[lines - 1] += 1;
            for bytes in &items {
                let class = &mut sizes[bytes.next_power_of_two().ilog2() as usize];
                class.items += 1;
                class.bytes += bytes;
            }
            done += 1;
            next = following;
        }
        for (power, class) in sizes.iter_mut().enumerate() {
            class.bytes_max = 1 << power;
        }
        let first = sizes.iter().position(|class| class.items > 0);
        let last = sizes.iter().rposition(|class| class.items > 0);
        let item_sizes = first.zip(last).map_or(&[][..], |(first, last)| &sizes[first..=last]);
        Ok(Histograms { chain_lines, item_sizes: item_sizes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, Store, private_on_heap};

    #[test]
    fn every_bucket_and_every_item_is_counted_once() {
        let options = CreateOptions::new(1 << 20).extent_size(4 << 10).items(8);
        let store: Store<Plain> = private_on_heap(&options, 7).expect("a store");
        let empty = store.histograms(|_, _| {}).expect("histograms");
        assert_eq!((empty.chain_lines, empty.item_sizes), (vec![4], vec![]));
        let session = store.open_session().expect("an entry");
        // An item is 16 bytes of header, 8 of key, and its value.
        let sizes = [0_usize, 8, 40, 41, 1000, 9000];
        for key in 0..120_u64 {
            let value = vec![1; if key < 5 { 9000 } else { sizes[key as usize % 5] }];
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &value, &options, always).expect("a put");
        }
        let mut told = 0;
        let found = store.histograms(|_, all| told = all).expect("histograms");
        let stats = store.stats().expect("stats");
        assert_eq!(told, stats.buckets);
        assert_eq!(found.chain_lines.iter().sum::<u64>(), stats.buckets);
        let overflow = found.chain_lines.iter().enumerate().map(|(lines, n)| lines as u64 * n);
        assert_eq!(overflow.sum::<u64>(), stats.overflow_lines_used);
        assert!(stats.overflow_lines_used > 0);
        assert_eq!(found.item_sizes.iter().map(|class| class.items).sum::<u64>(), stats.items);
        let bytes: u64 = found.item_sizes.iter().map(|class| class.bytes).sum();
        assert_eq!(bytes, stats.live_bytes);
        let of = |bytes_max| {
            let class = found.item_sizes.iter().find(|class| class.bytes_max == bytes_max);
            class.map(|class| (class.items, class.bytes))
        };
        // 24 and 32 bytes; 64; 72; those of two lengths in pieces, with a list and 32 bytes for each.
        assert_eq!(of(32), Some((46, 23 * 24 + 23 * 32)));
        assert_eq!((of(64), of(128)), (Some((23, 23 * 64)), Some((23, 23 * 72))));
        assert_eq!((of(1024), of(512)), (Some((0, 0)), Some((0, 0))));
        let bytes = 24 + 8 + 3 * (8 + 32) + 1000;
        assert_eq!(of(2048), Some((23, 23 * bytes)));
        let bytes = 24 + 8 + 19 * (8 + 32) + 9000;
        assert_eq!((of(16 << 10), of(16)), (Some((5, 5 * bytes)), None));
    }
}
