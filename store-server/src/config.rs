//! The flags over the file, and where a setting that is refused stands.

use std::path::{Path, PathBuf};

use anyhow::Result;
use store_client::{CreateError, Info, NamespaceError, Spec, Writer};
use toml::Table;

use crate::settings::{KEEPING, Settings};
use crate::values::Setting;

/// What was told is not to be had: one line with the place, the rule, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// The settings, and where they are from.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    flags: Table,
    file: Option<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    text: String,
}

impl Config {
    /// Reads the file, if there is one, and lays the flags over it.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn load(flags: &Settings, path: Option<&Path>) -> Result<Config> {
        let file = path.map(File::read).transpose()?;
        let flags = Table::try_from(flags)?;
        let mut all = file.as_ref().map(File::settings).transpose()?.unwrap_or_default();
        all.extend(flags.clone());
        let config = Config { settings: all.clone().try_into()?, flags, file };
        config.refuse_options_without_size(&all)?;
        Ok(config)
    }

    fn refuse_options_without_size(&self, all: &Table) -> Result<()> {
        let unused = all.keys().find(|key| !KEEPING.contains(&key.as_str()));
        match unused {
            Some(key) if self.settings.size.is_none() => {
                let place = self.place_of(key);
                let reason = "is for a store that is made, and none is made without a size; add size \
                              (--size), such as 256MiB, or take it out";
                Err(Refused(format!("{place} {reason}")).into())
            }
            _ => Ok(()),
        }
    }

    /// Where a setting was given: the flag, or the file and the line.
    fn place_of(&self, key: &str) -> String {
        match &self.file {
            Some(file) if !self.flags.contains_key(key) => match file.line_of(key) {
                Some(line) => format!("{}:{line}: {key}", file.path.display()),
                None => key.to_owned(),
            },
            _ => format!("--{key}"),
        }
    }

    /// The refusal of a store's option with the place of the setting.
    pub(crate) fn explain(&self, error: CreateError) -> anyhow::Error {
        match error {
            CreateError::InvalidOption { option, given, rule } => {
                let place = self.place_of(option);
                Refused(format!("{place} is {given}, which is refused: {rule}")).into()
            }
            CreateError::Unsupported { ref what, remedy } => {
                let key = if what.contains("mode") { "mode" } else { "store" };
                let place = self.place_of(key);
                Refused(format!("{place}: {what} is not supported: {remedy}")).into()
            }
            error => error.into(),
        }
    }

    /// Makes the namespaces that are set and not there, and changes those that are; how many were made.
    ///
    /// # Errors
    /// [`Refused`] with the namespace for what can't be had; the others are there then.
    pub(crate) fn make_namespaces(&self, writer: &Writer) -> Result<usize> {
        let mut made = 0;
        for (name, namespace) in &self.settings.namespaces {
            let options = namespace.options();
            let done = match writer.create_namespace(name, &options) {
                Err(NamespaceError::Exists { .. }) => writer.change_namespace(name, &options),
                created => created.inspect(|()| made += 1),
            };
            match done {
                Ok(()) => {}
                Err(NamespaceError::Write(error)) => return Err(error.into()),
                Err(NamespaceError::Corruption(error)) => return Err(error.into()),
                Err(error) => {
                    let place = format!("namespaces.{name}");
                    let place = match &self.file {
                        Some(file) => format!("{}: {place}", file.path.display()),
                        None => place,
                    };
                    return Err(Refused(format!("{place}: {error}")).into());
                }
            }
        }
        Ok(made)
    }

    /// Looks whether such a store could be made, and what it would be, without making it: a private
    /// store takes no memory before it is written.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn check(&self) -> Result<Option<Info>> {
        if self.settings.remove() && matches!(self.settings.store(), Spec::Fd(_)) {
            let place = self.place_of("remove");
            let reason = "a store in a descriptor goes with its last descriptor and mapping, and \
                          has no name to remove; take it out";
            return Err(Refused(format!("{place}: {reason}")).into());
        }
        let Some(options) = self.settings.options() else { return Ok(None) };
        if let Spec::Fd(_) = self.settings.store() {
            let place = self.place_of("size");
            let reason =
                "a descriptor has its store already; take the size out, or name another store";
            return Err(Refused(format!("{place}: {reason}")).into());
        }
        match Writer::private(&options) {
            Ok(writer) => {
                self.make_namespaces(&writer)?;
                Ok(Some(writer.info()?))
            }
            Err(error @ (CreateError::InvalidOption { .. } | CreateError::Unsupported { .. })) => {
                Err(self.explain(error))
            }
            // Such as no address space here and now: making it will tell.
            Err(_) => Ok(None),
        }
    }

    /// The settings as the file would have them, with the defaults.
    ///
    /// # Errors
    /// None that are known.
    pub(crate) fn effective(&self) -> Result<Table> {
        Ok(Table::try_from(self.settings.with_defaults())?)
    }

    /// Whether the settings but for the interval are those of `other`.
    pub(crate) fn differs_beside_the_interval(&self, other: &Config) -> Result<bool> {
        let interval_ms = None::<Setting<_>>;
        let without =
            |config: &Config| Table::try_from(Settings { interval_ms, ..config.settings.clone() });
        Ok(without(self)? != without(other)?)
    }
}

impl File {
    fn read(path: &Path) -> Result<File> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Refused(format!("reading the configuration {}: {error}", path.display()))
        })?;
        Ok(File { path: path.to_owned(), text })
    }

    /// Its settings, each of which is good on its own.
    fn settings(&self) -> Result<Table> {
        let settings: Settings = toml::from_str(&self.text).map_err(|error| self.refuse(&error))?;
        Ok(Table::try_from(settings)?)
    }

    fn refuse(&self, error: &toml::de::Error) -> Refused {
        let path = self.path.display();
        let message = error.message().replace('\n', "; ");
        let Some(span) = error.span() else { return Refused(format!("{path}: {message}")) };
        let start = self.text.len().min(span.start);
        let number = self.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        let line = self.text.lines().nth(number).unwrap_or_default().trim();
        Refused(format!("{path}:{}: in `{line}`: {message}", number + 1))
    }

    fn line_of(&self, key: &str) -> Option<usize> {
        let is_of = |line: &str| {
            let rest = line.trim_start().trim_start_matches('"').strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start_matches(['"', ' ', '\t']).starts_with('='))
        };
        self.text.lines().position(is_of).map(|index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::proptest;

    use super::*;

    fn load(flags: &Settings, text: &str) -> Result<Config> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("writes");
        Config::load(flags, Some(file.path()))
    }

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = load(&Settings::default(), text).and_then(|config| config.check());
        let said = error.expect_err("refused");
        assert!(said.is::<Refused>(), "{said:?}");
        let said = said.to_string();
        assert!(!said.contains('\n'), "{said}");
        for part in parts {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    }

    /// What files are made of, in any order.
    const PARTS: &str = "(store|size|max-size|extent-size|items|mode|permissions|interval-ms|remove|\
                         namespaces|=|\\.|\\[|\\]|\\{|\"|\n|#| |true|[0-9]{1,20}|[0-9]MiB|cache|\
                         posix:x|\\PC){0,30}";

    proptest! {
        #[test]
        fn whatever_the_file_says_is_answered_in_one_line(text in PARTS) {
            if let Err(error) = load(&Settings::default(), &text) {
                assert!(error.is::<Refused>(), "{error:?}");
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn nesting_does_not_use_up_the_stack() {
        let deep = format!("size = {}", "[".repeat(1 << 16));
        assert!(load(&Settings::default(), &deep).is_err_and(|error| error.is::<Refused>()));
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Settings {
            interval_ms: Some(Setting(crate::values::Millis(20))),
            ..Settings::default()
        };
        let config = load(&flags, "store = \"posix:x\"\ninterval-ms = 700\nremove = true\n");
        let settings = config.expect("good").settings;
        assert_eq!(settings.interval().as_millis(), 20);
        assert_eq!(settings.store(), Spec::Posix("x".to_owned()));
        assert!(settings.remove());
    }

    #[test]
    fn refusals_name_the_line_the_key_and_the_limit() {
        refused("store = \"posix:x\"\nsizes = \"1MiB\"\n", &[":2: ", "sizes", "expected one of"]);
        refused("size = true\n", &[":1: ", "size = true", "256MiB"]);
        refused("\nsize = \"many\"\n", &[":2: ", "1024"]);
        refused("size = \"1KiB\"\n", &[":1: size is 1024", "is the least"]);
        refused("size = \"1MiB\"\nmax-size = \"1KiB\"\n", &[":2: max-size", "below the size"]);
        refused("size = \"1MiB\"\nextent-size = 5\n", &[":2: extent-size", "a power of two"]);
        refused("size = \"3TiB\"\n", &[":1: size", "2 TiB"]);
        refused("interval-ms = 0\n", &[":1: ", "1 to 3600000"]);
        refused("size = \"1MiB\"\npermissions = 640\n", &[":2: ", "quotes"]);
        refused("store = \"memfd:x\"\n", &[":1: ", "fd:N"]);
        refused("store = \"fd:3\"\nremove = true\n", &[":2: remove", "no name to remove"]);
        refused("store = \"fd:3\"\nsize = \"1MiB\"\n", &[":2: size", "already"]);
        refused("items = 5\n", &[":1: items", "add size"]);
        refused("store = \"posix:x\nsize\n", &["in `size`"]);
    }

    #[test]
    fn the_effective_configuration_is_one() {
        let text = "size = \"16MiB\"\n";
        let config = load(&Settings::default(), text).expect("good");
        let again = config.effective().expect("a table").to_string();
        let config = load(&Settings::default(), &again).expect("good");
        assert_eq!(config.effective().expect("a table").to_string(), again);
        assert!(again.contains("interval-ms = 500\n") && again.contains("permissions = \"0600\""));
    }

    #[test]
    fn the_example_is_complete_and_can_be_used() {
        let text = include_str!("../../docs/store-server.toml");
        let config = load(&Settings::default(), text).expect("good");
        config.check().expect("good");
        // With every comment of a key taken away it has each setting, once.
        let uncommented: String = text
            .lines()
            .map(|line| {
                format!(
                    "{}\n",
                    line.strip_prefix("#")
                        .filter(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '['))
                        .unwrap_or(line)
                )
            })
            .collect();
        // Only a cache has marks.
        let uncommented = uncommented.replace("mode = \"store\"", "mode = \"cache\"");
        let table: Table = uncommented.parse().expect("TOML");
        load(&Settings::default(), &uncommented).expect("good").check().expect("good");
        let flags = <crate::Args as clap::CommandFactory>::command();
        let known = flags.get_arguments().filter_map(|arg| arg.get_long());
        let known: Vec<&str> = known.filter(|long| !crate::FLAGS_ONLY.contains(long)).collect();
        for key in &known {
            assert!(table.contains_key(*key), "{key} is not in the example");
        }
        // Namespaces have no flag.
        assert!(table.contains_key("namespaces"));
        assert_eq!(table.len(), known.len() + 1);
    }
}
