//! Memory that Python and the engine share: new `bytes` to receive into, `bytes` held for sending,
//! and the buffers that a `BufferedProtocol` lends.
//!
//! Nothing here outlives the reference that keeps the memory alive, and nothing mutable is held
//! after the call that got it.
#![expect(unsafe_code, reason = "raw buffers")]

use std::mem::MaybeUninit;
use std::ptr;

use pyo3::exceptions::{PyBufferError, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use pyo3::{ffi, Borrowed};

use super::loop_owned::LoopOwned;
use super::objects;
use crate::engine::stream::write_queue::Chunk;

/// A new `bytes` object of `capacity` bytes, filled by `fill`, which returns how many it wrote.
///
/// The object has exactly the filled length, though it may keep memory for more; filling less than three quarters of
/// `capacity` costs a copy of what was filled, so ask for what is there.
///
/// # Errors
/// What `fill` returns, or `MemoryError` before it is called.
pub fn bytes_filled_by<E: From<PyErr>>(
    py: Python<'_>,
    capacity: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
) -> Result<Bound<'_, PyAny>, E> {
    let object = unfilled_bytes(py, capacity)?;
    // SAFETY: just made.
    Ok(unsafe { fill_bytes(&object, capacity, fill) }?.unwrap_or(object))
}

/// A `bytes` that nothing was written to.
///
/// # Errors
/// `MemoryError`.
pub(super) fn unfilled_bytes(py: Python<'_>, capacity: usize) -> PyResult<Bound<'_, PyAny>> {
    let length = ffi::Py_ssize_t::try_from(capacity).map_err(|_| PyMemoryError::new_err("buffer too large"))?;
    // SAFETY: attached; a null pointer asks for uninitialised contents.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(ptr::null(), length)) }
}

/// Has `object` filled as `bytes_filled_by` does; what it returns is to be used in its place.
///
/// # Safety
/// `object` is exactly a `bytes`, of `capacity` bytes, which nobody else has a reference to and nobody has hashed.
pub(super) unsafe fn fill_bytes<'py, E: From<PyErr>>(
    object: &Bound<'py, PyAny>,
    capacity: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
) -> Result<Option<Bound<'py, PyAny>>, E> {
    // SAFETY: nobody else sees it, so it may be written to, by the caller's promise; it has `capacity` bytes.
    let memory = unsafe {
        std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(object.as_ptr()).cast::<MaybeUninit<u8>>(), capacity)
    };
    let filled = fill(memory)?;
    if filled >= capacity {
        return Ok(None);
    }
    // There is one empty `bytes`.
    if filled < capacity / 4 * 3 || filled == 0 {
        // SAFETY: the first `filled` bytes are initialised by `fill`'s contract.
        let part = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), filled) };
        if let Ok(copy) = objects::bytes(object.py(), part) {
            return Ok(Some(copy));
        }
        // No memory for a copy: what was received is worth more than what is given away.
    }
    // SAFETY: nobody else sees it, and `filled` is less than `capacity`.
    unsafe { cut(object, filled) };
    Ok(None)
}

/// Makes a `bytes` end at `length`; its memory stays as long as it is. Needs no memory, so it cannot fail.
///
/// # Safety
/// Exactly a `bytes`, which nobody else has seen or hashed, and which is longer than `length`.
unsafe fn cut(object: &Bound<'_, PyAny>, length: usize) {
    // SAFETY: by the caller's promise, byte `length` is inside of the object, whose size this thread alone may change.
    unsafe {
        *ffi::PyBytes_AsString(object.as_ptr()).add(length) = 0;
        (*object.as_ptr().cast::<ffi::PyVarObject>()).ob_size = length as ffi::Py_ssize_t;
    }
}

/// A `bytes` for data that has been received already when there turns out to be no memory for it.
pub struct Reserve {
    object: LoopOwned<Option<Py<PyAny>>>,
    capacity: usize,
}

impl Reserve {
    pub const fn new(capacity: usize) -> Self {
        Self { object: LoopOwned::new(None), capacity }
    }

    /// To be called before anything is received: makes the object, if it is not there.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub fn make_sure(&self, py: Python<'_>) -> PyResult<()> {
        if self.object.with(py, |object| object.is_some()) {
            Ok(())
        } else {
            self.make(py)
        }
    }

    #[cold]
    fn make(&self, py: Python<'_>) -> PyResult<()> {
        let length = ffi::Py_ssize_t::try_from(self.capacity).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: attached; a null pointer asks for uninitialised contents, which nobody reads.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(ptr::null(), length))? };
        let _other = self.object.with(py, |kept| kept.replace(object.unbind()));
        Ok(())
    }

    /// `bytes(data)`; it is the object that was kept, if need be.
    ///
    /// # Errors
    /// `MemoryError`, if there is no such object, or `data` is too long for it.
    #[inline]
    pub fn bytes<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        objects::bytes(py, data).or_else(|error| self.spend(py, data).ok_or(error))
    }

    #[cold]
    fn spend<'py>(&self, py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyAny>> {
        if data.len() >= self.capacity {
            return None;
        }
        let object = self.object.with(py, Option::take)?.into_bound(py);
        // SAFETY: made by `make` with `capacity` bytes, more than `data` has, and nobody else has seen it. All bytes
        // before the cut are written.
        unsafe {
            let memory = ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>();
            ptr::copy_nonoverlapping(data.as_ptr(), memory, data.len());
            cut(&object, data.len());
        }
        Some(object)
    }
}

/// Memory that is filled and read again and again.
pub struct Scratch(Box<[MaybeUninit<u8>]>);

impl Scratch {
    pub fn new(capacity: usize) -> Self {
        Self(Box::new_uninit_slice(capacity))
    }

    /// What `fill` wrote; it returns how many bytes that were.
    pub fn filled_by(&mut self, fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> usize) -> &[u8] {
        let count = fill(&mut self.0).min(self.0.len());
        // SAFETY: the first `count` bytes are initialised by `fill`'s contract.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), count) }
    }
}

/// Runs `body` with a view of `memory`, which it may read only, and ends the view.
///
/// # Errors
/// What `body` returns, or `MemoryError`.
pub fn lent_to_read<'py, R>(
    py: Python<'py>,
    memory: &[u8],
    body: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: read only, and `memory` is borrowed until the view has ended.
    unsafe { lent(py, memory.as_ptr().cast_mut(), memory.len(), ffi::PyBUF_READ, body) }
}

/// Runs `body` with a view of `memory`, which it may write to only, and ends the view.
///
/// # Errors
/// What `body` returns, or `MemoryError`.
pub fn lent_to_write<'py, R>(
    py: Python<'py>,
    memory: &mut [MaybeUninit<u8>],
    body: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: written to in whole bytes, and `memory` is borrowed until the view has ended.
    unsafe { lent(py, memory.as_mut_ptr().cast(), memory.len(), ffi::PyBUF_WRITE, body) }
}

/// # Safety
/// `length` bytes from `start` on are valid until this returns, for what `flags` allow.
unsafe fn lent<'py, R>(
    py: Python<'py>,
    start: *mut u8,
    length: usize,
    flags: std::ffi::c_int,
    body: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
) -> PyResult<R> {
    /// Ends the view, also when the body panics. A view that somebody has a view of cannot be ended, and what comes
    /// next is a write to memory that is another's by then.
    struct End<'py>(Bound<'py, PyAny>);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            if self.0.call_method0(pyo3::intern!(self.0.py(), "release")).is_err() {
                std::process::abort();
            }
        }
    }
    let length = ffi::Py_ssize_t::try_from(length).unwrap_or(ffi::Py_ssize_t::MAX);
    // SAFETY: attached; the memory is valid by the caller's promise, for longer than the view lives.
    let view =
        End(unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyMemoryView_FromMemory(start.cast(), length, flags))? });
    body(&view.0)
}

/// What `transport.write` was given: the three types that asyncio accepts.
pub enum Data<'a, 'py> {
    /// Immutable: may be kept without a copy.
    Bytes(Borrowed<'a, 'py, PyBytes>),
    /// Mutable, or a view of something that may be: what must be kept is copied.
    View(ReadBuffer),
    /// A view whose memory is not in one piece, put together.
    Copied(Vec<u8>),
}

impl<'a, 'py> Data<'a, 'py> {
    /// `None` when `object` is none of the accepted types.
    ///
    /// # Errors
    /// What exporting the buffer raises.
    #[inline]
    pub fn new(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Some(Self::Bytes(bytes)));
        }
        if object.is_instance_of::<PyBytes>()
            || object.is_instance_of::<PyByteArray>()
            || object.is_instance_of::<PyMemoryView>()
        {
            return Ok(Some(match ReadBuffer::new(&object) {
                Ok(view) => Self::View(view),
                Err(error) if error.is_instance_of::<PyBufferError>(object.py()) => Self::Copied(copy(&object)?),
                Err(error) => return Err(error),
            }));
        }
        Ok(None)
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::View(view) => view.as_slice(),
            Self::Copied(bytes) => bytes,
        }
    }

    /// What must be kept of it once the first `offset` bytes are sent: a chunk, and where it starts in it.
    pub fn chunk_from(&self, offset: usize) -> (SendChunk, usize) {
        match self {
            Self::Bytes(bytes) => (SendChunk::Shared(SharedBytes::new(bytes)), offset),
            _ => (SendChunk::Owned(self.as_slice().get(offset..).unwrap_or_default().into()), 0),
        }
    }
}

/// A readable, contiguous buffer lent by a Python object until this is dropped.
///
/// Lives on the stack of one native call; the exporter's memory cannot move or shrink while it does.
pub struct ReadBuffer {
    view: Box<ffi::Py_buffer>,
}

impl ReadBuffer {
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached; the view is released by `drop`.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self { view })
    }

    fn as_slice(&self) -> &[u8] {
        let length = usize::try_from(self.view.len).unwrap_or_default();
        if length == 0 {
            return &[];
        }
        // SAFETY: the exporter guarantees `len` readable bytes at `buf` until the view is released; no Python
        // code that could write to them runs on this thread while the slice is used.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast(), length) }
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        // SAFETY: attached, as this never leaves the native call that made it; released once.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.view) };
    }
}

/// The bytes of any buffer, in C order, as `bytes(memoryview(object))` gives them.
fn copy(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
    // SAFETY: attached; on success the view is initialised and released below.
    if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_FULL_RO) } != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    // SAFETY: initialised by the successful call above.
    let mut view = unsafe { view.assume_init() };
    let length = usize::try_from(view.len).unwrap_or_default();
    let mut bytes = Vec::<u8>::with_capacity(length);
    // SAFETY: the vector has room for `len` bytes, and PyBuffer_ToContiguous writes exactly that many.
    let failed = unsafe {
        let failed =
            ffi::PyBuffer_ToContiguous(bytes.as_mut_ptr().cast(), &raw mut view, view.len, b'C' as std::ffi::c_char);
        if failed == 0 {
            bytes.set_len(length);
        }
        ffi::PyBuffer_Release(&raw mut view);
        failed
    };
    if failed != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(bytes)
}

/// An exact `bytes` object whose contents are read without being attached to the interpreter.
pub struct SharedBytes {
    start: *const u8,
    length: usize,
    // Keeps the memory alive. Exact bytes: dropping it runs no Python code.
    _owner: Py<PyBytes>,
}

// SAFETY: the memory behind `start` is immutable and owned by `_owner`, which may be sent and shared.
unsafe impl Send for SharedBytes {}
// SAFETY: as above; only reads are possible.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    fn new(bytes: &Borrowed<'_, '_, PyBytes>) -> Self {
        let slice = bytes.as_bytes();
        Self { start: slice.as_ptr(), length: slice.len(), _owner: (*bytes).to_owned().unbind() }
    }
}

/// One piece of a write queue.
pub enum SendChunk {
    Shared(SharedBytes),
    Owned(Box<[u8]>),
    /// Memory that was built up elsewhere, with room to spare.
    Grown(Vec<u8>),
}

impl Chunk for SendChunk {
    fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: `start` and `length` describe the contents of a bytes object that `_owner` keeps alive;
            // these never move and never change.
            Self::Shared(shared) => unsafe { std::slice::from_raw_parts(shared.start, shared.length) },
            Self::Owned(bytes) => bytes,
            Self::Grown(bytes) => bytes,
        }
    }
}

/// A writable, contiguous buffer lent by a Python object until this is dropped.
pub struct WritableBuffer {
    view: Box<ffi::Py_buffer>,
}

impl WritableBuffer {
    /// # Errors
    /// `BufferError` or `TypeError` when the object has no such buffer.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached; the view is released by `release`.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_WRITABLE) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self { view })
    }

    /// The memory, for the duration of a call that does not run Python code.
    pub fn memory(&mut self) -> &mut [u8] {
        let length = usize::try_from(self.view.len).unwrap_or_default();
        if length == 0 {
            return &mut [];
        }
        // SAFETY: the exporter guarantees `len` writable bytes at `buf` until the view is released. Python
        // code that could touch them too does not run while the slice is used; it is on this thread, or
        // (free-threaded) races as it would with `socket.recv_into`.
        unsafe { std::slice::from_raw_parts_mut(self.view.buf.cast(), length) }
    }

    /// As `memory`, for functions that say how much they wrote.
    pub fn memory_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let memory = self.memory();
        // SAFETY: the same memory under a weaker type; those who get it write whole bytes only.
        unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), memory.len()) }
    }

    /// Gives the buffer back.
    pub fn release(mut self, _py: Python<'_>) {
        // SAFETY: attached; the view came from PyObject_GetBuffer and is released once: `self` is consumed.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.view) };
    }
}
