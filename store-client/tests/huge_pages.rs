//! Huge pages: what was asked for, what was got, and stores in them that grow, are trimmed and attached.
#![allow(missing_docs)]

use std::process::Command;

use store_client::{CreateOptions, HugePages, Reader, Sealing, Spec, Writer, create, destroy};

const HUGE: u64 = 2 << 20;

/// A program that gives its pages back to the pool when it ends.
struct Pool(Option<String>);

const POOL: &str = "/proc/sys/vm/nr_hugepages";

impl Pool {
    /// A pool of so many pages; `None` where there is none to be had.
    fn of(pages: u64) -> Option<Pool> {
        let before = std::fs::read_to_string(POOL).ok()?;
        std::fs::write(POOL, pages.to_string()).ok()?;
        let pool = Pool(Some(before));
        let got: u64 = std::fs::read_to_string(POOL).ok()?.trim().parse().ok()?;
        (got >= pages).then_some(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            let _ = std::fs::write(POOL, before);
        }
    }
}

fn options(size: u64, pages: HugePages) -> CreateOptions {
    CreateOptions::new(size).huge_pages(pages)
}

/// Fills a store, empties half of it, trims it and looks at what is left.
fn used(writer: &Writer) {
    let value = vec![7; 3000];
    let mut items = 0_u32;
    while writer.put(&items.to_le_bytes(), &value).is_ok() {
        items += 1;
    }
    assert!(items > 1000, "{items}");
    for item in (0..items).step_by(2) {
        assert!(writer.delete(&item.to_le_bytes()).expect("no guard is held"));
    }
    while writer.clean(64).expect("cleaning") > 0 {}
    let _ = writer.trim(0, |_, _| {});
    assert_eq!(writer.check(|_, _| {}).violations, [""; 0]);
    for item in (1..items).step_by(2) {
        assert_eq!(writer.get(&item.to_le_bytes()).expect("no contention"), Some(value.clone()));
    }
}

/// Whether this kernel can be asked (Linux 6.1), as far as its number tells.
fn can_collapse() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0_u32), numbers.next().unwrap_or(0_u32)) >= (6, 1)
}

#[test]
fn transparent_ones_are_got_and_told() {
    let name = format!("huge-pages-{}", std::process::id());
    for spec in [format!("posix:{name}"), format!("sysv:{name}")] {
        let spec: Spec = spec.parse().expect("a name");
        let options = options(32 * HUGE, HugePages::Transparent).max_size(64 * HUGE);
        let writer = create(&spec, &options).expect("a store");
        let info = writer.info().expect("info");
        assert_eq!(info.huge_pages, HugePages::Transparent);
        assert!(info.segment_bytes.is_multiple_of(HUGE));
        assert!(info.huge_page_bytes <= info.segment_bytes);
        if can_collapse() {
            assert!(info.huge_page_bytes > info.segment_bytes / 2, "{}", info.huge_page_bytes);
        }
        // It grows in them.
        let before = info.huge_page_bytes;
        let value = vec![1; 100_000];
        let mut items = 0_u32;
        while writer.put(&items.to_le_bytes(), &value).is_ok() {
            items += 1;
        }
        let reader = Reader::attach(&spec).expect("a reader");
        let info = reader.info().expect("info");
        assert_eq!(info.huge_pages, HugePages::Transparent);
        if can_collapse() {
            assert!(info.huge_page_bytes > before * 3 / 2, "{} {before}", info.huge_page_bytes);
        }
        writer.clear().expect("no guard is held");
        used(&writer);
        destroy(&spec).expect("it is ours");
    }
    let private = Writer::private(&options(8 * HUGE, HugePages::Transparent)).expect("a store");
    used(&private);
    assert_eq!(private.info().expect("info").huge_pages, HugePages::Transparent);
    let none = Writer::private(&CreateOptions::new(8 * HUGE)).expect("a store");
    assert_eq!(none.info().expect("info").huge_pages, HugePages::Default);
}

#[test]
fn reserved_ones_are_all_or_nothing() {
    let spec: Spec = format!("sysv:pool-{}", std::process::id()).parse().expect("a name");
    let too_many = options(1 << 40, HugePages::Reserved).items(1000);
    let refused = create(&spec, &too_many).expect_err("the pool has no terabyte").to_string();
    assert!(refused.contains("vm.nr_hugepages") || refused.contains("shm"), "{refused}");
    let refused = Writer::private(&too_many).expect_err("nor here").to_string();
    assert!(refused.contains("vm.nr_hugepages"), "{refused}");
    let posix: Spec = "posix:pool".parse().expect("a name");
    let refused =
        create(&posix, &options(8 * HUGE, HugePages::Reserved)).expect_err("no such thing");
    assert!(refused.to_string().contains("hugetlbfs"), "{refused}");

    let Some(_pool) = Pool::of(48) else {
        eprintln!("no pool of huge pages can be had: the rest is left out");
        return;
    };
    let options = options(8 * HUGE, HugePages::Reserved);
    let mut stores = vec![
        Writer::private(&options).expect("a store"),
        Writer::anonymous(&options).expect("a store"),
        Writer::memfd(&options, Sealing::SharedWriters).expect("a store"),
    ];
    stores.push(create(&spec, &options).expect("a store"));
    for store in &stores {
        used(store);
        let info = store.info().expect("info");
        assert_eq!(info.huge_pages, HugePages::Reserved);
        assert_eq!(info.huge_page_bytes, info.max_segment_bytes, "{}", info.name);
        assert!(info.resident_bytes <= info.max_segment_bytes, "{}", info.name);
    }
    drop(stores);
    let reader = Reader::attach(&spec).expect("a reader");
    assert!(!reader.is_empty());
    drop(reader);
    destroy(&spec).expect("it is ours");

    // A file on a hugetlbfs has them without being told.
    let folder = tempfile::tempdir().expect("a directory");
    let mount = Command::new("mount").args(["-t", "hugetlbfs", "none"]).arg(folder.path()).status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("no hugetlbfs can be mounted: the rest is left out");
        return;
    }
    let spec = Spec::File(folder.path().join("store"));
    let seen = create(&spec, &CreateOptions::new(8 * HUGE)).map(|store| {
        used(&store);
        let reader = Reader::attach(&spec).expect("a reader");
        (reader.len(), store.len(), reader.info().expect("info").max_segment_bytes)
    });
    let removed = destroy(&spec);
    let _ = Command::new("umount").arg(folder.path()).status();
    let (read, written, bytes) = seen.expect("a store");
    assert_eq!(read, written);
    assert!(bytes.is_multiple_of(HUGE));
    removed.expect("it is ours");
}
