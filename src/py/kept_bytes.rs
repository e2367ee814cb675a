//! A `bytes` that was handed out and that nobody has kept, for the next data of the same length.
//!
//! ```text
//!   receive -> bytes -> protocol.data_received(bytes) -> ours alone again? -> kept -> receive -> ...
//! ```
//!
//! What is received is most often read and forgotten before the callback returns, and the next message is often as long.
//! libc takes 450 instructions to free and allocate more than a kilobyte, half as many as a message's way through this
//! crate, and touches other memory each time. An object that only the caller refers to is nobody's to notice: CPython,
//! too, changes such a `bytes` in place (`_PyBytes_Resize`). Without a GIL another thread may be looking, and nothing is
//! kept.
#![expect(unsafe_code, reason = "contents of an object that nobody refers to")]

use std::mem::MaybeUninit;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::buffer;
use super::loop_owned::LoopOwned;
use super::objects;
use crate::engine::stream::read_size::MOST_ROOM;

/// Shorter ones are as quickly made by CPython's own allocator.
const SHORTEST: usize = 480;
const LONGEST: usize = 64 * 1024;
/// As much as is received at once of a stream. libc gives blocks of that size back to the system, and fetches them again page by
/// page, where the threshold for mmap has been set (mallopt(3)).
pub const BLOCK: usize = MOST_ROOM;

/// See the module's documentation.
pub struct KeptBytes {
    message: LoopOwned<Option<Py<PyAny>>>,
    /// What a stream is received into by turns with shorter pieces, which do not take its place.
    block: LoopOwned<Option<Py<PyAny>>>,
}

impl KeptBytes {
    pub const fn new() -> Self {
        Self { message: LoopOwned::new(None), block: LoopOwned::new(None) }
    }

    /// `bytes(data)`.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub fn bytes<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let kept = self.message.with(py, |kept| kept.take_if(|kept| length(kept) == data.len()));
        let Some(object) = kept else { return objects::bytes(py, data) };
        let object = object.into_bound(py);
        // SAFETY: `keep` took an exact `bytes` that nobody else referred to and nobody had hashed; it is as long as `data`.
        unsafe {
            ptr::copy_nonoverlapping(data.as_ptr(), ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>(), data.len());
        }
        Ok(object)
    }

    /// `buffer::bytes_filled_by`, of a block.
    ///
    /// # Errors
    /// What `fill` returns, or `MemoryError` before it is called.
    pub fn filled_block<'py, E: From<PyErr>>(
        &self,
        py: Python<'py>,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> Result<Bound<'py, PyAny>, E> {
        let object = match self.block.with(py, Option::take) {
            Some(object) => object.into_bound(py),
            None => buffer::unfilled_bytes(py, BLOCK)?,
        };
        // SAFETY: of that length; just made, or as in `bytes`.
        match unsafe { buffer::fill_bytes(&object, BLOCK, fill) } {
            Ok(None) => Ok(object),
            Ok(Some(other)) => {
                self.keep(object);
                Ok(other)
            }
            Err(error) => {
                self.keep(object);
                Err(error)
            }
        }
    }

    /// Takes back what `bytes` or another function of this crate has made, unless somebody has kept it, or knows its hash.
    #[inline]
    pub fn keep(&self, object: Bound<'_, PyAny>) {
        if cfg!(Py_GIL_DISABLED) || !is_ours_alone(&object) {
            return;
        }
        let py = object.py();
        let place = match length(object.as_unbound()) {
            SHORTEST..=LONGEST => &self.message,
            BLOCK => &self.block,
            _ => return,
        };
        let _other = place.with(py, |kept| kept.replace(object.unbind()));
    }
}

/// Of a `bytes`.
#[inline]
fn length(object: &Py<PyAny>) -> usize {
    // SAFETY: a live object of variable size.
    unsafe { (*object.as_ptr().cast::<ffi::PyVarObject>()).ob_size as usize }
}

/// Whether it is a `bytes` that only the caller refers to, and of which nothing is known.
#[inline]
fn is_ours_alone(object: &Bound<'_, PyAny>) -> bool {
    let raw = object.as_ptr();
    // SAFETY: attached; a live object, and its type is checked before it is looked into.
    unsafe {
        if ffi::Py_REFCNT(raw) != 1 || ffi::PyBytes_CheckExact(raw) == 0 {
            return false;
        }
        #[cfg_attr(Py_3_11, expect(deprecated, reason = "there is no other way to know"))]
        let hash = (*raw.cast::<ffi::PyBytesObject>()).ob_shash;
        hash == -1
    }
}
