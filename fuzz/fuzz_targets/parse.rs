//! The texts that people write: specs, versions, cursors, and the kinds of things.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use store_client::{Cursor, GuardKind, HashKind, Mode, Spec, Version};

fuzz_target!(|text: &str| {
    survives::<Spec>(text);
    survives::<Version>(text);
    survives::<Cursor>(text);
    survives::<Mode>(text);
    survives::<HashKind>(text);
    survives::<GuardKind>(text);
});

/// What is understood is shown as a text that means the same; what is refused is refused with a reason.
fn survives<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse().ok(), Some(value)),
        Err(why) => assert_ne!(why.to_string(), ""),
    }
}
