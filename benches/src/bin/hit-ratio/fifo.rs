//! First in, first out, exactly: hits change nothing.

use std::collections::VecDeque;

use anyhow::Result;

use crate::subject::Subject;

pub(crate) struct Fifo {
    capacity: usize,
    queue: VecDeque<u32>,
    resident: Vec<bool>,
}

impl Fifo {
    /// For `keys` different keys, numbered from 0.
    pub(crate) fn new(capacity: u32, keys: u32) -> Self {
        let resident = vec![false; keys as usize];
        Self { capacity: capacity as usize, queue: VecDeque::new(), resident }
    }
}

impl Subject for Fifo {
    fn request(&mut self, key: u32) -> Result<bool> {
        if self.resident[key as usize] {
            return Ok(true);
        }
        if self.queue.len() == self.capacity
            && let Some(evicted) = self.queue.pop_front()
        {
            self.resident[evicted as usize] = false;
        }
        self.queue.push_back(key);
        self.resident[key as usize] = true;
        Ok(false)
    }

    fn items(&self) -> Result<u64> {
        Ok(self.queue.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fifo, Subject};

    #[test]
    fn a_hit_does_not_keep_the_oldest() {
        let mut fifo = Fifo::new(2, 3);
        let hits = [0, 1, 0, 2, 0].map(|key| fifo.request(key).expect("never fails"));
        assert_eq!(hits, [false, false, true, false, false]);
        assert_eq!(fifo.items().expect("never fails"), 2);
    }
}
