//! Giving a store another name.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::name::{ObjectName, Place};
use crate::error::CreateError;
use crate::sys::registry;

/// Gives a store another name of the same kind, which nobody has, in one step: whoever looks finds it by
/// one of the two, and whole. Mappings that stand go on. A file goes to another place of its file system.
///
/// # Errors
/// `Exists`; `PermissionDenied`; `Unsupported` for keys, descriptors and names of two kinds; `System`.
pub fn rename(from: &ObjectName, to: &ObjectName) -> Result<(), CreateError> {
    let renamed = match (from.place(), to.place()) {
        (Place::Object(old), Place::Object(new))
            if matches!(
                (from, to),
                (ObjectName::Posix(_), ObjectName::Posix(_))
                    | (ObjectName::File(_), ObjectName::File(_))
            ) =>
        {
            move_file(&old.path(), &new.path())
        }
        (Place::Registered(old), Place::Registered(new)) => move_registration(old, new),
        _ => {
            return Err(CreateError::Unsupported {
                what: format!("giving {from} the name {to}"),
                remedy: "posix: and sysv: names and files get another one of their kind",
            });
        }
    };
    renamed.map_err(|source| {
        let name = to.to_string();
        match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists { name },
            io::ErrorKind::PermissionDenied => CreateError::PermissionDenied { name, source },
            _ => CreateError::System { call: "rename", name, source },
        }
    })
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag; a link is exclusive too.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

fn move_registration(from: &str, to: &str) -> io::Result<()> {
    // It may be registered in another directory, which comes first.
    if registry::find(to)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let registration = registry::find(from)?;
    registration.ok_or(io::ErrorKind::NotFound)?.rename(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Access, attach, create, destroy};

    fn names(kind: &str) -> [ObjectName; 2] {
        ["one", "two"].map(|which| {
            let name = format!("rename-{which}-{}", std::process::id());
            match kind {
                "posix" => ObjectName::Posix(name),
                "file" => ObjectName::File(std::env::temp_dir().join(name)),
                _ => ObjectName::Registered(name),
            }
        })
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_store_is_found_by_its_new_name_only() {
        for kind in ["posix", "file", "sysv"] {
            let [one, two] = names(kind);
            let found = |name: &ObjectName| attach::<Plain>(name, Access::ReadOnly);
            let made = create::<Plain>(&one, &CreateOptions::new(1 << 20)).expect("a store");
            let uuid = made.info().expect("it is whole").uuid;
            rename(&one, &two).expect("nobody has the name");
            found(&one).expect_err("it has another name");
            let store = found(&two).expect("it has this one");
            assert_eq!(store.info().expect("it is whole").uuid, uuid);
            create::<Plain>(&one, &CreateOptions::new(1 << 20)).expect("the name is free");
            let taken = rename(&one, &two);
            assert!(matches!(taken, Err(CreateError::Exists { .. })), "{taken:?}");
            found(&one).expect("it stays where it is");
            destroy(&one).expect("it is ours");
            destroy(&two).expect("it is ours");
        }
        let key = ObjectName::Key(0x4300_0001);
        let kinds = rename(&names("posix")[0], &key);
        assert!(matches!(kinds, Err(CreateError::Unsupported { .. })), "{kinds:?}");
    }
}
