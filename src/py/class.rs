//! What PyO3 leaves out of a class: a finalizer that runs before the object is taken apart.
//!
//! `asyncio` warns of a transport that was dropped without `close()` and hands the transport itself to
//! the warning; that takes an object which is still whole (PEP 442), so `Drop` is too late.
#![expect(unsafe_code, reason = "type slots")]

use std::ffi::c_int;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, Borrowed, PyClass, PyTypeInfo};

/// A class with a finalizer, see `install_finalizer`.
pub trait Finalize: PyClass + PyTypeInfo {
    /// Runs once, when the object is about to be freed; it may bring it back to life. Exceptions are
    /// for `sys.unraisablehook`.
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Where the original deallocator of the class is kept.
    fn original_dealloc() -> &'static OnceLock<ffi::destructor>;
}

unsafe extern "C" fn finalize<C: Finalize>(object: *mut ffi::PyObject) {
    // CPython finalizes attached; PyO3 has to know. `None`: the interpreter is going away.
    let _ran = Python::try_attach(|py| {
        // SAFETY: `object` is an instance of C, whose slot this is.
        let slf = unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<C>() };
        // A finalizer must leave the current exception alone.
        let pending = PyErr::take(py);
        // A panic has printed its message already; there is nobody to hand it to.
        if let Ok(Err(error)) = catch_unwind(AssertUnwindSafe(|| C::finalize(&slf))) {
            error.write_unraisable(py, Some(&slf.to_owned().into_any()));
        }
        if let Some(error) = pending {
            error.restore(py);
        }
    });
}

unsafe extern "C" fn dealloc<C: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: called by CPython when the reference count fell to zero, with the object still tracked and
    // whole, which is what PyObject_CallFinalizerFromDealloc asks for; if it was not resurrected the
    // original deallocator gets it in the same state.
    unsafe {
        let resurrected: c_int = ffi::PyObject_CallFinalizerFromDealloc(object);
        if resurrected < 0 {
            return;
        }
        if let Some(original) = C::original_dealloc().get() {
            original(object);
        }
    }
}

/// Makes `C::finalize` run before an instance is freed, by reference count or by the collector.
pub fn install_finalizer<C: Finalize>(class: &Bound<'_, PyType>) {
    let raw = class.as_type_ptr();
    // SAFETY: the type was just created by PyO3, has no instances or subclasses yet, and is changed
    // under the module's initialization only. Its dealloc slot is always set.
    unsafe {
        if let Some(original) = (*raw).tp_dealloc {
            if C::original_dealloc().set(original).is_ok() {
                (*raw).tp_dealloc = Some(dealloc::<C>);
                (*raw).tp_finalize = Some(finalize::<C>);
                ffi::PyType_Modified(raw);
            }
        }
    }
}
