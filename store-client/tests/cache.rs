//! The embedded cache: what it holds, for how long, and whom it tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use store_client::{Cache, Cause, Gone, WriteError};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A listener that keeps what it was told.
fn ear() -> (Arc<Mutex<Vec<Gone>>>, impl Fn(Gone) + Send + Sync + 'static) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    (heard, move |gone| ear.lock().unwrap().push(gone))
}

#[test]
fn each_item_that_goes_is_told_once_with_its_value() {
    let (heard, tell) = ear();
    let cache = Cache::builder(1 << 20).items(4000).eviction_listener(tell).build().unwrap();
    let mut put = BTreeMap::new();
    for number in 0..20_000_u32 {
        let value = number.to_string().repeat(20).into_bytes();
        cache.insert(&number.to_le_bytes(), &value).unwrap();
        put.insert(number.to_le_bytes().to_vec(), value);
    }
    assert!(cache.remove(&19_999_u32.to_le_bytes()).unwrap());
    put.remove(&19_999_u32.to_le_bytes()[..]);
    let heard = heard.lock().unwrap();
    for gone in heard.iter() {
        assert_eq!(gone.cause, Cause::Evicted);
        assert_eq!(put.remove(&gone.key).as_ref(), Some(&gone.value));
    }
    assert!(heard.len() > 10_000);
    // What was not told is there.
    assert_eq!(cache.len(), put.len() as u64);
    for (key, value) in put {
        assert_eq!(cache.get(&key).unwrap(), Some(value));
    }
}

#[test]
fn what_expires_is_told_and_the_listener_may_use_the_cache() {
    let (heard, tell) = ear();
    let again = Arc::new(Mutex::new(None::<std::sync::Weak<Cache>>));
    let inner = Arc::clone(&again);
    let tell = move |gone: Gone| {
        if let Some(cache) = inner.lock().unwrap().as_ref().and_then(std::sync::Weak::upgrade) {
            cache.insert(b"last gone", &gone.key).unwrap();
        }
        tell(gone);
    };
    let cache =
        Cache::builder(1 << 20).time_to_live(millis(50)).eviction_listener(tell).build().unwrap();
    let cache = Arc::new(cache);
    *again.lock().unwrap() = Some(Arc::downgrade(&cache));
    cache.insert(b"k", b"v").unwrap();
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    sleep(millis(80));
    assert_eq!(cache.get(b"k").unwrap(), None);
    assert_eq!(cache.sweep().unwrap(), 1);
    assert_eq!(cache.stats().unwrap().expired, 1);
    assert_eq!(cache.get(b"last gone").unwrap().as_deref(), Some(&b"k"[..]));
    let heard = heard.lock().unwrap();
    assert_eq!((heard.len(), heard[0].cause, &heard[0].value[..]), (1, Cause::Expired, &b"v"[..]));
}

#[test]
fn an_item_idles_for_so_long_and_no_longer() {
    let cache = Cache::builder(1 << 20).time_to_idle(millis(400)).build().unwrap();
    cache.insert(b"asked for", b"1").unwrap();
    cache.insert(b"idle", b"2").unwrap();
    let (start, mut last) = (Instant::now(), Instant::now());
    while start.elapsed() < millis(900) {
        let found = cache.get(b"asked for").unwrap();
        // A machine that is busy may let it idle for too long.
        if last.elapsed() > millis(300) {
            cache.insert(b"asked for", b"1").unwrap();
        } else {
            assert_eq!(found.as_deref(), Some(&b"1"[..]));
        }
        last = Instant::now();
        sleep(millis(20));
    }
    assert_eq!(cache.get(b"idle").unwrap(), None);
    sleep(millis(450));
    assert_eq!(cache.get(b"asked for").unwrap(), None);
}

/// With both times the value is what was put, and it ends in time, however often it is looked up.
#[test]
fn an_item_that_is_asked_for_ends_all_the_same() {
    let (heard, tell) = ear();
    let cache = Cache::builder(1 << 20)
        .time_to_live(millis(600))
        .time_to_idle(millis(300))
        .eviction_listener(tell)
        .build()
        .unwrap();
    let start = Instant::now();
    cache.insert(b"k", b"value").unwrap();
    let loaded =
        cache.get_or_insert_with(b"l", || Ok::<_, WriteError>(b"loaded".to_vec())).unwrap();
    assert_eq!(loaded, b"loaded");
    let (mut last, mut idled) = (Duration::ZERO, Duration::ZERO);
    while start.elapsed() < millis(1200) {
        let asked = start.elapsed();
        idled = idled.max(asked - last);
        match cache.get(b"k").unwrap() {
            Some(value) => {
                assert_eq!(value, b"value");
                last = asked;
            }
            None => break,
        }
        assert_eq!(cache.get(b"l").unwrap().unwrap_or(b"loaded".to_vec()), b"loaded");
        sleep(millis(15));
    }
    assert!(last < millis(620), "{last:?}");
    // Unless a busy machine let it idle for too long.
    assert!(last > millis(350) || idled > millis(200), "{last:?}");
    cache.sweep().unwrap();
    assert!(heard.lock().unwrap().iter().any(|gone| gone.value == b"value"));
}

#[test]
fn stats_have_the_hit_ratio() {
    let cache = Cache::builder(1 << 20).build().unwrap();
    cache.insert(b"k", b"v").unwrap();
    for _ in 0..3 {
        cache.get(b"k").unwrap();
    }
    cache.get(b"absent").unwrap();
    assert_eq!(cache.stats().unwrap().counts.hit_ratio(), Some(0.75));
    assert_eq!((cache.clear().unwrap(), cache.is_empty()), (1, true));
}

#[test]
fn who_gets_or_inserts_looks_up_once() {
    for idle in [None, Some(millis(60_000))] {
        let mut builder = Cache::builder(1 << 20);
        if let Some(idle) = idle {
            builder = builder.time_to_idle(idle);
        }
        let cache = builder.build().unwrap();
        for _ in 0..4 {
            cache.get_or_insert_with::<()>(b"k", || Ok(b"v".to_vec())).unwrap();
        }
        let counts = cache.stats().unwrap().counts;
        assert_eq!((counts.hits, counts.misses), (3, 1), "{idle:?}");
    }
}

#[test]
fn times_that_are_too_short_are_refused() {
    let refused = Cache::builder(1 << 20).time_to_idle(millis(3)).build().unwrap_err().to_string();
    assert!(refused.contains("time-to-idle") && refused.contains("16 ms"), "{refused}");
    assert!(Cache::builder(1 << 20).time_to_live(Duration::ZERO).build().is_err());
}
