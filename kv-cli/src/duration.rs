//! Durations as people write them: `500ms`, `10s`, `1.5h`, `1h30m`.
//!
//! A bare number is refused: whether `--ttl 10` means seconds or milliseconds is not to be guessed.
//! Only `0` is the same in every unit.

use std::time::Duration;

/// Units and their length in nanoseconds, `m` after `ms` so that the longer name wins.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86_400e9),
    ("w", 604_800e9),
];

/// Parses one or more numbers, each followed by its unit; or `0`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        |why: &str| format!("{why}; write a number with its unit, such as 500ms, 10s, 5m, 2h, 1d");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong("a number is missing"))?;
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if unit.is_empty() {
            return Err(wrong("the unit is missing"));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scale = scale.ok_or_else(|| wrong(&format!("{unit:?} is no unit of time")))?;
        let part = Duration::try_from_secs_f64(number * scale / 1e9)
            .map_err(|_| wrong("it is too long"))?;
        total = total.checked_add(part).ok_or_else(|| wrong("it is too long"))?;
        rest = tail.trim_start();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_is_answered(text in "([0-9.]{1,30}|[a-zµ]{1,4}|[ +-]|\\PC){0,12}") {
            if let Err(why) = parse(&text) {
                assert_ne!(why, "");
            }
        }

        #[test]
        fn whole_numbers_are_exact(hours in 0..10_000_u32, millis: u32) {
            let meant = Duration::from_secs(u64::from(hours) * 3600)
                + Duration::from_millis(millis.into());
            let found = parse(&format!("{hours}h {millis}ms"));
            // Floating point stands in between.
            assert!(found.is_ok_and(|found| found.abs_diff(meant) < Duration::from_micros(1)));
        }
    }

    #[test]
    fn durations_with_units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("2d 3s"), Ok(Duration::from_secs(2 * 86_400 + 3)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "10", "s", "10 s x", "-1s", "1.2.3s", "1e9s", "00", "0 0", "5 fortnights", "1h30"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let huge = "9".repeat(400) + "w";
        assert!(parse(&huge).is_err());
        assert!(parse("10").is_err_and(|error| error.contains("unit")));
    }
}
