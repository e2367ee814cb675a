//! Whether classes and methods are as they were, asked often and cheaply.
//!
//! CPython numbers the states of a class for its own caches. The number is taken away when the class, or one that it
//! inherits from, is changed, and a new one is given by the next look-up of an attribute. No number is given twice (before
//! Python 3.11 `sys._clear_type_cache()` starts them anew, so there they say nothing), and a class that is changed again and
//! again gets none at last.
#![expect(unsafe_code, reason = "a field of a type object, and functions that PyO3 does not declare")]

use std::num::NonZeroU32;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

unsafe extern "C" {
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// The number of the class's present state; `None`: it has none now.
#[inline]
pub fn state_of(class: &Bound<'_, PyType>) -> Option<NonZeroU32> {
    if cfg!(not(Py_3_11)) {
        return None;
    }
    // SAFETY: attached; a field of a live type object. Without a GIL another thread may write to it, a whole word at once.
    let version = unsafe { std::ptr::read_volatile(&raw const (*class.as_type_ptr()).tp_version_tag) };
    NonZeroU32::new(version)
}

/// Whether `object` is a method that binds exactly this function.
#[inline]
pub fn is_method_of(object: &Bound<'_, PyAny>, function: &Py<PyAny>) -> bool {
    // SAFETY: attached; the function is only asked for after the type was checked; it is borrowed from the method.
    unsafe {
        std::ptr::eq(ffi::Py_TYPE(object.as_ptr()), &raw const PyMethod_Type)
            && PyMethod_Function(object.as_ptr()) == function.as_ptr()
    }
}
