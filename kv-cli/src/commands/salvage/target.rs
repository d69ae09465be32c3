//! The new store: what it is made like, and the name that it has until it is whole.

use nix::unistd::{Gid, Uid, getegid, getgroups};
use store_client::{
    AttachError, CreateError, CreateOptions, GuardKind, HashKind, Mode, Reader, Spec, Survey,
    Wreck, Writer,
};

use super::SalvageArgs;
use crate::exit::{Exit, Failure};

/// What is added to a name until the store is whole.
const UNFINISHED: &str = ".salvaging";
/// The memory that a store takes besides its items.
const BYTES_BESIDES: u64 = 4 << 20;
/// What the index takes for an item, at most.
const INDEX_BYTES_PER_ITEM: u64 = 32;

/// A store that gets its name when it is whole.
pub(super) struct Target {
    spec: Spec,
    /// Where it is made.
    made_at: Spec,
    permissions: u32,
}

impl Target {
    /// # Errors
    /// Something has the name.
    pub(super) fn at(spec: Spec) -> Result<Target, Failure> {
        let name = || spec.to_string();
        match Reader::attach(&spec) {
            Err(AttachError::NotFound { .. }) => {}
            // As `create` does: the registration of a store that is gone.
            Err(AttachError::Stale { .. }) => store_client::destroy(&spec)?,
            Err(AttachError::NotAFile { kind, .. }) => {
                return Err(CreateError::Occupied { name: name(), kind }.into());
            }
            Err(AttachError::NotAStore { .. } | AttachError::SymbolicLink { .. }) => {
                let kind = "a file of another kind";
                return Err(CreateError::Occupied { name: name(), kind }.into());
            }
            // A descriptor has something in any case.
            _ if !matches!(spec, Spec::Fd(_)) => {
                return Err(CreateError::Exists { name: name() }.into());
            }
            _ => {}
        }
        let made_at = made_at(&spec);
        Ok(Target { spec, made_at, permissions: 0 })
    }

    /// Makes it, for its owner alone if it has its own name at once.
    pub(super) fn create(&mut self, options: &Chosen) -> Result<Writer, Failure> {
        self.permissions = options.permissions;
        let permissions = if self.made_at == self.spec { 0o600 } else { options.permissions };
        let made =
            store_client::create(&self.made_at, &options.options.clone().permissions(permissions));
        made.map_err(|error| match error {
            CreateError::Exists { name } if self.made_at != self.spec => Failure::new(
                Exit::Absent,
                format!(
                    "{name} exists already: another salvage fills it, or was killed before it was \
                     whole; remove it then (kv-cli rm --store {})",
                    self.made_at
                ),
            ),
            error => error.into(),
        })
    }

    /// Gives the store, which is whole by now, its name and its mode.
    pub(super) fn finish(&self, writer: Writer) -> Result<(), Failure> {
        drop(writer);
        if self.made_at == self.spec {
            return Ok(store_client::set_permissions(&self.spec, self.permissions)?);
        }
        store_client::rename(&self.made_at, &self.spec).map_err(|error| {
            Failure::from(error).at(&format!("what was saved is in {}", self.made_at))
        })
    }

    /// Removes what was made of it.
    pub(super) fn abandon(&self, writer: Writer) {
        drop(writer);
        // It was made just now, and nobody else knows of it.
        let _ = store_client::destroy(&self.made_at);
    }
}

/// Where a store is made that is to have a name in the end. A key is the only one that a segment has.
fn made_at(spec: &Spec) -> Spec {
    match spec {
        Spec::Posix(name) => Spec::Posix(format!("{name}{UNFINISHED}")),
        Spec::SysvName(name) => Spec::SysvName(format!("{name}{UNFINISHED}")),
        Spec::File(path) => {
            let mut path = path.clone().into_os_string();
            path.push(UNFINISHED);
            Spec::File(path.into())
        }
        other => other.clone(),
    }
}

/// What a new store is made like.
pub(super) struct Chosen {
    options: CreateOptions,
    permissions: u32,
}

/// What was asked for, and what the source was like for the rest.
pub(super) fn chosen(
    args: &SalvageArgs,
    wreck: &Wreck,
    survey: &Survey,
) -> Result<Chosen, Failure> {
    let mode: Option<Mode> = parsed(args.mode.as_deref())?;
    let hash: Option<HashKind> = parsed(args.hash.as_deref())?;
    let guard: Option<GuardKind> = parsed(args.guard.as_deref())?;
    let mut options = CreateOptions::new(args.size.unwrap_or_else(|| size_for(wreck, survey)))
        .mode(mode.unwrap_or_else(|| wreck.mode()))
        .hash(hash.or_else(|| wreck.hash()).unwrap_or_default())
        .guard(guard.unwrap_or_else(|| wreck.guard()))
        .extent_size(args.extent_size.unwrap_or_else(|| wreck.extent_bytes()));
    if wreck.checksums() {
        options = options.checksums(true);
    }
    if let Some(max_size) = args.max_size {
        options = options.max_size(max_size);
    }
    let (mut group, mut permissions) = (None, args.permissions.unwrap_or(0o600));
    if let (None, Some((its_group, its_permissions))) =
        (args.permissions, wreck.group_and_permissions())
    {
        // Its owner must be able to fill it. The rights of a group are for that group alone.
        permissions = its_permissions | 0o600;
        match may_give_to(its_group) {
            true => group = Some(its_group),
            false => permissions &= !0o070,
        }
    }
    if let Some(group) = group.filter(|group| *group != getegid().as_raw()) {
        options = options.group(group);
    }
    Ok(Chosen { options, permissions })
}

fn parsed<T: std::str::FromStr<Err = String>>(text: Option<&str>) -> Result<Option<T>, Failure> {
    text.map(str::parse).transpose().map_err(Failure::usage)
}

/// Whether this process may give what it makes to a group.
fn may_give_to(group: u32) -> bool {
    let group = Gid::from_raw(group);
    Uid::effective().is_root()
        || getegid() == group
        || getgroups().is_ok_and(|groups| groups.contains(&group))
}

/// A size that takes what was found, and no less than the source has.
fn size_for(wreck: &Wreck, survey: &Survey) -> u64 {
    let items = (survey.bytes / 4)
        .saturating_mul(5)
        .saturating_add(survey.items().saturating_mul(INDEX_BYTES_PER_ITEM));
    wreck.bytes().max(items.saturating_add(BYTES_BESIDES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_only_name_that_can_not_be_given_later() {
        for (spec, part) in [
            ("posix:a", "posix:a.salvaging"),
            ("sysv:a", "sysv:a.salvaging"),
            ("file:/x/a.kv", "file:/x/a.kv.salvaging"),
            ("sysv:0x43", "sysv:0x43"),
            ("fd:3", "fd:3"),
        ] {
            let spec: Spec = spec.parse().expect("a spec");
            assert_eq!(made_at(&spec).to_string(), part);
        }
    }
}
