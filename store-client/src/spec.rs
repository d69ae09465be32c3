//! Where a store is, as people write it: the spec alone names the backing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use store_core::ObjectName;

/// The longest POSIX name, so that it fits a file name with its prefix.
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
    /// The object of the spec.
    ///
    /// # Errors
    /// What is not supported yet, as text, for backings of other versions.
    pub(crate) fn object(&self) -> Result<ObjectName, Unsupported> {
        match self {
            Self::Posix(name) => Ok(ObjectName::Posix(name.clone())),
            Self::File(path) => Ok(ObjectName::File(path.clone())),
            Self::SysvName(_) | Self::SysvKey(_) => Err(Unsupported("System V shared memory")),
            Self::Fd(_) => Err(Unsupported("a store in a passed descriptor")),
        }
    }
}

/// A backing that this version lacks.
pub(crate) struct Unsupported(&'static str);

const REMEDY: &str = "use posix:NAME or file:PATH";

impl From<Unsupported> for store_core::AttachError {
    fn from(Unsupported(what): Unsupported) -> Self {
        Self::Unsupported { what: what.to_owned(), remedy: REMEDY }
    }
}

impl From<Unsupported> for store_core::CreateError {
    fn from(Unsupported(what): Unsupported) -> Self {
        Self::Unsupported { what: what.to_owned(), remedy: REMEDY }
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
                Some(key) => u32::from_str_radix(key, 16)
                    .map(Self::SysvKey)
                    .map_err(|_| wrong("the key after sysv:0x has 1 to 8 hexadecimal digits")),
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
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
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
