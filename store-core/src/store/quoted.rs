//! A key within a sentence.

/// How much of a key is shown, in bytes: what is damaged may say that one is longer than any page.
const SHOWN_MAX: usize = 60;

/// A key with quotation marks, its beginning and length if it is long.
pub(super) fn quoted(key: &[u8]) -> String {
    let shown = key[..key.len().min(SHOWN_MAX)].escape_ascii();
    match key.len() {
        0..=SHOWN_MAX => format!("\"{shown}\""),
        len => format!("\"{shown}…\" ({len} bytes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn long_keys_are_cut() {
        assert_eq!(quoted(b"a\n\"\xFF"), r#""a\n\"\xff""#);
        assert_eq!(quoted(&[b'x'; 60]), format!("\"{}\"", "x".repeat(60)));
        assert_eq!(quoted(&[b'x'; 61]), format!("\"{}…\" (61 bytes)", "x".repeat(60)));
    }
}
