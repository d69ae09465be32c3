//! Stores without a name, which are passed on: by a descriptor, or by `fork`.

use super::Store;
use super::create::{New, pages_of};
use crate::config::CreateOptions;
use crate::error::{AttachError, CreateError};
use crate::region::{Region, Shim};
use crate::sys::holder::Holder;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, Sealing};

/// A store in a memfd. It is there for as long as somebody maps it or has its descriptor
/// ([`Store::descriptor`]).
///
/// # Errors
/// See [`CreateError`].
pub fn memfd<S: Shim>(options: &CreateOptions, sealing: Sealing) -> Result<Store<S>, CreateError> {
    let shown = "a memfd";
    let new = New::of(options, options.checksums.unwrap_or(false), pages_of(options), shown)?;
    let object =
        Object::memfd(new.pages()).map_err(|source| new.no_pages_or("memfd_create", source))?;
    let region = new.fill_object::<S>(object)?;
    if let Some(object) = region.holder().object() {
        object.seal(sealing).map_err(|source| new.refused("fcntl(F_ADD_SEALS)", source))?;
    }
    Ok(Store::over(region, shown.to_owned()).map_err(AttachError::from)?)
}

/// A store in shared anonymous memory, for this process and those that it forks. It is there for
/// as long as one of them lives.
///
/// # Errors
/// See [`CreateError`].
pub fn anonymous<S: Shim>(options: &CreateOptions) -> Result<Store<S>, CreateError> {
    let shown = "anonymous memory";
    let new = New::of(options, options.checksums.unwrap_or(false), pages_of(options), shown)?;
    let mapping = Mapping::anonymous(new.bytes(), new.pages())
        .map_err(|source| new.no_pages_or("mmap", source))?;
    let region = Region::of(mapping, Holder::Anonymous);
    new.fill::<S>(&region)?;
    Ok(Store::over(region, shown.to_owned()).map_err(AttachError::from)?)
}
