//! The operations that are counted, and the program that does one of them many times.

use std::hint::black_box;

use anyhow::{Context, Result, bail};
use store_core::{
    Condition, CreateOptions, Plain, PutOptions, Session, Store, Values, private_on_heap,
};

/// Items that are there: far more than the cache that is simulated holds.
const ITEMS: u64 = 100_000;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;
/// So much shorter is a value of another size: it takes fewer words.
const OTHER_BYTES: usize = 16;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 20;
/// How often an operation is done, or on how many keys.
pub(crate) const TIMES: u64 = 16_384;
/// Keys that are looked up together.
const TOGETHER: usize = 32;

/// Something that is done to one key after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Nothing but making keys: what the others are compared with.
    Keys,
    Get,
    GetInto,
    Miss,
    GetMany,
    PutOver,
    PutManyOver,
    PutOther,
    PutNew,
    Delete,
    Incr,
}

impl Operation {
    pub(crate) const COUNTED: [Self; 10] = [
        Self::Get,
        Self::GetInto,
        Self::Miss,
        Self::GetMany,
        Self::PutOver,
        Self::PutManyOver,
        Self::PutOther,
        Self::PutNew,
        Self::Delete,
        Self::Incr,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Get => "get",
            Self::GetInto => "get_into",
            Self::Miss => "miss",
            Self::GetMany => "get_many of 32, a key",
            Self::PutOver => "put, overwriting",
            Self::PutManyOver => "put_many of 32, overwriting, a key",
            Self::PutOther => "put, overwriting with another size",
            Self::PutNew => "put, a new key",
            Self::Delete => "delete",
            Self::Incr => "incr",
        }
    }

    pub(crate) fn of_name(name: &str) -> Result<Self> {
        let all = Self::COUNTED.into_iter().chain([Self::Keys]);
        all.into_iter().find(|it| it.name() == name).with_context(|| format!("no operation {name}"))
    }
}

/// A key of [`KEY_BYTES`] bytes.
fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:________________";
    key[4..12].copy_from_slice(&number.to_le_bytes());
    key[12..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

/// Numbers below [`ITEMS`] in an order that no prefetcher follows, the same each time, none twice.
fn numbers() -> impl Iterator<Item = u64> {
    // The step and the number of items have no common factor.
    (0..TIMES).map(|turn| turn.wrapping_mul(61_803) % ITEMS)
}

struct Fixture {
    store: Store<Plain>,
    session: Session,
    options: PutOptions,
}

impl Fixture {
    /// A store that is always the same one, at 70% of what it holds.
    fn new() -> Result<Self> {
        // An item takes 144 bytes, the index 15.
        let options = CreateOptions::new(24 << 20).items(ITEMS);
        let store = private_on_heap(&options, 7)?;
        let session = store.open_session()?;
        let fixture = Self { store, session, options: PutOptions::new() };
        for number in 0..ITEMS {
            fixture.put(&key(number), &[7; VALUE_BYTES])?;
        }
        Ok(fixture)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.store.put(&self.session, key, value, &self.options, Condition::Always)?;
        Ok(())
    }

    fn many(&self, mut each: impl FnMut(&[[u8; KEY_BYTES]]) -> Result<()>) -> Result<()> {
        let mut keys = Vec::with_capacity(TOGETHER);
        for number in numbers() {
            keys.push(key(number));
            if keys.len() == TOGETHER {
                each(&keys)?;
                keys.clear();
            }
        }
        Ok(())
    }
}

/// Does an operation [`TIMES`] times, and says whether it came out right. Everything else is the same
/// whatever the operation is.
pub(crate) fn perform(operation: Operation) -> Result<()> {
    let fixture = Fixture::new()?;
    let Fixture { store, session, options } = &fixture;
    let value = [9; VALUE_BYTES];
    let mut buffer = [0; VALUE_BYTES];
    let mut right = 0;
    match operation {
        Operation::Keys => {
            for number in numbers() {
                black_box(key(number));
                right += 1;
            }
        }
        Operation::Get => {
            for number in numbers() {
                right += u64::from(store.get(&key(number))?.is_some());
            }
        }
        Operation::GetInto => {
            for number in numbers() {
                let len = store.get_into(&key(number), &mut buffer)?;
                right += u64::from(len == Some(VALUE_BYTES) && buffer[0] == 7);
            }
        }
        Operation::Miss => {
            for number in numbers() {
                right += u64::from(store.get_into(&key(number + ITEMS), &mut buffer)?.is_none());
            }
        }
        Operation::GetMany => {
            let mut values = Values::new();
            fixture.many(|keys| {
                store.get_many_into(keys, &mut values)?;
                right += values.found() as u64;
                Ok(())
            })?;
        }
        Operation::PutOver => {
            for number in numbers() {
                fixture.put(&key(number), &value)?;
                right += 1;
            }
        }
        Operation::PutManyOver => fixture.many(|keys| {
            let items: Vec<_> = keys.iter().map(|key| (key, &value)).collect();
            let done = store.put_many(session, &items, options);
            right += done.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            Ok(())
        })?,
        Operation::PutOther => {
            for number in numbers() {
                fixture.put(&key(number), &value[..VALUE_BYTES - OTHER_BYTES])?;
                right += 1;
            }
        }
        Operation::PutNew => {
            for number in numbers() {
                fixture.put(&key(number + ITEMS), &value)?;
                right += 1;
            }
        }
        Operation::Delete => {
            for number in numbers() {
                right += u64::from(store.delete(session, &key(number))?);
            }
        }
        Operation::Incr => {
            // The same keys again and again: the first time each is made.
            for number in numbers() {
                store.add_to(session, &key(number % 1024 + 2 * ITEMS), 1)?;
                right += 1;
            }
        }
    }
    if right != TIMES {
        bail!("{}: {right} of {TIMES} came out right", operation.name());
    }
    Ok(())
}
