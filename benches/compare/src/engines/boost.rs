//! Boost.Interprocess: a map in a managed shared memory, under a lock that readers share (`boost.cpp`).

use std::ffi::{CString, c_char};
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};

use crate::engine::{Engine, Memory, Setting};
use crate::workload::{KEY_BYTES, Key};

/// Bytes of its segment beside those of keys and values, for each item and in all.
const BYTES_PER_ITEM: u64 = 160;
const SPARE_BYTES: u64 = 64 << 20;

#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

#[expect(unsafe_code, reason = "C++")]
// SAFETY: as `boost.cpp` declares them.
unsafe extern "C" {
    fn boost_create(name: *const c_char, bytes: usize, items: usize) -> *mut Opaque;
    fn boost_attach(name: *const c_char) -> *mut Opaque;
    fn boost_detach(store: *mut Opaque);
    fn boost_get(store: *mut Opaque, key: *const u8, buffer: *mut u8, room: usize) -> isize;
    fn boost_get_many(
        store: *mut Opaque,
        keys: *const u8,
        count: usize,
        buffer: *mut u8,
        room: usize,
    ) -> isize;
    fn boost_put(store: *mut Opaque, key: *const u8, value: *const u8, len: usize) -> bool;
    fn boost_used_bytes(store: *const Opaque) -> usize;
}

pub(crate) struct Boost {
    store: NonNull<Opaque>,
}

impl Engine for Boost {
    fn create(setting: &Setting) -> Result<Self> {
        let name = CString::new(setting.name.as_str())?;
        let bytes = SPARE_BYTES + setting.data_bytes() + u64::from(setting.items) * BYTES_PER_ITEM;
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: a string that ends in 0; what is returned is null or a store.
        let store = unsafe { boost_create(name.as_ptr(), bytes as usize, setting.items as usize) };
        let store = NonNull::new(store).context("creating a managed shared memory")?;
        Ok(Self { store })
    }

    fn attach(setting: &Setting) -> Result<Self> {
        let name = CString::new(setting.name.as_str())?;
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: as above.
        let store = unsafe { boost_attach(name.as_ptr()) };
        let store = NonNull::new(store).context("opening a managed shared memory")?;
        Ok(Self { store })
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: a store until it is dropped, a key of the length that it expects, and room for as many
        // bytes as are told.
        let len = unsafe {
            boost_get(self.store.as_ptr(), key.as_ptr(), buffer.as_mut_ptr(), buffer.len())
        };
        match len {
            -1 => Ok(None),
            len => Ok(Some(len.try_into().context("a value that can't be given")?)),
        }
    }

    fn get_many<'a>(&'a mut self, keys: &[Key], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        const { assert!(size_of::<Key>() == KEY_BYTES && align_of::<Key>() == 1) };
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: as above; the keys lie one behind the other.
        let bytes = unsafe {
            let keys = (keys.as_ptr().cast::<u8>(), keys.len());
            let room = buffer.len();
            boost_get_many(self.store.as_ptr(), keys.0, keys.1, buffer.as_mut_ptr(), room)
        };
        let bytes: usize = bytes.try_into().context("values that can't be given")?;
        Ok(Some(&buffer[..bytes]))
    }

    #[inline]
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: as above.
        let done =
            unsafe { boost_put(self.store.as_ptr(), key.as_ptr(), value.as_ptr(), value.len()) };
        ensure!(done, "no room, or a lock that can't be had");
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory> {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: a store until it is dropped.
        let bytes = unsafe { boost_used_bytes(self.store.as_ptr()) } as u64;
        let counted = "its segment without `get_free_memory`";
        Ok(Memory { bytes, counted: counted.into() })
    }
}

impl Drop for Boost {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: made by `boost_create` or `boost_attach`, and dropped once.
        unsafe {
            boost_detach(self.store.as_ptr());
        }
    }
}
