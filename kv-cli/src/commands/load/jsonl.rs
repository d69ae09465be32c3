//! JSON lines: `{"key":…,"value":…,"ttl_ms":…}`, with `key_b64` and `value_b64` for bytes.

use std::borrow::Cow;
use std::io::BufRead;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Line, Record, Refusal, Source};
use crate::exit::Failure;
use crate::human;
use crate::records::{self, Piece};

/// The byte order mark that some programs put before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A reader of JSON lines.
pub(in crate::commands) struct Jsonl<R> {
    input: R,
    limit: usize,
    number: u64,
    buffer: Vec<u8>,
}

/// The members that count. `some` keeps `"value":null`, which is a value, apart from none.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default, deserialize_with = "some")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "some")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "some")]
    ttl_ms: Option<&'a RawValue>,
}

fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<R: BufRead> Jsonl<R> {
    pub(in crate::commands) fn new(input: R, limit: usize) -> Self {
        Jsonl { input, limit, number: 0, buffer: Vec::new() }
    }
}

impl<R: BufRead> Source for Jsonl<R> {
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            let piece = records::next(&mut self.input, b'\n', self.limit, &mut self.buffer)
                .map_err(|error| Failure::system("reading the input", &error))?;
            self.number += 1;
            let record = match piece {
                Piece::End => return Ok(None),
                Piece::TooLong => Err(Refusal::with(
                    "the line is too long",
                    format!("it has more than {} bytes", human::count(self.limit as u64)),
                )),
                Piece::Whole => {
                    let mut line = self.buffer.as_slice();
                    if self.number == 1 {
                        line = line.strip_prefix(BOM).unwrap_or(line);
                    }
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    parse(line)
                }
            };
            return Ok(Some(Line { number: self.number, record }));
        }
    }
}

fn parse(line: &[u8]) -> Result<Record, Refusal> {
    // serde would also take an array in place of an object, member by member.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::with("it is no JSON object", "an object begins with {"));
    }
    let object: Object<'_> = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // The line number within the line is always 1, and misleads beside the real one.
        Refusal::with("it is no JSON object", text.replace(" at line 1 column ", " at column "))
    })?;
    let key = match (object.key, object.key_b64) {
        (Some(_), Some(_)) => return Err(Refusal::new("it has both key and key_b64")),
        (None, None) => return Err(Refusal::new("it has no key")),
        (Some(raw), None) => text_of(raw)
            .ok_or_else(|| Refusal::with("the key is no string", raw.get()))?
            .into_bytes(),
        (None, Some(base64)) => bytes_of(&base64, "key_b64 is no base64")?,
    };
    let value = match (object.value, object.value_b64) {
        (Some(_), Some(_)) => return Err(Refusal::new("it has both value and value_b64")),
        (None, None) => return Err(Refusal::new("it has no value")),
        (Some(raw), None) => match text_of(raw) {
            Some(text) => text.into_bytes(),
            // A string that is none (half of a surrogate pair) is not stored as its source text.
            None if raw.get().starts_with('"') => {
                return Err(Refusal::new("the value is no Unicode string"));
            }
            None => raw.get().as_bytes().to_vec(),
        },
        (None, Some(base64)) => bytes_of(&base64, "value_b64 is no base64")?,
    };
    let ttl_ms = match object.ttl_ms.map(RawValue::get) {
        None => None,
        Some("null") => Some(None),
        Some(text) => Some(Some(
            text.parse()
                .map_err(|_| Refusal::with("ttl_ms is no whole number of milliseconds", text))?,
        )),
    };
    Ok(Record { key, value, ttl_ms })
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn bytes_of(base64: &str, reason: &'static str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(base64).map_err(|error| Refusal::with(reason, error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    /// What lines are made of, in any order.
    const PARTS: &str = r#"(\{|\}|"key"|"value"|"key_b64"|"value_b64"|"ttl_ms"|:|,|\[|null|-?[0-9.e]{1,25}|"[^"]{0,9}"|\\ud800|\\|\PC){0,40}"#;

    proptest! {
        #[test]
        fn whatever_a_line_says_is_answered(text in PARTS, bytes in vec(any::<u8>(), 0..80)) {
            for line in [text.as_bytes(), &bytes, format!("{{{text}}}").as_bytes()] {
                if let Err(refusal) = parse(line) {
                    assert_ne!(refusal.to_string(), "");
                }
            }
        }

        #[test]
        fn what_is_written_as_json_is_read_as_it_was(
            (key, value) in any::<(String, String)>(),
            (key_bytes, value_bytes) in any::<(Vec<u8>, Vec<u8>)>(),
            ttl_ms: Option<Option<u64>>,
        ) {
            let mut text = serde_json::json!({ "key": key, "value": value });
            let (key_b64, value_b64) = (STANDARD.encode(&key_bytes), STANDARD.encode(&value_bytes));
            let mut bytes = serde_json::json!({ "key_b64": key_b64, "value_b64": value_b64 });
            if let Some(ttl_ms) = ttl_ms {
                text["ttl_ms"] = ttl_ms.into();
                bytes["ttl_ms"] = ttl_ms.into();
            }
            let meant = Record { key: key.into_bytes(), value: value.into_bytes(), ttl_ms };
            assert_eq!(entry(&text.to_string()), meant);
            let meant = Record { key: key_bytes, value: value_bytes, ttl_ms };
            assert_eq!(entry(&bytes.to_string()), meant);
        }
    }

    /// An object in an object in an object: as many as a line has room for.
    #[test]
    fn nesting_does_not_use_up_the_stack() {
        let deep = format!("{{\"key\":\"k\",\"value\":{}", "[".repeat(1 << 20));
        assert_eq!(reason(deep.as_bytes()), "it is no JSON object");
    }

    fn entry(line: &str) -> Record {
        parse(line.as_bytes()).expect("is an entry")
    }

    fn reason(line: &[u8]) -> &'static str {
        parse(line).expect_err("is refused").reason
    }

    #[test]
    fn strings_bytes_and_other_values() {
        let record = entry(r#"{"key":"k\n","value":"vü\u00e9","ttl_ms":1500}"#);
        assert_eq!(record.key, b"k\n");
        assert_eq!(record.value, "vüé".as_bytes());
        assert_eq!(record.ttl_ms, Some(Some(1500)));
        let record = entry(r#"{"key_b64":"AP8=","value_b64":"AAEC"}"#);
        assert_eq!((record.key, record.value), (vec![0, 255], vec![0, 1, 2]));
        // The JSON text as it stood: order, digits and spaces.
        let json = |value: &str| entry(&format!(r#"{{"key":"k","value":{value}}}"#)).value;
        for text in [r#"{"b":1.10, "a":[ ]}"#, "123456789012345678901234567890", "true", "null"] {
            assert_eq!(json(text), text.as_bytes());
        }
    }

    #[test]
    fn other_members_are_ignored_and_null_ttl_is_none() {
        let record = entry(r#" {"id":7,"key":"k","value":"","ttl_ms":null,"more":{}} "#);
        assert_eq!(record, Record { key: b"k".to_vec(), value: Vec::new(), ttl_ms: Some(None) });
    }

    #[test]
    fn what_is_no_entry_is_refused_with_its_reason() {
        assert_eq!(reason(b"{"), "it is no JSON object");
        assert_eq!(reason(br#"["k","v"]"#), "it is no JSON object");
        assert_eq!(reason(br#"{"key":"k","value":"v"} x"#), "it is no JSON object");
        assert_eq!(reason(b"{\"key\":\"\xff\",\"value\":\"v\"}"), "it is no JSON object");
        assert_eq!(reason(br#"{"key":"k","key":"l","value":"v"}"#), "it is no JSON object");
        assert_eq!(reason(br#"{"value":"v"}"#), "it has no key");
        assert_eq!(reason(br#"{"key":"k"}"#), "it has no value");
        assert_eq!(reason(br#"{"key":7,"value":"v"}"#), "the key is no string");
        assert_eq!(reason(br#"{"key":null,"value":"v"}"#), "the key is no string");
        assert_eq!(
            reason(br#"{"key":"k","key_b64":"aw==","value":1}"#),
            "it has both key and key_b64"
        );
        assert_eq!(reason(br#"{"key":"k","value_b64":"!"}"#), "value_b64 is no base64");
        assert_eq!(reason(br#"{"key":"k","value":"\ud800"}"#), "the value is no Unicode string");
        for ttl in ["-1", "1.5", "\"5\"", "99999999999999999999"] {
            let line = format!(r#"{{"key":"k","value":"v","ttl_ms":{ttl}}}"#);
            assert_eq!(reason(line.as_bytes()), "ttl_ms is no whole number of milliseconds");
        }
    }

    #[test]
    fn lines_are_numbered_empty_ones_too_and_long_ones_refused() {
        let long = format!("{{\"key\":\"k\",\"value\":\"{}\"}}", "x".repeat(100));
        let good = r#"{"key":"k","value":"v"}"#;
        let input = format!("\u{feff}{good}\n\n{long}\n{good}\r\n{good}");
        let mut source = Jsonl::new(input.as_bytes(), 50);
        let mut seen = Vec::new();
        while let Some(line) = source.next().expect("reads") {
            seen.push((line.number, line.record.map_err(|refusal| refusal.reason).err()));
        }
        let expected = [(1, None), (3, Some("the line is too long")), (4, None), (5, None)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_sample_of_the_demo_is_read_whole() {
        let text = include_bytes!("../../../data/debian-packages.jsonl");
        let mut source = Jsonl::new(&text[..], 1 << 20);
        let mut count = 0;
        while let Some(line) = source.next().expect("reads") {
            assert!(line.record.is_ok(), "{line:?}");
            count += 1;
        }
        assert_eq!(count, 420);
    }
}
