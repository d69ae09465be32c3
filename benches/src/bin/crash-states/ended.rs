//! A store that is being made, and one that is being destroyed: real files, half of whose words are
//! there.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use store_core::{
    Access, Condition, ObjectName, Plain, PutOptions, Store, attach, create, destroy,
};
use store_testing::crash::{Seen, each_prefix};
use store_testing::pair::geometries;
use store_testing::trace::{Logging, Stored, record};

const START: &str = "no store";
/// Where the length stands.
const LENGTH: Range<usize> = 56..64;

/// Makes and destroys a store of each geometry.
pub(crate) fn made_and_destroyed(seed: u64) -> Result<Seen> {
    let directory = tempfile::tempdir().context("a directory for half-made stores")?;
    let name = ObjectName::File(directory.path().join("half.cistern"));
    let whole = ObjectName::File(directory.path().join("whole.cistern"));
    let mut seen = Seen::default();
    // Another one each time, so that no more files are written than states are new.
    let options = &geometries()[(seed % 4) as usize];
    let (made, stores) = record(|| create::<Logging>(&whole, options));
    let made = made.context("making a store")?;
    let (address, image) = (made.info()?.address as usize, made.image()?);
    drop(made);
    // Its length is written first, by a call, so that it is known for the beginning of a store.
    let mut begun = vec![0; image.len()];
    begun[LENGTH].copy_from_slice(&image[LENGTH]);
    each_prefix(begun, address, &stores, |done, image, fingerprint| {
        seen.note((START, "make a store"), fingerprint, || {
            judge(&name, image, done == stores.len())
                .map_err(|error| format!("{done} of {} stores: {error:#}", stores.len()))
        });
    });
    let left = attach::<Plain>(&whole, Access::ReadOnly).context("attaching")?;
    let image = left.image()?;
    destroy(&whole).context("destroying")?;
    let marks = differences(&image, &left.image()?);
    ensure!(!marks.is_empty(), "a store that is destroyed says so");
    each_prefix(image, 0, &marks, |done, image, fingerprint| {
        seen.note((START, "destroy a store"), fingerprint, || {
            judge(&name, image, done == 0)
                .map_err(|error| format!("{done} of {} stores: {error:#}", marks.len()))
        });
    });
    Ok(seen)
}

/// The words that make `after` of `before`, in the order of their places.
fn differences(before: &[u8], after: &[u8]) -> Vec<Stored> {
    let words = before.as_chunks::<8>().0.iter().zip(after.as_chunks::<8>().0);
    let differing = words.enumerate().filter(|(_, (before, after))| before != after);
    let stored = |(at, (_, value)): (usize, (_, &[u8; 8]))| Stored {
        address: at * 8,
        value: u64::from_le_bytes(*value),
        bytes: 8,
    };
    differing.map(stored).collect()
}

/// One that is whole can be used; any other is refused, can be removed, and made anew.
fn judge(name: &ObjectName, image: &[u8], whole: bool) -> Result<()> {
    let path = path_of(name);
    fs::write(path, image)?;
    let attached = attach::<Plain>(name, Access::ReadWrite);
    ensure!(attached.is_ok() == whole, "attaching gives {:?}", attached.map(|_| ()));
    if let Ok(store) = attached {
        use_it(&store)?;
    }
    destroy(name).context("removing it")?;
    ensure!(!path.exists(), "it is still there");
    let store = create::<Plain>(name, &geometries()[0]).context("making it anew")?;
    use_it(&store)?;
    destroy(name).context("removing the new one")
}

fn path_of(name: &ObjectName) -> &PathBuf {
    match name {
        ObjectName::File(path) => path,
        other => panic!("{other} is no file"),
    }
}

fn use_it(store: &Store<Plain>) -> Result<()> {
    let session = store.open_session()?;
    let (options, always) = (PutOptions::new(), Condition::Always);
    store.put(&session, b"key", &[7; 100], &options, always)?;
    ensure!(store.get(b"key")? == Some(vec![7; 100]), "what was put is not there");
    store.close_session(&session)?;
    Ok(())
}
