//! A segment that another thread changes while the client of a target uses it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use store_core::ObjectName;

use crate::{changes, image_for, word_of};

/// A memfd with the bytes of a segment, mapped a second time beside the client's own mapping.
pub struct ChangingSegment {
    descriptor: OwnedFd,
    words: &'static [AtomicU64],
}

/// A word, and what it is by turns.
struct Flip {
    word: usize,
    values: [u64; 2],
}

impl ChangingSegment {
    fn of(image: &[u8]) -> Self {
        let descriptor = memfd_create("cistern-fuzz", MemfdFlags::CLOEXEC).expect("a memfd");
        ftruncate(&descriptor, image.len() as u64).expect("its length");
        let (access, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let nowhere = std::ptr::null_mut();
        // SAFETY: a new mapping at a place of the kernel's choice; the memfd has this length and
        // keeps it, and the mapping goes with `self`, which hands out no reference to it.
        let words = unsafe {
            let base =
                mmap(nowhere, image.len(), access, shared, &descriptor, 0).expect("a mapping");
            slice::from_raw_parts(base.cast::<AtomicU64>(), image.len() / 8)
        };
        for (cell, word) in words.iter().zip(image.as_chunks::<8>().0) {
            cell.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
        Self { descriptor, words }
    }

    /// What a client attaches.
    pub fn name(&self) -> ObjectName {
        ObjectName::Descriptor(self.descriptor.as_raw_fd())
    }

    /// Calls `client` with the segment for `input`. The changes that stay are made before; the others
    /// are made and undone meanwhile, over and over.
    pub fn with(input: &[u8], client: impl FnOnce(&Self)) {
        let mut image = image_for(input).to_vec();
        for change in changes(input).filter(|change| change.stays()) {
            change.make(&mut image);
        }
        let flips: Vec<Flip> = changes(input)
            .filter(|change| !change.stays())
            .map(|change| {
                let at = change.at(image.len());
                let old = word_of(&image, at);
                Flip { word: at / 8, values: [change.word(old), old] }
            })
            .collect();
        let segment = Self::of(&image);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for turn in 0..2 {
                        for flip in &flips {
                            segment.words[flip.word].store(flip.values[turn], Ordering::Release);
                        }
                    }
                }
            });
            client(&segment);
            done.store(true, Ordering::Relaxed);
            // Until it has ended, not only its work: the search for leaks begins right after this.
            changing.join().expect("it only stores words");
        });
    }
}

impl Drop for ChangingSegment {
    fn drop(&mut self) {
        let words = self.words;
        // SAFETY: the mapping that `of` made, which only the threads of `with` used.
        let _ = unsafe { munmap(words.as_ptr().cast_mut().cast(), size_of_val(words)) };
    }
}
