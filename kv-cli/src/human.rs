//! Numbers, sizes, times and bytes as people read them, and sizes as people write them.

use std::time::Duration;

use bytesize::ByteSize;

/// `256MiB`, `1.5 GiB`, `4KB` or a plain number of bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    text.trim().parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| {
        "write a number of bytes with a unit, such as 256MiB, 1.5GiB or 64KiB (MiB counts by 1024, \
         M and MB by 1000)"
            .to_owned()
    })
}

/// A size in binary units, rounded.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// A size in binary units and to the byte: for limits, where rounding would mislead.
pub(crate) fn exact_size(bytes: u64) -> String {
    let exact = plural(bytes, "byte", "bytes");
    if bytes < 1 << 20 { exact } else { format!("{} ({exact})", size(bytes)) }
}

/// A number with its thousands apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of which only the first three digits are worth saying: `3,430,000`.
pub(crate) fn rounded(number: u64) -> String {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(2));
    count((number / unit).saturating_add(u64::from(number % unit >= unit.div_ceil(2))) * unit)
}

/// One of something, several of it: `1 key`, `2 keys`.
pub(crate) fn plural(number: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { several })
}

/// A short time in the unit that suits it.
pub(crate) fn nanos(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n if n < 1e9 => format!("{:.1} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// See [`nanos`].
pub(crate) fn elapsed(time: Duration) -> String {
    nanos(time.as_nanos() as f64)
}

/// How many a second, without dividing by zero.
pub(crate) fn per_second(number: u64, time: Duration) -> u64 {
    (number as f64 / time.as_secs_f64().max(1e-9)) as u64
}

/// A key for an error message: quoted, printable, not endless.
pub(crate) fn key(bytes: &[u8]) -> String {
    const LONGEST: usize = 60;
    let shown = match std::str::from_utf8(bytes) {
        Ok(text) => format!("{:?}", text.chars().take(LONGEST).collect::<String>()),
        Err(_) => format!("\"{}\"", bytes[..bytes.len().min(LONGEST)].escape_ascii()),
    };
    if bytes.len() > LONGEST { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}

/// A point in time since 1970 in UTC: `2025-03-01 12:34:56 UTC`.
pub(crate) fn date(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end; 400 of them have 146,097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_as_a_size_is_answered(
            text in "([0-9.]{1,30}|[KMGTPEkiB]{1,4}|[ +-]|\\PC){0,6}",
        ) {
            let _ = parse_size(&text);
        }

        #[test]
        fn numbers_are_shown_whatever_they_are(number: u64, bytes: Vec<u8>, time: u64) {
            assert_eq!(count(number).replace(',', ""), number.to_string());
            assert_eq!(parse_size(&number.to_string()), Ok(number));
            let _ = (rounded(number), exact_size(number), date(number), key(&bytes));
            let _ = (elapsed(Duration::from_nanos(time)), per_second(number, Duration::from_nanos(time)));
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("64 KiB"), Ok(64 << 10));
        assert_eq!(parse_size("1GB"), Ok(1_000_000_000));
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_size("4096"), Ok(4096));
        // As --help says.
        assert_eq!(parse_size("1M"), Ok(1_000_000));
        assert_eq!(parse_size("1K"), parse_size("1KB"));
        assert_eq!(parse_size("1Mi"), parse_size("1MiB"));
        for text in ["", "MiB", "12 parsecs", "-5", "0x10"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(exact_size(65_535), "65,535 bytes");
        assert_eq!(exact_size((1 << 20) + 1), "1.0 MiB (1,048,577 bytes)");
    }

    #[test]
    fn rounded_numbers_have_three_digits() {
        let cases = [(0, "0"), (7, "7"), (999, "999"), (1234, "1,230"), (1235, "1,240")];
        for (number, text) in cases {
            assert_eq!(rounded(number), text);
        }
        assert_eq!(rounded(9_999_999), "10,000,000");
        assert_eq!(rounded(3_425_402), "3,430,000");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "key", "keys"), "1 key");
        assert_eq!(plural(2, "key", "keys"), "2 keys");
    }

    #[test]
    fn times_get_a_unit() {
        assert_eq!(nanos(12.34), "12.3 ns");
        assert_eq!(nanos(1_500.0), "1.5 µs");
        assert_eq!(nanos(2_500_000.0), "2.5 ms");
        assert_eq!(elapsed(Duration::from_millis(1500)), "1.50 s");
    }

    #[test]
    fn keys_are_printable_and_short() {
        assert_eq!(key(b"plain"), "\"plain\"");
        assert_eq!(key(b"two\nlines"), "\"two\\nlines\"");
        assert_eq!(key(b"\xff\x00"), "\"\\xff\\x00\"");
        assert!(key(&[b'a'; 1000]).len() < 100);
        assert!(key("ü".repeat(500).as_bytes()).contains("1000 bytes"));
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_399_000), "2000-02-28 23:59:59 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_740_832_496_789), "2025-03-01 12:34:56 UTC");
        assert_eq!(date(1_735_689_599_000), "2024-12-31 23:59:59 UTC");
    }
}
