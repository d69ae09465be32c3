//! Saving what is whole in a store that can't be used any more.

use store_core::{AttachError, Salvaged, Survey, WriteError};

use crate::spec::Spec;
use crate::writer::Writer;

pub use store_core::Wreck;

/// Maps the segment of a store for reading, whatever it holds: it need not be one that can be attached. It
/// should be at rest ([`Wreck::writers`]): of what is written meanwhile it is left open whether it is saved. If its superblock does not tell where its extents are, `extent_bytes` does.
///
/// ```
/// # use store_client::{CreateOptions, Spec, Writer, create, destroy, wreck};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let spec: Spec = format!("posix:doc-salvage-{}", std::process::id()).parse()?;
/// create(&spec, &CreateOptions::new(4 << 20))?.put(b"key", b"value")?;
/// let wreck = wreck(&spec, None)?;
/// let survey = wreck.survey(|_, _| {})?;
/// let new = Writer::private(&CreateOptions::new(wreck.bytes()))?;
/// let salvaged = new.salvage(&wreck, &survey, |_, _| {})?;
/// assert_eq!(salvaged.items, 1);
/// assert_eq!(new.get(b"key")?.as_deref(), Some(&b"value"[..]));
/// # destroy(&spec)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `NoGeometry` if neither the superblock nor `extent_bytes` tells where its items are; `NotAStore` if
/// nothing says that it is one; `OtherVersion`; `NotFound`; `PermissionDenied`; `System`.
pub fn wreck(spec: &Spec, extent_bytes: Option<u64>) -> Result<Wreck, AttachError> {
    Wreck::open(&spec.object(), extent_bytes)
}

impl Writer {
    /// Puts what a survey of a wreck found whole into this store, which should be new. Lossy: deleted
    /// keys, old versions and values whose put was refused may be among it, since an arena does not tell
    /// which is which. Namespaces are
    /// made anew; one whose record can't be read is called `salvaged-N`. Costs a lookup and a put an item;
    /// `progress` is told (done, all).
    ///
    /// # Errors
    /// Those of [`put`](Writer::put), `Full` first of all; what was put until then stays.
    pub fn salvage(
        &self,
        wreck: &Wreck,
        survey: &Survey,
        progress: impl FnMut(u64, u64),
    ) -> Result<Salvaged, WriteError> {
        self.store.salvage(self.session()?, wreck, survey, progress)
    }
}
