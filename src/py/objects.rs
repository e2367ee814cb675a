//! New objects, and `MemoryError` where there is no memory for one.
//!
//! PyO3's own constructors of these types panic then, and a panic reaches Python as something that is no `Exception`.
//! All functions return a new reference; the thread is attached. Small numbers and "" are shared, not made.
#![expect(unsafe_code, reason = "constructors that answer null")]

use pyo3::exceptions::PyOverflowError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::Borrowed;

/// `bytes(data)`.
#[inline]
pub fn bytes<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; `data` is valid for reads of its length. The answer is a new reference, or null and an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), size(data.len())?)) }
}

pub fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: as in `bytes`; it is UTF-8, and what the function makes is a `str`.
    unsafe {
        let object = ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), size(text.len())?);
        Ok(Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked())
    }
}

/// The one `str` of this text that attributes are looked up by.
pub fn interned<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyString>> {
    let mut name = text(py, name)?.into_ptr();
    // SAFETY: attached; takes a reference to a `str`, and gives one to it or to an equal `str`.
    unsafe {
        ffi::PyUnicode_InternInPlace(&raw mut name);
        Ok(Bound::from_owned_ptr_or_err(py, name)?.cast_into_unchecked())
    }
}

#[inline]
pub fn float(py: Python<'_>, value: f64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached. The answer is a new reference, or null and an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(value)) }
}

/// An `int`.
#[inline]
pub fn count(py: Python<'_>, value: u64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: as in `float`.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromUnsignedLongLong(value)) }
}

#[inline]
pub fn tuple<'a, 'py: 'a>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let length = size(items.len())?;
    // SAFETY: as in `float`. The tuple has as many places as there are items, each of which gets a reference of its own
    // before anybody else sees the tuple; where an iterator has promised too much null is left, which tuples allow.
    unsafe {
        let tuple = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(length))?;
        for (place, item) in (0..length).zip(items) {
            ffi::PyTuple_SET_ITEM(tuple.as_ptr(), place, item.to_owned().into_ptr());
        }
        Ok(tuple.cast_into_unchecked())
    }
}

/// `{}`.
pub fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: as in `float`; what the function makes is a `dict`.
    unsafe { Ok(Bound::from_owned_ptr_or_err(py, ffi::PyDict_New())?.cast_into_unchecked()) }
}

/// `object.__dict__` of an object whose class leaves that as it is.
///
/// # Errors
/// `AttributeError` if it has none, `MemoryError`.
#[inline]
pub fn dict_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: attached; a live object. What the function finds or makes is a `dict`, and the reference to it is a new one.
    unsafe {
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Ok(Bound::from_owned_ptr_or_err(object.py(), dict)?.cast_into_unchecked())
    }
}

fn size(length: usize) -> PyResult<ffi::Py_ssize_t> {
    ffi::Py_ssize_t::try_from(length).map_err(|_| PyOverflowError::new_err("too large"))
}
