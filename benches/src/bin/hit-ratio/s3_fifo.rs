//! S3-FIFO, exactly: a small queue, a main queue, and a ghost of keys that left the small one.
//!
//! A key starts in the small queue and moves to the main one if it was hit twice there; else it
//! leaves and is remembered in the ghost. A key that is missed while in the ghost starts in the
//! main queue, where each hit (up to three) lets a key go round once more.
//!
//! J. Yang and others, "FIFO queues are all you need for cache eviction", SOSP 23.

use std::collections::VecDeque;

use anyhow::Result;

use crate::subject::Subject;

/// Hits of a key that are counted.
const HITS_MAX: u8 = 3;
/// Hits that lead from the small queue to the main one.
const HITS_TO_MOVE: u8 = 2;

pub(crate) struct S3Fifo {
    capacity: usize,
    small_capacity: usize,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghost: Ghost,
    resident: Vec<bool>,
    hits: Vec<u8>,
}

impl S3Fifo {
    /// For `keys` different keys, numbered from 0.
    pub(crate) fn new(capacity: u32, keys: u32) -> Self {
        let capacity = capacity as usize;
        Self {
            capacity,
            small_capacity: (capacity / 10).max(1),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghost: Ghost::new(capacity * 9 / 10, keys),
            resident: vec![false; keys as usize],
            hits: vec![0; keys as usize],
        }
    }

    fn evict(&mut self) {
        while self.small.len() + self.main.len() >= self.capacity {
            if self.small.len() >= self.small_capacity || self.main.is_empty() {
                self.shift_small();
            } else {
                self.shift_main();
            }
        }
    }

    fn shift_small(&mut self) {
        let Some(key) = self.small.pop_front() else { return };
        let hits = &mut self.hits[key as usize];
        if *hits >= HITS_TO_MOVE {
            *hits = 0;
            self.main.push_back(key);
        } else {
            self.resident[key as usize] = false;
            self.ghost.insert(key);
        }
    }

    fn shift_main(&mut self) {
        let Some(key) = self.main.pop_front() else { return };
        match &mut self.hits[key as usize] {
            0 => self.resident[key as usize] = false,
            hits => {
                *hits -= 1;
                self.main.push_back(key);
            }
        }
    }
}

impl Subject for S3Fifo {
    fn request(&mut self, key: u32) -> Result<bool> {
        if self.resident[key as usize] {
            let hits = &mut self.hits[key as usize];
            *hits = (*hits + 1).min(HITS_MAX);
            return Ok(true);
        }
        // Before the eviction, which may push the key out of the ghost.
        let remembered = self.ghost.remove(key);
        self.evict();
        self.resident[key as usize] = true;
        self.hits[key as usize] = 0;
        match remembered {
            true => self.main.push_back(key),
            false => self.small.push_back(key),
        }
        Ok(false)
    }

    fn items(&self) -> Result<u64> {
        Ok((self.small.len() + self.main.len()) as u64)
    }
}

/// The last keys that left, as many as there is room for.
struct Ghost {
    capacity: usize,
    /// Keys with the number of their insertion. Those that were removed since stay until their turn.
    queue: VecDeque<(u32, u32)>,
    /// By key: the insertion that counts, 0 for none.
    inserted: Vec<u32>,
    keys: usize,
    insertions: u32,
}

impl Ghost {
    fn new(capacity: usize, keys: u32) -> Self {
        let inserted = vec![0; keys as usize];
        Self { capacity, queue: VecDeque::new(), inserted, keys: 0, insertions: 0 }
    }

    /// Remembers a key that it does not have.
    fn insert(&mut self, key: u32) {
        self.insertions += 1;
        self.queue.push_back((key, self.insertions));
        self.inserted[key as usize] = self.insertions;
        self.keys += 1;
        while self.keys > self.capacity
            && let Some((oldest, insertion)) = self.queue.pop_front()
        {
            if self.inserted[oldest as usize] == insertion {
                self.remove(oldest);
            }
        }
    }

    /// Whether it had the key.
    fn remove(&mut self, key: u32) -> bool {
        let had = std::mem::take(&mut self.inserted[key as usize]) != 0;
        self.keys -= usize::from(had);
        had
    }
}

#[cfg(test)]
mod tests {
    use super::{Ghost, S3Fifo, Subject};

    fn hits<const N: usize>(cache: &mut S3Fifo, keys: [u32; N]) -> [bool; N] {
        keys.map(|key| cache.request(key).expect("never fails"))
    }

    #[test]
    fn a_key_that_was_hit_twice_outlives_a_scan() {
        let mut cache = S3Fifo::new(10, 100);
        hits(&mut cache, [0, 0, 0, 1, 1]);
        for key in 2..90 {
            assert_eq!(hits(&mut cache, [key]), [false]);
        }
        assert_eq!(hits(&mut cache, [0, 1]), [true, false]);
        assert_eq!(cache.items().expect("never fails"), 10);
    }

    #[test]
    fn a_key_that_the_ghost_remembers_starts_in_the_main_queue() {
        let mut cache = S3Fifo::new(10, 100);
        (0..11).for_each(|key| assert_eq!(hits(&mut cache, [key]), [false]));
        assert_eq!(hits(&mut cache, [0]), [false], "pushed out by the eleventh");
        assert_eq!((cache.main.len(), cache.main.front()), (1, Some(&0)));
    }

    #[test]
    fn the_ghost_counts_keys_that_are_in_it() {
        let mut ghost = Ghost::new(2, 4);
        ghost.insert(0);
        ghost.insert(1);
        assert!(ghost.remove(0));
        ghost.insert(2);
        ghost.insert(0);
        assert!(!ghost.remove(1), "the oldest of three went");
        assert!(ghost.remove(2) && ghost.remove(0), "a stale entry takes nobody's place");
    }
}
