//! What the targets share: a small whole segment, and the changes that an input makes to it.

pub mod changing;

use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use store_core::{
    Condition, CreateOptions, Cursor, Mode, NamespaceOptions, Plain, PutOptions, Store,
    private_on_heap,
};

/// Number of keys that the targets use.
pub const KEYS: u8 = 24;

/// Namespaces of the small store; the first one where there is room for its quota.
pub const NAMESPACES: [&str; 2] = ["quota", "none"];

/// How much longer AddressSanitizer, the counting of edges, and assertions make everything.
const SANITIZED: u32 = 20;
/// How long one operation may compute on a small store: 10 ms.
const CPU_TIME_MAX: Duration = Duration::from_millis(10);
/// How long a put may, which has extents emptied before it is refused: each round looks
/// at every item of every extent whose count can't be believed.
const PUT_CPU_TIME_MAX: Duration = Duration::from_millis(30);

/// The bytes of a key.
pub fn key(number: u8) -> Vec<u8> {
    vec![number % KEYS; usize::from(number % KEYS) + 1]
}

/// A store of 160 KiB with chains, a counter, a run of extents and items that expire; a cache is full
/// besides, so that each put evicts.
pub fn small_store(mode: Mode) -> Store {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8).mode(mode);
    let store: Store<Plain> = private_on_heap(&options, 7).expect("a small store");
    let session = store.open_session().expect("a client entry");
    let soon = PutOptions::new().ttl(Duration::from_secs(3600));
    for number in 0..KEYS {
        let value = vec![number; usize::from(number) * 20];
        let options = if number % 5 == 0 { soon } else { PutOptions::new() };
        store.put(&session, &key(number), &value, &options, Condition::Always).expect("a put");
    }
    store.add_to(&session, b"counter", 5).expect("a counter");
    store.put(&session, &key(1), &[1; 9000], &soon, Condition::Always).expect("a run");
    let filled = if mode == Mode::Cache { 300_u32 } else { 0 };
    for number in 0..filled {
        let (key, value) = (number.to_le_bytes(), vec![2; number as usize * 37 % 900]);
        store.put(&session, &key, &value, &soon, Condition::Always).expect("eviction makes room");
        store.get(&(number % 20).to_le_bytes()).expect("a lookup");
    }
    // Where there is room for a quota it has extents of its own.
    let quota = NamespaceOptions::new().quota(32 << 10);
    let _ = store.create_namespace(&session, NAMESPACES[0], &quota);
    store.create_namespace(&session, NAMESPACES[1], &NamespaceOptions::new()).expect("a record");
    for place in NAMESPACES.iter().filter_map(|name| store.in_namespace(name).ok()) {
        for number in 0..KEYS {
            let (options, always) = (PutOptions::new(), Condition::Always);
            let _ = place.put(&session, &key(number), &[4; 200], &options, always);
        }
    }
    store.close_session(&session).expect("a close");
    store
}

/// The image of [`small_store`] that an input of this length is about: of an odd one, that of a cache.
pub fn image_for(input: &[u8]) -> &'static [u8] {
    static IMAGES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let image_of = |mode| small_store(mode).image().expect("an image");
    &IMAGES.get_or_init(|| [Mode::Store, Mode::Cache].map(image_of))[input.len() % 2]
}

/// A word that an input changes: three bytes of place and one that says how, then eight of value.
pub struct Change<'a>(&'a [u8; 12]);

/// The changes that `input` asks for.
pub fn changes(input: &[u8]) -> impl Iterator<Item = Change<'_>> {
    input.as_chunks::<12>().0.iter().map(Change)
}

impl Change<'_> {
    /// Where the word is, in an image of so many bytes.
    pub fn at(&self, bytes: usize) -> usize {
        let [a, b, c, how, ..] = *self.0;
        let place = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        // Most changes go to the structures, which come first.
        (if how & 1 == 0 { place % (bytes / 8) } else { place % 2048 }) * 8
    }

    /// What the word becomes.
    pub fn word(&self, old: u64) -> u64 {
        let [_, _, _, how, value @ ..] = *self.0;
        let value = u64::from_le_bytes(value);
        match how >> 1 & 3 {
            0 => value,
            1 => old ^ 1 << (value & 63),
            2 => old.wrapping_add(value as i8 as u64),
            _ => old & !0xFFFF | value & 0xFFFF,
        }
    }

    /// Whether it is made once, where others come and go.
    pub fn stays(&self) -> bool {
        self.0[3] & 8 != 0
    }

    /// Makes the change.
    pub fn make(&self, image: &mut [u8]) {
        let at = self.at(image.len());
        let new = self.word(word_of(image, at));
        image[at..at + 8].copy_from_slice(&new.to_le_bytes());
    }
}

/// The word at `at`.
pub fn word_of(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"))
}

/// The image for `input` with all its changes.
pub fn changed_image(input: &[u8]) -> Vec<u8> {
    let mut image = image_for(input).to_vec();
    for change in changes(input) {
        change.make(&mut image);
    }
    image
}

/// Runs one operation, and panics if this thread was computing for longer than an operation on a
/// small store may take. Time in which it waited, or others had the processor, does not count.
pub fn bounded<T>(what: &str, operation: impl FnOnce() -> T) -> T {
    bounded_by(CPU_TIME_MAX, what, operation)
}

/// [`bounded`] for a put.
pub fn bounded_put<T>(what: &str, operation: impl FnOnce() -> T) -> T {
    bounded_by(PUT_CPU_TIME_MAX, what, operation)
}

fn bounded_by<T>(limit: Duration, what: &str, operation: impl FnOnce() -> T) -> T {
    let start = cpu_time();
    let answer = operation();
    let taken = cpu_time().saturating_sub(start);
    assert!(taken <= limit * SANITIZED, "{what} took {taken:?} of processor time");
    answer
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a clock that was started at 0")
}

/// Reads all that there is, each operation in a [`bounded`] time.
pub fn read(store: &Store) {
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key).chain([b"counter".to_vec()]).collect();
    let mut buffer = [0; 500];
    for key in &keys {
        let _ = bounded("get", || store.get(key));
        let _ = bounded("get_into", || store.get_into(key, &mut buffer));
        let _ = bounded("get_entry", || store.get_entry(key));
        let _ = bounded("ttl", || store.ttl(key));
    }
    let _ = bounded("get_many", || store.get_many(&keys));
    let _ = bounded("stats", || store.stats());
    let _ = (store.len(), bounded("info", || store.info()));
    let _ = bounded("extents", || store.extents());
    let _ = bounded("held_guards", || store.held_guards());
    let _ = bounded("histograms", || store.histograms(|_, _| {}));
    let _ = bounded("check", || store.check(|_, _| {}));
    let _ = bounded("namespaces", || store.namespaces());
    for place in NAMESPACES.iter().filter_map(|name| store.in_namespace(name).ok()) {
        let _ = bounded("get_many", || place.get_many(&keys));
        let _ = bounded("scan", || place.scan(Cursor::START, b"", 100));
        let _ = place.len();
    }
    let mut cursor = Some(Cursor::START);
    for _ in 0..100 {
        let Some(at) = cursor else { break };
        cursor = bounded("scan", || store.scan(at, b"", 10)).ok().and_then(|page| page.next);
    }
}
