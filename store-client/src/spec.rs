//! Where a store is, as people write it: the spec alone names the backing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use store_core::ObjectName;

/// The longest name, so that it fits a file name with its prefix.
const NAME_BYTES_MAX: usize = 200;

/// `posix:NAME`, `sysv:NAME`, `sysv:0xKEY`, `file:PATH` or `fd:N`.
///
/// ```
/// use store_client::Spec;
/// let spec: Spec = "posix:prices".parse().unwrap();
/// assert_eq!(spec, Spec::Posix("prices".to_owned()));
/// assert_eq!(spec.to_string(), "posix:prices");
/// assert!("prices".parse::<Spec>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Spec {
    /// POSIX shared memory, `/dev/shm/cistern.NAME`.
    Posix(String),
    /// System V shared memory by a registered name.
    SysvName(String),
    /// System V shared memory by key.
    SysvKey(u32),
    /// A mapped file.
    File(PathBuf),
    /// An inherited or passed descriptor.
    Fd(i32),
}

/// The text names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} names no store: {rule}")]
pub struct ParseSpecError {
    /// What was given.
    pub given: String,
    /// What is expected.
    pub rule: &'static str,
}

impl Spec {
    /// The spec as the core names stores.
    pub(crate) fn object(&self) -> ObjectName {
        match self {
            Self::Posix(name) => ObjectName::Posix(name.clone()),
            Self::SysvName(name) => ObjectName::Registered(name.clone()),
            Self::SysvKey(key) => ObjectName::Key(*key),
            Self::File(path) => ObjectName::File(path.clone()),
            Self::Fd(number) => ObjectName::Descriptor(*number),
        }
    }
}

impl FromStr for Spec {
    type Err = ParseSpecError;

    fn from_str(text: &str) -> Result<Self, ParseSpecError> {
        let wrong = |rule| ParseSpecError { given: text.to_owned(), rule };
        let Some((backing, place)) = text.split_once(':') else {
            return Err(wrong("expected posix:NAME, sysv:NAME, sysv:0xKEY, file:PATH or fd:N"));
        };
        match backing {
            "posix" => Ok(Self::Posix(name(place).map_err(wrong)?)),
            "sysv" => match place.strip_prefix("0x").or_else(|| place.strip_prefix("0X")) {
                // Key 0 is IPC_PRIVATE.
                Some(key) => match u32::from_str_radix(key, 16) {
                    Ok(key) if key != 0 => Ok(Self::SysvKey(key)),
                    _ => Err(wrong("the key after sysv:0x has 1 to 8 hexadecimal digits, not 0")),
                },
                None => Ok(Self::SysvName(name(place).map_err(wrong)?)),
            },
            "file" if place.is_empty() => Err(wrong("there is no path after file:")),
            "file" if place.contains('\0') => Err(wrong("a path has no NUL byte")),
            "file" => Ok(Self::File(PathBuf::from(place))),
            "fd" => match place.parse() {
                Ok(fd) if fd >= 0 => Ok(Self::Fd(fd)),
                _ => Err(wrong("expected the number of an open descriptor after fd:")),
            },
            _ => Err(wrong("the backing is one of posix, sysv, file and fd")),
        }
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if matches!(text, "" | "." | "..") || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed)
    {
        return Err("a name has 1 to 200 letters, digits, dots, hyphens and underscores");
    }
    Ok(text.to_owned())
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posix(name) => write!(f, "posix:{name}"),
            Self::SysvName(name) => write!(f, "sysv:{name}"),
            Self::SysvKey(key) => write!(f, "sysv:{key:#x}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_survive_the_round_trip() {
        for text in ["posix:a", "posix:a.b-c_9", "sysv:x", "sysv:0xff", "file:/tmp/a b", "fd:3"] {
            assert_eq!(text.parse::<Spec>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_names_no_store_is_refused() {
        let long = format!("posix:{}", "x".repeat(201));
        for text in [
            "",
            "default",
            "posix:",
            "posix:a/b",
            "posix:../x",
            "sysv:",
            "sysv:0x",
            "sysv:0x1ffffffff",
            "sysv:0x0",
            "sysv:..",
            "file:",
            "fd:",
            "fd:-1",
            "fd:x",
            "http://x",
            "posix:a b",
            "file:/a\0b",
            &long,
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text:?}");
        }
    }
}
