//! Every operation by itself, with criterion: `cargo bench -p store-benches [-- NAME]`. What a change of the
//! code changes; `store-bench-compare` says how it stands beside others, `instructions` what a processor
//! has to do for it.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use store_client::{CreateOptions, Cursor, PutOptions, Writer};

/// Items that fit into a processor's cache, and those that don't.
const SIZES: [(&str, u64); 2] = [("10k", 10_000), ("1M", 1_000_000)];
const VALUE: [u8; 100] = [7; 100];
/// Keys looked up or put together.
const TOGETHER: u64 = 32;
/// Bytes of a store for each item: at 70% of what it holds.
const BYTES_PER_ITEM: u64 = 240;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A key of 20 bytes.
fn key(number: u64) -> [u8; 20] {
    let mut key = *b"key:________________";
    key[4..12].copy_from_slice(&number.to_le_bytes());
    key[12..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

/// Numbers below a bound, in an order that no prefetcher follows.
struct Numbers {
    state: u64,
    below: u64,
}

impl Numbers {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((u128::from(self.state >> 16) * u128::from(self.below)) >> 48) as u64
    }

    fn keys(&mut self) -> Vec<[u8; 20]> {
        (0..TOGETHER).map(|_| key(self.next())).collect()
    }
}

fn filled(items: u64) -> Writer {
    let options = CreateOptions::new((items * BYTES_PER_ITEM).max(4 << 20)).items(items);
    let store = Writer::private(&options).expect("memory");
    for number in 0..items {
        store.put(&key(number), &VALUE).expect("room");
    }
    store
}

fn lookups(group: &mut Group<'_>, store: &Writer, numbers: &mut Numbers, items: u64) {
    let mut buffer = [0; VALUE.len()];
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |b| b.iter(|| store.get(&key(numbers.next()))));
    group.bench_function("get_into", |b| {
        b.iter(|| store.get_into(&key(numbers.next()), &mut buffer));
    });
    group.bench_function("get_with", |b| {
        b.iter(|| store.get_with(&key(numbers.next()), |value| black_box(value.len())));
    });
    group.bench_function("get_entry", |b| b.iter(|| store.get_entry(&key(numbers.next()))));
    group.bench_function("get_pinned", |b| {
        b.iter(|| store.get_pinned(&key(numbers.next())).map(|pinned| pinned.is_some()));
    });
    group.bench_function("contains", |b| b.iter(|| store.contains(&key(numbers.next()))));
    group.bench_function("ttl", |b| b.iter(|| store.ttl(&key(numbers.next()))));
    group.bench_function("miss", |b| {
        b.iter(|| store.get_into(&key(items + numbers.next()), &mut buffer));
    });
    group.throughput(Throughput::Elements(TOGETHER));
    group.bench_function("get_many of 32", |b| {
        b.iter(|| {
            store.get_many_with(&numbers.keys(), |_, value| {
                black_box(value);
            })
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("scan of 1000", |b| {
        b.iter(|| store.scan(Cursor::START, b"", 1000).map(|page| page.keys.len()));
    });
}

fn writes(group: &mut Group<'_>, store: &Writer, numbers: &mut Numbers, items: u64) {
    group.throughput(Throughput::Elements(1));
    group.bench_function("put", |b| b.iter(|| store.put(&key(numbers.next()), &VALUE)));
    let hour = PutOptions::new().ttl(Duration::from_secs(3600));
    group.bench_function("put with a time to live", |b| {
        b.iter(|| store.put_with(&key(numbers.next()), &VALUE, &hour));
    });
    group.bench_function("add, refused", |b| {
        b.iter(|| store.add(&key(numbers.next()), &VALUE, &PutOptions::new()));
    });
    group.bench_function("delete and put", |b| {
        b.iter(|| {
            let key = key(numbers.next());
            store.delete(&key).and_then(|_| store.put(&key, &VALUE))
        });
    });
    group.bench_function("compare_and_swap", |b| {
        b.iter(|| {
            let key = key(numbers.next());
            let found = store.get_entry(&key).expect("no contention").expect("it is there");
            store.compare_and_swap(&key, found.version, &VALUE, &PutOptions::new())
        });
    });
    group.bench_function("get_and_put", |b| {
        b.iter(|| store.get_and_put(&key(numbers.next()), &VALUE, &PutOptions::new()));
    });
    group.bench_function("take and put", |b| {
        b.iter(|| {
            let key = key(numbers.next());
            store.take(&key).and_then(|_| store.put(&key, &VALUE))
        });
    });
    group.bench_function("put and append", |b| {
        b.iter(|| {
            let key = key(numbers.next());
            store.put(&key, &VALUE).and_then(|_| store.append(&key, b"more"))
        });
    });
    group.bench_function("expire", |b| {
        b.iter(|| store.expire(&key(numbers.next()), Duration::from_secs(7200)));
    });
    group.bench_function("incr", |b| {
        b.iter(|| store.incr(&key(2 * items + numbers.next() % 1000), 1));
    });
    group.throughput(Throughput::Elements(TOGETHER));
    group.bench_function("put_many of 32", |b| {
        b.iter(|| {
            let pairs: Vec<_> = numbers.keys().into_iter().map(|key| (key, VALUE)).collect();
            store.put_many(&pairs, &PutOptions::new())
        });
    });
}

/// Values that are copied as a whole, and values in pieces.
fn long_values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("values");
    let store = Writer::private(&CreateOptions::new(256 << 20)).expect("memory");
    for (name, bytes) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("4 MiB", 4 << 20)] {
        let value = vec![7; bytes];
        let mut buffer = vec![0; bytes];
        let mut numbers = Numbers { state: 1, below: (64 << 20) / bytes as u64 };
        for number in 0..numbers.below {
            store.put(&key(number), &value).expect("room");
        }
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("get_into {name}"), |b| {
            b.iter(|| store.get_into(&key(numbers.next()), &mut buffer));
        });
        group.bench_function(format!("put {name}"), |b| {
            b.iter(|| store.put(&key(numbers.next()), &value));
        });
        store.clear().expect("no guard is held");
    }
    group.finish();
}

fn operations(criterion: &mut Criterion) {
    for (name, items) in SIZES {
        let store = filled(items);
        let mut numbers = Numbers { state: 1, below: items };
        let mut group = criterion.benchmark_group(name);
        lookups(&mut group, &store, &mut numbers, items);
        writes(&mut group, &store, &mut numbers, items);
        group.finish();
    }
}

criterion_group!(benches, operations, long_values);
criterion_main!(benches);
