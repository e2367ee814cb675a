//! A function of an extension module that takes nothing, called at its address.
//!
//! What `PyObject_CallNoArgs` does besides (it finds the vectorcall function, counts the depth of recursion, looks at the
//! result twice) costs more than what a function does that only says what it knows.
#![expect(unsafe_code, reason = "CPython's C API")]

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

/// See the module's documentation.
pub struct PlainFunction {
    address: ffi::PyCFunction,
    /// Keeps the code and the module loaded.
    function: Py<PyAny>,
}

impl PlainFunction {
    /// `None` if it is not a function in C, or takes something.
    pub fn of(function: Bound<'_, PyAny>) -> Option<Self> {
        // SAFETY: attached, and a live object, whose type is checked before the others look into it.
        let address = unsafe {
            let object = function.as_ptr();
            let takes_nothing =
                ffi::PyCFunction_CheckExact(object) != 0 && ffi::PyCFunction_GetFlags(object) == ffi::METH_NOARGS;
            takes_nothing.then(|| ffi::PyCFunction_GetFunction(object)).flatten()
        };
        Some(Self { address: address?, function: function.unbind() })
    }

    #[inline]
    pub fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: attached; a function with the flag METH_NOARGS is called with what it is bound to, and null. The answer is a
        // new reference, or null and an exception.
        unsafe {
            let bound_to = ffi::PyCFunction_GetSelf(self.function.as_ptr());
            Bound::from_owned_ptr_or_err(py, (self.address)(bound_to, ptr::null_mut()))
        }
    }
}
