//! Whether the current context has any variables, without a copy of it.
//!
//! The C API only copies the current context, and most callbacks are scheduled where it is empty: the copy is thrown away.
//! `PyThreadState` of CPython's Include/cpython/pystate.h has it in a field, at a place that is the same in all releases
//! of a version. When this module is set up it looks there while contexts are entered and left; unless it finds each of them,
//! contexts are copied as before.
#![expect(unsafe_code, reason = "a field of PyThreadState")]

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::Borrowed;

use super::call;

/// `offsetof(PyThreadState, context)`, on 64-bit machines.
const OFFSET: usize = if cfg!(Py_3_15) {
    232
} else if cfg!(Py_3_12) {
    208
} else if cfg!(Py_3_11) {
    224
} else {
    240
};

/// The context was found where it should be.
static IS_THERE: AtomicBool = AtomicBool::new(false);

/// The field of this thread; null until the thread has needed a context.
#[inline]
fn field(_py: Python<'_>) -> *mut ffi::PyObject {
    // SAFETY: attached, so there is a thread state; OFFSET is within it and a multiple of the size of a pointer.
    unsafe { ffi::PyThreadState_Get().byte_add(OFFSET).cast::<*mut ffi::PyObject>().read() }
}

/// Whether `contextvars.copy_context()` would have no variables. False: perhaps it would not, either.
#[inline]
pub fn is_empty(py: Python<'_>) -> bool {
    if !IS_THERE.load(Ordering::Relaxed) {
        return false;
    }
    let context = field(py);
    // SAFETY: the thread state keeps its context alive, and nothing is called that could change it.
    context.is_null() || !call::has_variables(unsafe { Borrowed::from_ptr(py, context) })
}

/// Looks whether the context is where it should be.
///
/// # Errors
/// There is no memory for contexts.
pub fn set_up(py: Python<'_>) -> PyResult<()> {
    if size_of::<usize>() != 8 {
        return Ok(());
    }
    let (outer, inner) = (call::new_context(py)?.unbind(), call::new_context(py)?.unbind());
    let before = field(py);
    let entered = call::in_context(py, &outer, || {
        let first = field(py) == outer.as_ptr();
        let second = call::in_context(py, &inner, || Ok(field(py) == inner.as_ptr()))?;
        Ok(first && second && field(py) == outer.as_ptr())
    })?;
    let after = field(py);
    IS_THERE.store(entered && after == before && after != outer.as_ptr(), Ordering::Relaxed);
    Ok(())
}
