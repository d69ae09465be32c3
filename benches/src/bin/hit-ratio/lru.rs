//! Least recently used, exactly.

use anyhow::Result;

use crate::subject::Subject;

/// A ring of the resident keys by age. It closes in a head that is no key: the newest is the one
/// older than the head, the oldest the one newer.
pub(crate) struct Lru {
    capacity: u64,
    items: u64,
    resident: Vec<bool>,
    /// By key; the last is the head's.
    links: Vec<Link>,
    head: u32,
}

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

impl Lru {
    /// For `keys` different keys, numbered from 0.
    pub(crate) fn new(capacity: u32, keys: u32) -> Self {
        Self {
            capacity: capacity.into(),
            items: 0,
            resident: vec![false; keys as usize],
            links: vec![Link { newer: keys, older: keys }; keys as usize + 1],
            head: keys,
        }
    }

    fn unlink(&mut self, key: u32) {
        let Link { newer, older } = self.links[key as usize];
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
    }

    fn link_as_newest(&mut self, key: u32) {
        let newest = self.links[self.head as usize].older;
        self.links[key as usize] = Link { newer: self.head, older: newest };
        self.links[newest as usize].newer = key;
        self.links[self.head as usize].older = key;
    }

    fn evict(&mut self) {
        let oldest = self.links[self.head as usize].newer;
        self.unlink(oldest);
        self.resident[oldest as usize] = false;
        self.items -= 1;
    }
}

impl Subject for Lru {
    fn request(&mut self, key: u32) -> Result<bool> {
        let hit = self.resident[key as usize];
        if hit {
            self.unlink(key);
        } else {
            if self.items == self.capacity {
                self.evict();
            }
            self.resident[key as usize] = true;
            self.items += 1;
        }
        self.link_as_newest(key);
        Ok(hit)
    }

    fn items(&self) -> Result<u64> {
        Ok(self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::{Lru, Subject};

    #[test]
    fn the_one_not_asked_for_longest_goes() {
        let mut lru = Lru::new(2, 3);
        let hits = [0, 1, 0, 2, 0, 1].map(|key| lru.request(key).expect("never fails"));
        assert_eq!(hits, [false, false, true, false, true, false]);
        assert_eq!(lru.items().expect("never fails"), 2);
    }
}
