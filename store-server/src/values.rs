//! Values as people write them, the same on the command line and in the file.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use bytesize::ByteSize;
use nix::unistd;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use store_client::{GuardKind, HashKind, HugePages, Mode, Spec};

/// A kind of value that has a text.
pub(crate) trait Value: Sized + fmt::Display {
    /// What is expected, after "expected".
    const EXPECTED: &'static str;
    /// Whether the file shows it as a number.
    const NUMBER: bool = false;

    /// # Errors
    /// What is wrong with the text, the limit, and what to write instead.
    fn of_text(text: &str) -> Result<Self, String>;

    /// # Errors
    /// The same for a number without quotes, which the file may have.
    fn of_number(number: i64) -> Result<Self, String> {
        Self::of_text(&number.to_string())
    }
}

/// A value of the command line or of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting<T>(pub(crate) T);

impl<T: Value> FromStr for Setting<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        T::of_text(text).map(Self)
    }
}

impl<T: Value> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.to_string();
        match text.parse() {
            Ok(number) if T::NUMBER => serializer.serialize_i64(number),
            _ => serializer.serialize_str(&text),
        }
    }
}

impl<'de, T: Value> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfFile(PhantomData))
    }
}

struct OfFile<T>(PhantomData<T>);

impl<T: Value> Visitor<'_> for OfFile<T> {
    type Value = Setting<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting<T>, E> {
        T::of_text(text).map(Setting).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Setting<T>, E> {
        T::of_number(number).map(Setting).map_err(E::custom)
    }
}

impl Value for Spec {
    const EXPECTED: &'static str = "posix:NAME, sysv:NAME, sysv:0xKEY, file:PATH or fd:N";

    fn of_text(text: &str) -> Result<Self, String> {
        if text.starts_with("memfd") {
            return Err(
                "the server can't keep a memfd of its own: it has no name, and the server \
                        can't hand its descriptor out yet; write posix:NAME, or have the program \
                        that makes the memfd pass it to the server as fd:N"
                    .to_owned(),
            );
        }
        text.parse().map_err(|error: store_client::ParseSpecError| error.to_string())
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl From<Size> for u64 {
    fn from(size: Size) -> u64 {
        size.0
    }
}

impl Value for Size {
    const EXPECTED: &'static str = "a size, such as \"256MiB\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.trim().parse::<ByteSize>().map(|size| Size(size.as_u64())).map_err(|_| {
            format!(
                "{text:?} is no size; write a number of bytes with a unit, such as 256MiB or \
                 1.5GiB (MiB counts by 1024, M and MB by 1000)"
            )
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => self.0.fmt(f),
        }
    }
}

/// Permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permissions(pub(crate) u32);

impl From<Permissions> for u32 {
    fn from(permissions: Permissions) -> u32 {
        permissions.0
    }
}

impl Value for Permissions {
    const EXPECTED: &'static str = "permissions in octal and in quotes, such as \"0640\"";

    fn of_text(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(bits) if bits <= 0o777 && !digits.starts_with('+') => Ok(Self(bits)),
            _ => Err(format!(
                "{text:?} are no permissions; write them in octal, from 0000 to 0777, such as 0640"
            )),
        }
    }

    /// 640 and 0o640 are two numbers, and it can't be known which one was meant.
    fn of_number(_: i64) -> Result<Self, String> {
        Err(format!("expected {}", Self::EXPECTED))
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A user, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User(pub(crate) u32);

impl Value for User {
    const EXPECTED: &'static str = "a user, by name or number";

    fn of_text(text: &str) -> Result<Self, String> {
        let by_name = |name: &str| Ok(unistd::User::from_name(name)?.map(|user| user.uid.as_raw()));
        number_of("user", text, by_name).map(Self)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group(pub(crate) u32);

impl From<Group> for u32 {
    fn from(group: Group) -> u32 {
        group.0
    }
}

impl Value for Group {
    const EXPECTED: &'static str = "a group, by name or number";

    fn of_text(text: &str) -> Result<Self, String> {
        let by_name =
            |name: &str| Ok(unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()));
        number_of("group", text, by_name).map(Self)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a user or a group that is given by name or number.
fn number_of(
    what: &str,
    text: &str,
    by_name: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, String> {
    // The largest number is none: the kernel takes it for no change.
    if let Ok(number) = text.parse::<i64>() {
        return u32::try_from(number).ok().filter(|number| *number != u32::MAX).ok_or_else(|| {
            format!("{what} {number} is out of range; write a number from 0 to {}", u32::MAX - 1)
        });
    }
    match by_name(text) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(format!("there is no {what} {text:?} on this machine")),
        Err(errno) => Err(format!("looking up {what} {text:?}: {errno}")),
    }
}

/// A number of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Items(pub(crate) u64);

impl From<Items> for u64 {
    fn from(items: Items) -> u64 {
        items.0
    }
}

impl Value for Items {
    const EXPECTED: &'static str = "a number of items";
    const NUMBER: bool = true;

    fn of_text(text: &str) -> Result<Self, String> {
        in_range("items", text, 1..=1 << 36).map(Self)
    }
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(pub(crate) u64);

impl Value for Millis {
    const EXPECTED: &'static str = "a number of milliseconds";
    const NUMBER: bool = true;

    fn of_text(text: &str) -> Result<Self, String> {
        in_range("milliseconds", text, 1..=3_600_000).map(Self)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn in_range(what: &str, text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        format!(
            "{text} {what} are out of range; write a whole number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

impl Value for Mode {
    const EXPECTED: &'static str = "\"store\" or \"cache\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Value for GuardKind {
    const EXPECTED: &'static str = "\"futex\" or \"sysv\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Value for HugePages {
    const EXPECTED: &'static str = "\"default\", \"transparent\" or \"reserved\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Value for HashKind {
    const EXPECTED: &'static str = "\"rapidhash\" or \"siphash\"";

    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

/// The shape of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people.
    Human,
    /// One JSON object on each line.
    Json,
}

impl Value for Format {
    const EXPECTED: &'static str = "\"human\" or \"json\"";

    fn of_text(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is no format: `human` or `json`")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    /// What is understood is shown as a text that means the same.
    fn survives<T: Value + PartialEq + fmt::Debug>(text: &str, number: i64) {
        for value in [T::of_text(text), T::of_number(number)].into_iter().flatten() {
            assert_eq!(T::of_text(&value.to_string()), Ok(value));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_answered(
            text in "([0-9.]{1,25}|0o|[KMGTPEiB]{1,3}|posix:|file:|fd:|[ +-]|\\PC){0,6}",
            number: i64,
        ) {
            survives::<Spec>(&text, number);
            survives::<Size>(&text, number);
            survives::<Permissions>(&text, number);
            survives::<Items>(&text, number);
            survives::<Millis>(&text, number);
            survives::<Mode>(&text, number);
            survives::<Format>(&text, number);
        }
    }

    #[test]
    fn sizes_are_shown_to_the_byte() {
        for (text, bytes, shown) in [
            ("256MiB", 256 << 20, "256MiB"),
            ("1.5GiB", 1536 << 20, "1536MiB"),
            ("1M", 1_000_000, "1000000"),
            ("4096", 4096, "4KiB"),
        ] {
            let size = Size::of_text(text).expect(text);
            assert_eq!(size, Size(bytes));
            assert_eq!(size.to_string(), shown);
            assert_eq!(Size::of_text(shown), Ok(size));
        }
        assert!(Size::of_text("many").is_err_and(|text| text.contains("256MiB")));
        assert!(Size::of_number(-1).is_err());
    }

    #[test]
    fn permissions_have_quotes() {
        assert_eq!(Permissions::of_text("0640"), Ok(Permissions(0o640)));
        assert_eq!(Permissions::of_text("640").map(|bits| bits.to_string()), Ok("0640".to_owned()));
        for text in ["1777", "0888", "+640", "rw-r-----"] {
            assert!(Permissions::of_text(text).is_err_and(|said| said.contains("0777")), "{text}");
        }
        assert!(Permissions::of_number(640).is_err_and(|text| text.contains("quotes")));
    }

    #[test]
    fn users_and_groups_have_names_and_numbers() {
        assert_eq!(User::of_text("root"), Ok(User(0)));
        assert_eq!(Group::of_number(12), Ok(Group(12)));
        assert!(User::of_text("no-such-user-here").is_err());
        assert!(Group::of_number(-1).is_err_and(|text| text.contains("4294967294")));
        assert!(User::of_text("4294967295").is_err());
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!(Millis::of_text("500"), Ok(Millis(500)));
        assert!(Millis::of_number(0).is_err_and(|text| text.contains("1 to 3600000")));
        assert!(Items::of_number(0).is_err());
        assert!(Items::of_text("1.5").is_err());
    }

    #[test]
    fn a_memfd_is_refused_with_the_reason() {
        assert!(Spec::of_text("memfd:x").is_err_and(|text| text.contains("fd:N")));
        assert!(Spec::of_text("fd:3").is_ok());
    }
}
