//! In cache mode: what readers look up stays, where they may mark it.

use store_client::{CreateOptions, Mode, Reader, Spec, Writer, create, destroy};

/// A cache of 1 MiB with a name of its own, removed when the test ends.
struct Named {
    spec: Spec,
    writer: Writer,
}

impl Named {
    fn new(test: &str, heat_permissions: u32) -> Self {
        let spec = format!("posix:marks-{test}-{}", std::process::id()).parse().expect("a spec");
        let _ = destroy(&spec);
        let options = CreateOptions::new(1 << 20)
            .mode(Mode::Cache)
            .items(4000)
            .heat_permissions(heat_permissions);
        let writer = create(&spec, &options).expect("a store");
        Self { spec, writer }
    }

    /// How many of 100 keys that a reader looks up again and again are there after a flood of ten
    /// times what fits.
    fn left_after_a_flood(&self, reader: &Reader) -> usize {
        let wanted = |number: u32| format!("wanted {number}").into_bytes();
        for number in 0..100 {
            self.writer.put(&wanted(number), &[1; 200]).expect("a put");
        }
        for passer in 0..30_000_u32 {
            self.writer.put(&passer.to_le_bytes(), &[2; 200]).expect("a put");
            reader.get(&wanted(passer % 100)).expect("a lookup");
        }
        (0..100).filter(|number| reader.contains(&wanted(*number)) == Ok(true)).count()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = destroy(&self.spec);
    }
}

#[test]
fn what_readers_look_up_stays_where_they_may_mark_it() {
    let named = Named::new("sampled", 0o666);
    let reader = Reader::attach(&named.spec).expect("a reader");
    assert!(reader.marks_lookups());
    let left = named.left_after_a_flood(&reader);
    assert!(left >= 95, "{left} of 100");
}

#[test]
fn readers_without_the_right_mark_nothing() {
    let named = Named::new("unmarked", 0);
    let reader = Reader::attach(&named.spec).expect("a reader");
    assert!(!reader.marks_lookups());
    assert_eq!(named.left_after_a_flood(&reader), 0);
}

/// The place for the marks of readers goes with the last process that has it.
#[test]
fn marks_leave_nothing_behind() {
    // Its length is known by the number of items: a power of two of marks, and 64 bytes.
    let places = || {
        let list = std::fs::read_to_string("/proc/sysvipc/shm").expect("a list");
        list.lines().filter(|line| line.split_whitespace().nth(3) == Some("131136")).count()
    };
    let spec: Spec = format!("posix:marks-leave-{}", std::process::id()).parse().expect("a spec");
    let options =
        CreateOptions::new(4 << 20).mode(Mode::Cache).items(30_000).heat_permissions(0o600);
    let before = places();
    let writer = create(&spec, &options).expect("a store");
    let reader = Reader::attach(&spec).expect("a reader");
    assert_eq!(places(), before + 1);
    drop(writer);
    assert_eq!(places(), before + 1);
    drop(reader);
    assert_eq!(places(), before);
    // The store is there, and the next writer makes another place.
    let writer = Writer::attach(&spec).expect("a writer");
    assert!(Reader::attach(&spec).expect("a reader").marks_lookups());
    destroy(&spec).expect("removed");
    drop(writer);
    assert_eq!(places(), before);
}
