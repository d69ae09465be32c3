//! Walking the whole index by a cursor that survives growth.
//!
//! Buckets are visited in the order of their reversed number: then a bucket and those it will be
//! split into are neighbours, so a key that stands throughout is met at least once however often
//! the index grows between two steps (the idea of Redis' `SCAN`).

use crate::layout::IndexSize;

/// The cursor after `bucket` was visited; `None` at the end.
pub(crate) fn following(size: IndexSize, bucket: u64) -> Option<u64> {
    let mask = size.mask_of(bucket);
    // Fill the bits above the mask, add one at the top and let the carry run down.
    let next = (bucket | !mask).reverse_bits().wrapping_add(1).reverse_bits();
    (next != 0).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_is_visited_once() {
        for buckets in 1..300_u64 {
            let size = IndexSize(buckets);
            let mut seen = vec![0; buckets as usize];
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                let bucket = size.bucket_of(at);
                seen[bucket as usize] += 1;
                cursor = following(size, bucket);
            }
            assert_eq!(seen, vec![1; buckets as usize]);
        }
    }

    #[test]
    fn growth_between_two_steps_leaves_no_hash_out() {
        for (before, steps, after) in [(8, 3, 16), (8, 3, 13), (5, 2, 21), (7, 6, 64), (1, 0, 9)] {
            let (mut size, mut cursor, mut step) = (IndexSize(before), Some(0), 0);
            let mut seen = std::collections::HashSet::new();
            while let Some(at) = cursor {
                if step == steps {
                    size = IndexSize(after);
                }
                step += 1;
                let bucket = size.bucket_of(at);
                seen.extend((0..256_u64).filter(|hash| size.bucket_of(*hash) == bucket));
                cursor = following(size, bucket);
            }
            assert_eq!(seen.len(), 256, "{before} buckets, {after} after {steps} steps");
        }
    }
}
