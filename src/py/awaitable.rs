//! What a coroutine waits for, without PyO3's wrappers around each step.
//!
//! ```text
//!   await object   -> begin      once
//!                  -> step       Yield: the task waits for what it is given, and steps again
//!                                Return: the value of the `await`
//! ```
#![expect(unsafe_code, reason = "type slots")]

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use pyo3::ffi::{self, PySendResult};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyType;
use pyo3::{Borrowed, PyClass, PyTypeInfo};

use super::method::panicked;
use super::thread_end;

/// What comes of a step.
pub enum Step<'py> {
    Yield(Bound<'py, PyAny>),
    Return(Bound<'py, PyAny>),
}

/// A class whose instances are awaited. PyO3 does not know that the thread is attached, so no `Py` may be dropped (but `Bound` may).
pub trait Awaitable: PyClass<Frozen = True> + PyTypeInfo + Sync {
    /// Somebody is about to await it.
    ///
    /// # Errors
    /// `RuntimeError` if somebody does already.
    fn begin<'py>(slf: Borrowed<'_, 'py, Self>) -> PyResult<()>;

    /// `sends_none`: as `await` does.
    fn step<'py>(slf: Borrowed<'_, 'py, Self>, sends_none: bool) -> PyResult<Step<'py>>;
}

/// `iterator.send(None)`.
#[inline]
pub fn send_none<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
    let py = iterator.py();
    let mut result = ptr::null_mut();
    // SAFETY: attached, live objects; the result is a new reference, or there is an exception.
    unsafe {
        match thread_end::send(iterator.as_ptr(), ffi::Py_None(), &raw mut result) {
            PySendResult::PYGEN_NEXT => Ok(Step::Yield(Bound::from_owned_ptr(py, result))),
            PySendResult::PYGEN_RETURN => Ok(Step::Return(Bound::from_owned_ptr(py, result))),
            PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// `iter(object)`.
#[inline]
pub fn iterate<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, a live object; the answer is a new reference, or null and an exception.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), ffi::PyObject_GetIter(object.as_ptr())) }
}

/// What `body` returns; `None`: it failed or panicked, and the exception is set.
#[inline]
fn guarded<'py, R>(py: Python<'py>, body: impl FnOnce() -> PyResult<R>) -> Option<R> {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => error,
        Err(payload) => panicked(&*payload),
    };
    error.restore(py);
    None
}

/// `raise StopIteration(value)`.
fn stop_with(value: &Bound<'_, PyAny>) {
    // SAFETY: attached, live objects. Of an exception's argument only a tuple or an exception would be taken for something else.
    unsafe {
        // The end of an iteration without an exception says so too.
        if ffi::Py_IsNone(value.as_ptr()) != 0 {
            return;
        }
        let class = ffi::PyExc_StopIteration;
        if ffi::PyTuple_Check(value.as_ptr()) == 0 && ffi::PyExceptionInstance_Check(value.as_ptr()) == 0 {
            ffi::PyErr_SetObject(class, value.as_ptr());
            return;
        }
        let error = ffi::PyObject_CallOneArg(class, value.as_ptr());
        if !error.is_null() {
            ffi::PyErr_SetObject(class, error);
            ffi::Py_DECREF(error);
        }
    }
}

unsafe extern "C" fn begin<C: Awaitable>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: CPython calls attached, with an instance of C, whose slot this is. What is returned is a new reference.
    unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, object).cast_unchecked::<C>();
        match guarded(py, || C::begin(slf)) {
            Some(()) => ffi::Py_NewRef(object),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn next<C: Awaitable>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as in `begin`.
    unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, object).cast_unchecked::<C>();
        match guarded(py, || C::step(slf, true)) {
            Some(Step::Yield(value)) => return value.into_ptr(),
            Some(Step::Return(value)) => stop_with(&value),
            None => {}
        }
        ptr::null_mut()
    }
}

unsafe extern "C" fn send<C: Awaitable>(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> PySendResult {
    // SAFETY: as in `begin`; `result` is the caller's to be written to.
    unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, object).cast_unchecked::<C>();
        let (outcome, value) = match guarded(py, || C::step(slf, ffi::Py_IsNone(value) != 0)) {
            Some(Step::Yield(value)) => (PySendResult::PYGEN_NEXT, value.into_ptr()),
            Some(Step::Return(value)) => (PySendResult::PYGEN_RETURN, value.into_ptr()),
            None => (PySendResult::PYGEN_ERROR, ptr::null_mut()),
        };
        result.write(value);
        outcome
    }
}

/// Fills the class's slots. It has an `__await__` of PyO3's, which is not called any more by `await`.
pub fn install<C: Awaitable>(class: &Bound<'_, PyType>) {
    let raw = class.as_type_ptr();
    // SAFETY: the type was just created by PyO3, has no instances or subclasses yet, and is changed under the module's
    // initialization only. A type that is made while running has room for all slots.
    unsafe {
        (*raw).tp_iternext = Some(next::<C>);
        let slots = (*raw).tp_as_async;
        assert!(!slots.is_null(), "a type that is made while running has these slots");
        (*slots).am_await = Some(begin::<C>);
        (*slots).am_send = Some(send::<C>);
        ffi::PyType_Modified(raw);
    }
}
