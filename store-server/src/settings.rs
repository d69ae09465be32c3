//! What can be told to the server, by flags or by a file. A key of the file is a flag without its
//! hyphens.
//!
//! One more option of a store is a field of [`Settings`] and a line of [`Settings::options`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store_client::{CreateOptions, GuardKind, HashKind, HugePages, Mode, NamespaceOptions, Spec};

use crate::values::{Format, Group, Items, Millis, Permissions, Setting, Size, User};

/// All settings; those that nobody gave are `None`.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// The store: posix:NAME, sysv:NAME, sysv:0xKEY, file:PATH or fd:N [default: posix:default]
    #[arg(long, value_name = "SPEC", env = "KV_STORE", hide_env_values = true)]
    pub(crate) store: Option<Setting<Spec>>,

    /// Milliseconds between two looks at the store, from 1 to 3600000 [default: 500]
    #[arg(long, value_name = "MS", allow_hyphen_values = true)]
    pub(crate) interval_ms: Option<Setting<Millis>>,

    /// Remove the store when the server is ended by SIGTERM or SIGINT [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) remove: Option<bool>,

    /// Shape of the log: human, or json with one object on each line [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Setting<Format>>,

    /// Make the store with this size, such as 256MiB, if it is not there
    #[arg(long, help_heading = MAKING)]
    pub(crate) size: Option<Setting<Size>>,

    /// Size up to which it may grow [default: it does not grow]
    #[arg(long, value_name = "SIZE", help_heading = MAKING)]
    pub(crate) max_size: Option<Setting<Size>>,

    /// How many items the index is laid out for at first; it grows [default: by size]
    #[arg(long, value_name = "N", help_heading = MAKING)]
    pub(crate) items: Option<Setting<Items>>,

    /// Unit in which space is given to writers, from 4KiB to 1MiB [default: by size]
    #[arg(long, value_name = "SIZE", help_heading = MAKING)]
    pub(crate) extent_size: Option<Setting<Size>>,

    /// What happens when it is full: store refuses; cache evicts what was looked up least [default: store]
    #[arg(long, value_name = "MODE", help_heading = MAKING)]
    pub(crate) mode: Option<Setting<Mode>>,

    /// Hash of the keys: rapidhash, or siphash if strangers choose the keys [default: rapidhash]
    #[arg(long, value_name = "HASH", help_heading = MAKING)]
    pub(crate) hash: Option<Setting<HashKind>>,

    /// Guards of writers: futex, or sysv for System V semaphores [default: futex]
    #[arg(long, value_name = "GUARD", help_heading = MAKING)]
    pub(crate) guard: Option<Setting<GuardKind>>,

    /// Pages of 2 MiB: default, transparent (asked of the kernel) or reserved (of the pool) [default: default]
    #[arg(long, value_name = "KIND", help_heading = MAKING)]
    pub(crate) huge_pages: Option<Setting<HugePages>>,

    /// Whether each item carries a checksum [default: true for files, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = MAKING)]
    pub(crate) checksums: Option<bool>,

    /// Permission bits, in octal [default: 0600]
    #[arg(long, value_name = "BITS", help_heading = MAKING)]
    pub(crate) permissions: Option<Setting<Permissions>>,

    /// In cache mode, permissions of a place where readers mark what they look up, in octal [default: none]
    #[arg(long, value_name = "MODE", help_heading = MAKING)]
    pub(crate) heat_permissions: Option<Setting<Permissions>>,

    /// User that it is given to, by name or number
    #[arg(long, value_name = "NAME|UID", help_heading = MAKING)]
    pub(crate) owner: Option<Setting<User>>,

    /// Group that it is given to, by name or number
    #[arg(long, value_name = "NAME|GID", help_heading = MAKING)]
    pub(crate) group: Option<Setting<Group>>,

    /// Namespaces that there are to be, by name; of the file only.
    #[arg(skip)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) namespaces: BTreeMap<String, Namespace>,
}

/// What a namespace is to be. What nobody gave stays as it is; at first no quota, no time to live,
/// the store's mode.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Namespace {
    quota: Option<Setting<Size>>,
    default_ttl_ms: Option<u64>,
    mode: Option<Setting<Mode>>,
}

impl Namespace {
    pub(crate) fn options(&self) -> NamespaceOptions {
        let mut options = NamespaceOptions::new();
        if let Some(quota) = self.quota {
            options = options.quota(quota.0.into());
        }
        if let Some(millis) = self.default_ttl_ms {
            options = options.default_ttl(Duration::from_millis(millis));
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode.0);
        }
        options
    }
}

const MAKING: &str = "Making a store";

/// The settings that are of use without making a store.
pub(crate) const KEEPING: [&str; 5] = ["store", "interval-ms", "remove", "format", "namespaces"];

impl Settings {
    pub(crate) fn store(&self) -> Spec {
        let default = || Spec::Posix("default".to_owned());
        self.store.as_ref().map_or_else(default, |store| store.0.clone())
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.map_or(500, |millis| millis.0.0))
    }

    pub(crate) fn remove(&self) -> bool {
        self.remove.unwrap_or(false)
    }

    pub(crate) fn format(&self) -> Format {
        self.format.map_or(Format::Human, |format| format.0)
    }

    /// How to make the store, if it shall be made.
    pub(crate) fn options(&self) -> Option<CreateOptions> {
        let options = CreateOptions::new(self.size?.0.into());
        let options = with(options, self.max_size, CreateOptions::max_size);
        let options = with(options, self.items, CreateOptions::items);
        let options = with(options, self.extent_size, CreateOptions::extent_size);
        let options = with(options, self.mode, CreateOptions::mode);
        let options = with(options, self.hash, CreateOptions::hash);
        let options = with(options, self.guard, CreateOptions::guard);
        let options = with(options, self.huge_pages, CreateOptions::huge_pages);
        let options = with(options, self.checksums.map(Setting), CreateOptions::checksums);
        let options = with(options, self.permissions, CreateOptions::permissions);
        let options = with(options, self.heat_permissions, CreateOptions::heat_permissions);
        let options = with(options, self.group, CreateOptions::group);
        Some(options)
    }

    /// The same with what stands for a setting that nobody gave, as far as it is known before the
    /// store is made.
    pub(crate) fn with_defaults(&self) -> Settings {
        let store = self.store();
        let is_file = matches!(store, Spec::File(_));
        let made = self.size.is_some();
        Settings {
            interval_ms: Some(Setting(Millis(self.interval().as_millis() as u64))),
            remove: Some(self.remove()),
            format: Some(Setting(self.format())),
            max_size: self.max_size.or(self.size),
            mode: self.mode.or(made.then_some(Setting(Mode::Store))),
            hash: self.hash.or(made.then_some(Setting(HashKind::Rapidhash))),
            guard: self.guard.or(made.then_some(Setting(GuardKind::Futex))),
            huge_pages: self.huge_pages.or(made.then_some(Setting(HugePages::Default))),
            checksums: self.checksums.or(made.then_some(is_file)),
            permissions: self.permissions.or(made.then_some(Setting(Permissions(0o600)))),
            store: Some(Setting(store)),
            ..self.clone()
        }
    }
}

/// The options with one of them set, if it was given.
fn with<T: Into<P>, P>(
    options: CreateOptions,
    given: Option<Setting<T>>,
    set: fn(CreateOptions, P) -> CreateOptions,
) -> CreateOptions {
    match given {
        Some(setting) => set(options, setting.0.into()),
        None => options,
    }
}
