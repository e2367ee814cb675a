//! Calls into Python.
//!
//! * `call0`, `call1`, `call_tuple`, `call_method1`, `vectorcall`: without a temporary tuple.
//! * `copy_context`, `Entered`: `contextvars` as `Context.run` does it, without its call.
#![expect(unsafe_code, reason = "CPython's C API")]

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::Borrowed;

use super::current_context;
#[cfg(not(Py_3_11))]
use super::objects;
use super::thread_end;

/// `function()`.
#[inline]
pub fn call0<'py>(py: Python<'py>, function: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; `function` is a live object; the result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, thread_end::call_no_args(function.as_ptr())) }
}

/// `function(argument)`.
#[inline]
pub fn call1<'py>(py: Python<'py>, function: &Py<PyAny>, argument: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), argument.as_ptr()];
    // SAFETY: attached; one argument follows the slot that PY_VECTORCALL_ARGUMENTS_OFFSET lets the callee
    // overwrite; both objects are kept alive by the caller's references.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = thread_end::vectorcall(function.as_ptr(), arguments, count, ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// `function(*arguments)`.
#[inline]
pub fn call_tuple<'py>(py: Python<'py>, function: &Py<PyAny>, arguments: &Py<PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; `arguments` is an exact tuple or a subclass of it.
    unsafe {
        Bound::from_owned_ptr_or_err(py, thread_end::call(function.as_ptr(), arguments.as_ptr(), ptr::null_mut()))
    }
}

/// `target.name()` without creating the bound method.
#[inline]
pub fn call_method0<'py>(py: Python<'py>, target: &Py<PyAny>, name: &Py<PyString>) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), target.as_ptr()];
    // SAFETY: as in `call_method1`, without an argument.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        Bound::from_owned_ptr_or_err(py, thread_end::vectorcall_method(name.as_ptr(), arguments, count))
    }
}

/// `target.name(argument)` without creating the bound method.
#[inline]
pub fn call_method1<'py>(
    py: Python<'py>,
    target: &Py<PyAny>,
    name: &Py<PyString>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), target.as_ptr(), argument.as_ptr()];
    // SAFETY: attached; two arguments (the target counts) follow the slot that the callee may overwrite;
    // all three objects are kept alive by the caller's references.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = thread_end::vectorcall_method(name.as_ptr(), arguments, count);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// `target.name(first, second)` without creating the bound method.
#[inline]
pub fn call_method2<'py>(
    py: Python<'py>,
    target: &Py<PyAny>,
    name: &Py<PyString>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), target.as_ptr(), first.as_ptr(), second.as_ptr()];
    // SAFETY: as in `call_method1`, with one argument more.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 3 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = thread_end::vectorcall_method(name.as_ptr(), arguments, count);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// `function(*positional, **keywords)` with the keyword values behind the positional ones.
#[inline]
pub fn vectorcall<'py>(
    py: Python<'py>,
    function: &Bound<'py, PyAny>,
    values: &[*mut ffi::PyObject],
    positional: usize,
    keyword_names: Option<&Py<PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    debug_assert!(values.len() >= positional);
    #[cfg(not(Py_3_11))]
    let keyword_names = keyword_names.map(|names| keywords_of(py, names, &values[positional..])).transpose()?;
    #[cfg(not(Py_3_11))]
    let keyword_names = keyword_names.as_ref();
    let names = keyword_names.map_or(ptr::null_mut(), |names| names.as_ptr());
    // SAFETY: attached; `values` holds borrowed references that the callers in this crate take from
    // objects alive during the call, one per positional argument and keyword name.
    unsafe {
        let result = thread_end::vectorcall(function.as_ptr(), values.as_ptr(), positional, names);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Keywords as `thread_end::vectorcall` takes them up to Python 3.10, where classes would make a dict of them anyway.
#[cfg(not(Py_3_11))]
fn keywords_of<'py>(
    py: Python<'py>,
    names: &Py<PyTuple>,
    values: &[*mut ffi::PyObject],
) -> PyResult<Bound<'py, PyDict>> {
    let keywords = objects::dict(py)?;
    for (name, &value) in names.bind(py).iter().zip(values) {
        // SAFETY: attached; a borrowed reference to a live object, by the contract of `vectorcall`.
        keywords.set_item(name, unsafe { Borrowed::from_ptr(py, value) })?;
    }
    Ok(keywords)
}

/// `target.name(*arguments)`, for calls that are rare.
pub fn call_method<'py>(
    target: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let method = target.getattr(name)?;
    call_tuple(target.py(), method.as_unbound(), arguments.as_unbound())
}

/// `function(*arguments, **keywords)`. A function in Python gets a copy of the keywords, one in C these.
#[inline]
pub fn call_with_keywords<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; a live tuple and a live dict.
    unsafe {
        let result = thread_end::call(function.as_ptr(), arguments.as_ptr(), keywords.as_ptr());
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// `contextvars.copy_context()`.
#[inline]
pub fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// `contextvars.Context()`.
#[inline]
pub fn new_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached; returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
}

/// `contextvars.copy_context()`, or `None` if it has no variables.
#[inline]
pub fn copy_context_if_any(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    if current_context::is_empty(py) {
        return Ok(None);
    }
    let context = copy_context(py)?.into_bound(py);
    Ok(if has_variables(context.as_borrowed()) { Some(context.unbind()) } else { None })
}

/// Whether a context has any.
#[inline]
pub fn has_variables(context: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: attached; a live object, whose class has the slots that it names. `len()` would look for others first.
    let length = unsafe {
        let mapping = (*ffi::Py_TYPE(context.as_ptr())).tp_as_mapping.as_ref();
        mapping.and_then(|mapping| mapping.mp_length).map_or(-1, |length| length(context.as_ptr()))
    };
    length != 0
}

/// `context.copy()`.
pub fn copy_of_context(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; the function checks the type itself; returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind) }
}

/// Whether `context.run` can be replaced by entering and leaving it.
#[inline]
pub fn is_context(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyContext_CheckExact(context.as_ptr()) != 0 }
}

/// Runs `body` inside of `context`, as `context.run` would.
///
/// # Errors
/// `RuntimeError` when the context is entered already, else what `body` returns.
#[inline(always)]
pub fn in_context<'py, R>(py: Python<'py>, context: &Py<PyAny>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let entered = Entered::new(py, context)?;
    // Not one `leave` for both: a result is large, and what has no size and is no error is not copied then.
    match body() {
        Ok(value) => entered.leave().map(|()| value),
        Err(error) => entered.leave().and(Err(error)),
    }
}

/// A context that is entered until this is dropped or left.
struct Entered<'a, 'py>(&'a Py<PyAny>, Python<'py>);

impl<'a, 'py> Entered<'a, 'py> {
    #[inline]
    fn new(py: Python<'py>, context: &'a Py<PyAny>) -> PyResult<Self> {
        // SAFETY: attached; `PyContext_Enter` checks the type itself and sets an exception on failure.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self(context, py))
    }

    #[inline]
    fn leave(self) -> PyResult<()> {
        let (context, py) = (self.0, self.1);
        std::mem::forget(self);
        // SAFETY: attached; this context was entered by `new` and is the innermost one of this thread:
        // the body ran to its end, and every `Context.run` in it has returned.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(())
    }
}

impl Drop for Entered<'_, '_> {
    /// Only reached when the body panicked, or the thread is being ended.
    fn drop(&mut self) {
        thread_end::stay_if_ended();
        // SAFETY: as in `leave`. A failure leaves an exception set, which is cleared.
        unsafe {
            if ffi::PyContext_Exit(self.0.as_ptr()) != 0 {
                ffi::PyErr_Clear();
            }
        }
    }
}

/// Runs pending Python-level signal handlers (main thread only; elsewhere it does nothing).
#[inline]
pub fn check_signals(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached.
    if unsafe { ffi::PyErr_CheckSignals() } != 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(())
}

/// `threading.get_ident()` of the calling thread; never 0.
#[inline]
pub fn thread_ident() -> u64 {
    // SAFETY: has no preconditions.
    #[allow(clippy::useless_conversion, reason = "c_ulong is 32 bits wide on some platforms")]
    unsafe {
        u64::from(ffi::PyThread_get_thread_ident())
    }
}
