//! Values of Rust types: what comes back, and what is refused with which words.

use serde::{Deserialize, Serialize};
use store_client::{CreateOptions, PutOptions, TypedReadError, Writer};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    user: String,
    roles: Vec<u16>,
    last: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Point {
    x: u64,
    y: u32,
    z: u32,
}

fn store() -> Writer {
    Writer::private(&CreateOptions::new(4 << 20)).unwrap()
}

#[test]
fn serde_types_come_back_from_a_reader() {
    let writer = store();
    let none = PutOptions::new();
    let session = Session { user: "ada".to_owned(), roles: vec![1, 700], last: Some((1.0, -2.5)) };
    writer.put_postcard(b"s", &session, &none).unwrap();
    let reader = writer.reader();
    assert_eq!(reader.get_postcard::<Session>(b"s").unwrap(), Some(session));
    assert_eq!(reader.get_postcard::<Session>(b"t").unwrap(), None);
    writer.put_postcard(b"unsized", "text", &none).unwrap();
    assert_eq!(reader.get_postcard::<String>(b"unsized").unwrap().as_deref(), Some("text"));
}

#[test]
fn what_is_no_encoding_is_refused() {
    let writer = store();
    writer.put(b"s", b"\xFF\xFF").unwrap();
    let error = writer.get_postcard::<Session>(b"s").unwrap_err();
    assert!(matches!(error, TypedReadError::Decode { found: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("Session"), "{error}");
    // One byte more than the encoding.
    writer.put(b"s", b"\x05\x00").unwrap();
    assert!(matches!(writer.get_postcard::<u8>(b"s"), Err(TypedReadError::Decode { .. })));
    writer.put(b"s", b"\x05").unwrap();
    assert_eq!(writer.get_postcard::<u8>(b"s").unwrap(), Some(5));
}

#[test]
fn plain_types_are_their_bytes() {
    let writer = store();
    let none = PutOptions::new();
    let point = Point { x: u64::MAX - 1, y: 2, z: 3 };
    writer.put_zerocopy(b"p", &point, &none).unwrap();
    assert_eq!(writer.get(b"p").unwrap().as_deref(), Some(point.as_bytes()));
    assert_eq!(writer.reader().get_zerocopy::<Point>(b"p").unwrap(), Some(point));
    assert_eq!(writer.get_zerocopy::<[u32; 4]>(b"p").unwrap().unwrap()[2..], [2, 3]);
    assert_eq!(writer.get_zerocopy::<Point>(b"q").unwrap(), None);
    let row = [point, Point { x: 1, ..point }];
    writer.put_zerocopy(b"row", &row[..], &none).unwrap();
    assert_eq!(writer.get_zerocopy::<[Point; 2]>(b"row").unwrap(), Some(row));
}

#[test]
fn another_size_is_refused_with_both() {
    let writer = store();
    writer.put(b"p", &[0; 15]).unwrap();
    let error = writer.get_zerocopy::<Point>(b"p").unwrap_err();
    assert!(matches!(error, TypedReadError::WrongSize { expected: 16, found: 15, .. }));
    assert!(error.to_string().starts_with("the value has 15 bytes, a "), "{error}");
    assert!(error.to_string().ends_with("Point has 16"), "{error}");
    writer.put(b"p", &[0; 17]).unwrap();
    let error = writer.get_zerocopy::<Point>(b"p").unwrap_err();
    assert!(matches!(error, TypedReadError::WrongSize { found: 17, .. }));
}
