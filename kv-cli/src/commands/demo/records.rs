//! The records of the demo, and what a reader may find under their keys.
//!
//! An update writes its number before every line of a record. A value put together from two updates
//! would show two numbers, so a reader that knows the record can tell whether it is whole.

use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// 420 records of Debian's package index; see data/README.md for source and licence.
const SAMPLE: &str = include_str!("../../../data/debian-packages.jsonl");

/// One package: its name and its record.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) key: String,
    pub(super) value: String,
}

/// The sample.
pub(super) fn packages() -> Result<Vec<Package>, Failure> {
    SAMPLE
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Exit::System, format!("the sample: {error}")))
}

impl Package {
    /// The record as update number `round` writes it.
    pub(super) fn updated(&self, round: u64) -> String {
        let mut out = String::with_capacity(self.value.len() * 5 / 4);
        let number = format!("{round} ");
        for line in self.value.split_inclusive('\n') {
            out.push_str(&number);
            out.push_str(line);
        }
        out
    }

    /// Whether a value is this record, as it was loaded or as one update wrote it.
    pub(super) fn is_whole(&self, found: &[u8]) -> bool {
        if found == self.value.as_bytes() {
            return true;
        }
        let digits = found.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || found.get(digits) != Some(&b' ') {
            return false;
        }
        let number = &found[..=digits];
        let mut rest = found;
        for line in self.value.split_inclusive('\n') {
            let after =
                rest.strip_prefix(number).and_then(|rest| rest.strip_prefix(line.as_bytes()));
            match after {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_sample_has_unique_keys_and_real_records() {
        let packages = packages().expect("the sample is read");
        assert_eq!(packages.len(), 420);
        let keys: HashSet<&str> = packages.iter().map(|package| package.key.as_str()).collect();
        assert_eq!(keys.len(), packages.len());
        for package in &packages {
            assert!(package.value.contains("Description"), "{}", package.key);
            assert!(package.value.lines().count() > 5, "{}", package.key);
        }
    }

    #[test]
    fn updates_are_whole_and_mixtures_are_not() {
        for package in packages().expect("the sample is read") {
            let (old, new) = (package.updated(7), package.updated(8));
            assert!(package.is_whole(package.value.as_bytes()));
            assert!(package.is_whole(old.as_bytes()));
            let cut = old.find('\n').map_or(1, |end| end + 1);
            let torn = [&old.as_bytes()[..cut], &new.as_bytes()[cut..]].concat();
            assert!(!package.is_whole(&torn), "{}", package.key);
            assert!(!package.is_whole(&old.as_bytes()[..old.len() - 1]));
            assert!(!package.is_whole(b""));
            assert!(!package.is_whole(b"7"));
        }
    }

    #[test]
    fn another_package_is_not_whole() {
        let packages = packages().expect("the sample is read");
        assert!(!packages[0].is_whole(packages[1].updated(1).as_bytes()));
        assert!(!packages[0].is_whole(packages[1].value.as_bytes()));
    }
}
