//! What is received, kept in a `bytearray`, and taken out of its front.
//!
//! No Python code runs while memory of an array is borrowed here (without a GIL, another thread that uses the array at the
//! same time races as it would with `socket.recv_into`).
#![expect(unsafe_code, reason = "raw buffers")]

use std::mem::MaybeUninit;
use std::ptr;

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyByteArrayMethods};

use super::objects;

unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Makes `room` bytes of room at the end of `array`, and keeps as many of them as `fill` returns.
///
/// `fill` must not run Python code. `None`: the array cannot grow, since somebody has a view of it.
///
/// # Errors
/// What `fill` returns, or `MemoryError`.
pub fn extended_by<E: From<PyErr>>(
    array: &Bound<'_, PyByteArray>,
    room: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
) -> Result<Option<usize>, E> {
    let before = array.len();
    let Ok(()) = array.resize(before.saturating_add(room)) else { return Ok(None) };
    // SAFETY: the array has `before + room` bytes now, which only this thread knows of: Python code that could touch
    // them does not run until they are cut off (without a GIL, another thread that uses the array at the same time races
    // as it would with `socket.recv_into`). They are written only.
    let memory = unsafe {
        let start = ffi::PyByteArray_AsString(array.as_ptr()).cast::<MaybeUninit<u8>>().add(before);
        std::slice::from_raw_parts_mut(start, room)
    };
    let filled = fill(memory);
    let count = filled.as_ref().map_or(0, |&count| count.min(room));
    if let Err(error) = array.resize(before + count) {
        // Nobody shall read what was never written.
        memory[count..].fill(MaybeUninit::new(0));
        return Err(error.into());
    }
    filled.map(|_| Some(count))
}

/// Where `needle`, which is not empty, begins in `array`, not before `start`.
pub fn find(array: &Bound<'_, PyByteArray>, needle: &[u8], start: usize) -> Option<usize> {
    // SAFETY: no Python code runs while the bytes are borrowed.
    let bytes = unsafe { array.as_bytes() };
    let (&first, rest) = needle.split_first()?;
    let mut from = start;
    loop {
        let at = from + memchr(first, bytes.get(from..)?)?;
        if bytes[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where the first such byte is.
fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: the function looks at as many bytes as there are; what it answers is null, or the address of one of them.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), i32::from(byte), bytes.len()) };
    (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)
}

/// The first `count` bytes, or all that there are, as `bytes`; they are taken out of `array`.
///
/// # Errors
/// `MemoryError`; `BufferError` if somebody looks at the array's memory.
pub fn take_front<'py>(array: &Bound<'py, PyByteArray>, count: usize) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `find`; the bytes are copied.
    let bytes = unsafe { array.as_bytes() };
    let taken = objects::bytes(array.py(), &bytes[..count.min(bytes.len())])?;
    cut_front(array, count)?;
    Ok(taken)
}

fn cut_front(array: &Bound<'_, PyByteArray>, count: usize) -> PyResult<()> {
    if count >= array.len() {
        return array.resize(0);
    }
    // SAFETY: attached, a live object; the count is less than its length, which is a Py_ssize_t.
    if unsafe { ffi::PySequence_DelSlice(array.as_ptr(), 0, count as ffi::Py_ssize_t) } != 0 {
        return Err(PyErr::fetch(array.py()));
    }
    Ok(())
}

/// As `take_front`, to the end of `collected`.
///
/// # Errors
/// As those of `take_front`.
pub fn move_front(array: &Bound<'_, PyByteArray>, count: usize, collected: &mut GrowingBytes) -> PyResult<()> {
    // SAFETY: as in `find`; the bytes are copied.
    let bytes = unsafe { array.as_bytes() };
    collected.push(array.py(), &bytes[..count.min(bytes.len())])?;
    cut_front(array, count)
}

/// What was taken becomes the front again.
///
/// # Errors
/// `MemoryError`; `BufferError` if somebody looks at the array's memory.
pub fn put_back(array: &Bound<'_, PyByteArray>, taken: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached, live objects.
    if unsafe { ffi::PySequence_SetSlice(array.as_ptr(), 0, 0, taken.as_ptr()) } != 0 {
        return Err(PyErr::fetch(array.py()));
    }
    Ok(())
}

/// A `bytes` that nobody has seen yet, and that grows.
#[derive(Default)]
pub struct GrowingBytes {
    /// `None`: empty. As long as its capacity, of which so many bytes are written.
    object: Option<Py<PyAny>>,
    capacity: usize,
    written: usize,
}

impl GrowingBytes {
    pub fn is_empty(&self) -> bool {
        self.object.is_none()
    }

    fn push(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let length = self.written.checked_add(data.len()).ok_or_else(|| PyMemoryError::new_err(()))?;
        if length > self.capacity {
            // The first piece may be all.
            self.resize(py, length.max(self.capacity + self.capacity / 2))?;
        }
        let Some(object) = &self.object else { return Ok(()) };
        // SAFETY: a `bytes` that only this has a reference to, with room for as much behind what is written.
        unsafe {
            let memory = ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>().add(self.written);
            ptr::copy_nonoverlapping(data.as_ptr(), memory, data.len());
        }
        self.written = length;
        Ok(())
    }

    /// Gives it another capacity; what was written is lost with an error.
    fn resize(&mut self, py: Python<'_>, capacity: usize) -> PyResult<()> {
        let size = ffi::Py_ssize_t::try_from(capacity).map_err(|_| PyMemoryError::new_err(()))?;
        let mut object = self.object.take().map_or(ptr::null_mut(), Py::into_ptr);
        // SAFETY: attached. The function takes the reference to a `bytes` that nobody else has one to, and gives one to what has
        // the new size, or null and an exception; a null pointer asks for uninitialised contents, which are written before
        // they are seen.
        let object = unsafe {
            if object.is_null() {
                object = ffi::PyBytes_FromStringAndSize(ptr::null(), size);
            } else {
                _PyBytes_Resize(&raw mut object, size);
            }
            Bound::from_owned_ptr_or_err(py, object)
        };
        (self.capacity, self.written) = if object.is_ok() { (capacity, self.written) } else { (0, 0) };
        self.object = Some(object?.unbind());
        Ok(())
    }

    /// All that was written.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn finish(mut self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        if self.written < self.capacity {
            self.resize(py, self.written)?;
        }
        match self.object.take() {
            Some(object) => Ok(object.into_bound(py)),
            None => objects::bytes(py, b""),
        }
    }
}

impl Drop for GrowingBytes {
    /// PyO3 may not know that the thread is attached.
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let _dropped = Python::try_attach(|py| drop(object.into_bound(py)));
        }
    }
}
