//! Each bit of the structures of a small store, flipped by itself: whoever attaches, reads, writes,
//! repairs or checks gets an error or an answer, in a bounded time. Readers map the object read-only,
//! so a store by one of them is a SIGSEGV.
//!
//! Every bit when it is optimised, some of them otherwise.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use store_core::{
    Access, Condition, CreateOptions, Mode, ObjectName, Plain, PutOptions, Store, attach,
    private_on_heap,
};
use store_testing::exercise::{bounded, read_everything};
use store_testing::pair::key;

/// How many bits are skipped for each one that is flipped without optimisation: a prime number, so
/// that each bit of a word has its turn.
const STEP: usize = if cfg!(debug_assertions) { 97 } else { 1 };

const THREADS: usize = 16;

/// The words of the superblock that are used here, in bytes.
mod at {
    pub(crate) const CLIENTS: usize = 192;
    pub(crate) const NAMESPACES: usize = 208;
    pub(crate) const STRIPES: usize = 224;
    pub(crate) const EXTENTS: usize = 240;
    pub(crate) const EXTENT_BYTES: usize = 256;
    pub(crate) const GENERATIONS: usize = 264;
    pub(crate) const ARENA: usize = 304;
    pub(crate) const SCATTERED_BYTES: usize = 1288;
}

/// An object with the bytes of a store.
struct Object {
    file: File,
    image: Vec<u8>,
}

impl Object {
    /// A store with overflow lines, a large item, a counter and items that expire, and a client that
    /// has not left; a cache is full, too.
    fn new(mode: Mode) -> Self {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8).mode(mode);
        let store: Store<Plain> = private_on_heap(&options, 7).expect("a small store");
        let session = store.open_session().expect("a client entry");
        let soon = PutOptions::new().ttl(Duration::from_secs(3600));
        let put = |number: u8, len, options: PutOptions| {
            let value = vec![number; len];
            store.put(&session, &key(number), &value, &options, Condition::Always).expect("room");
        };
        let cached = if mode == Mode::Cache { 200 } else { 0 };
        (0..cached).for_each(|number| put(number, 700, soon));
        (0..48).for_each(|number| put(number, usize::from(number), PutOptions::new()));
        (0..8).for_each(|number| put(number, 100, soon));
        put(8, 3000, PutOptions::new());
        store.add_to(&session, &key(50), 5).expect("a counter");
        assert!(store.stats().expect("stats").overflow_lines_used > 0, "no overflow lines");
        let image = store.image().expect("an image");
        let file = File::from(memfd_create("flips", MFdFlags::MFD_CLOEXEC).expect("a memfd"));
        Self { file, image }
    }

    fn word(&self, at: usize) -> usize {
        u64::from_le_bytes(self.image[at..at + 8].try_into().expect("8 bytes")) as usize
    }

    /// The bytes of the structures, but for the tables of namespaces and of leases.
    fn structures(&self) -> Vec<usize> {
        let index = (0..self.word(at::EXTENTS + 8)).filter_map(|extent| {
            let state = self.word(self.word(at::EXTENTS) + extent * 64) >> 60;
            let bytes = self.word(at::EXTENT_BYTES);
            let start = self.word(at::ARENA) + extent * bytes;
            // Buckets, and overflow lines.
            matches!(state, 6 | 7).then_some(start..start + bytes)
        });
        let directory_end = self.word(at::GENERATIONS) + 2 * 8 * self.word(at::EXTENTS + 8);
        [
            0..4096,
            self.word(at::CLIENTS)..self.word(at::NAMESPACES),
            self.word(at::STRIPES)..directory_end,
        ]
        .into_iter()
        .chain(index)
        .flatten()
        .collect()
    }

    fn holds(&self, image: &[u8]) {
        self.file.write_all_at(image, 0).expect("a write");
    }

    fn attach(&self, access: Access) -> Option<Store<Plain>> {
        let name = ObjectName::Descriptor(self.file.as_raw_fd());
        bounded("attach", || attach::<Plain>(&name, access)).ok()
    }
}

/// What writers do: one that opens a session, puts, deletes, repairs, and leaves.
fn write(store: &Store<Plain>) {
    let Ok(session) = bounded("open_session", || store.open_session()) else { return };
    session.set_guard_deadline(Duration::from_millis(1));
    let (options, always) = (PutOptions::new(), Condition::Always);
    for (number, len) in [(3, 60), (8, 3000), (60, 200)] {
        let (key, value) = (key(number), vec![7; len]);
        let _ = bounded("put", || store.put(&session, &key, &value, &options, always));
        let _ = bounded("delete", || store.delete(&session, &key));
    }
    let _ = bounded("add_to", || store.add_to(&session, &key(50), 1));
    let _ = bounded("reap", || store.reap(&session));
    let _ = bounded("clean", || store.clean(&session, 1));
    let _ = bounded("close_session", || store.close_session(&session));
    let _ = bounded("check", || store.check(|_, _| {}));
}

/// Flips one bit after the other, of which each thread has its part: most of the time a check waits
/// for what looks wrong to be put right.
fn flip_bits(mode: Mode) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || flip_part(mode, thread));
        }
    });
}

fn flip_part(mode: Mode, thread: usize) {
    let object = Object::new(mode);
    let mut image = object.image.clone();
    let bits = object.structures().into_iter().flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    for (byte, bit) in bits.skip(thread * STEP).step_by(STEP * THREADS) {
        image[byte] ^= 1 << bit;
        object.holds(&image);
        if let Some(store) = object.attach(Access::ReadOnly) {
            read_everything(&store);
        }
        if let Some(store) = object.attach(Access::ReadWrite) {
            write(&store);
        }
        image[byte] = object.image[byte];
    }
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn flipped_bits_of_a_store() {
    flip_bits(Mode::Store);
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn flipped_bits_of_a_cache() {
    flip_bits(Mode::Cache);
}

/// A writer notes that what was scattered counts no more; whoever only reads must leave that to it.
#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn a_reader_asks_what_there_is_room_for_and_stores_nothing() {
    let object = Object::new(Mode::Store);
    let mut image = object.image.clone();
    image[at::SCATTERED_BYTES] = 64;
    object.holds(&image);
    let store = object.attach(Access::ReadOnly).expect("a store");
    assert!(store.stats().expect("stats").room_items > 0);
}
