//! Calls that the interpreter may never return from.
//!
//! Up to Python 3.13, a daemon thread that asks for the GIL while the interpreter is ending is ended on the spot, by
//! pthread_exit(3), which unwinds its stack. Destructors of ours would then use an interpreter that the thread is not
//! attached to any more, and `catch_unwind`, which is around every method, makes the C library abort the process. So the
//! innermost frame of ours goes no further: the thread stays where it is until the process has gone, as it does from
//! Python 3.14 on without our help.
//!
//! The functions of the C API that are called here may unwind, then. PyO3 declares them as such that do not, and link-time
//! optimization would believe either of two declarations: so they are called by addresses that the compiler cannot see
//! through. A call of an imported function takes its address from a table anyway.
#![expect(unsafe_code, reason = "CPython's C API")]

use std::ptr;

use pyo3::ffi::{PyObject, PySendResult};

type Object = *mut PyObject;

extern "C-unwind" {
    fn PyObject_CallNoArgs(callable: Object) -> Object;
    fn PyObject_Call(callable: Object, args: Object, keywords: Object) -> Object;
    // Python 3.10 does not export the other one. Here `keywords` is a dict, there the names of values behind the arguments.
    #[cfg(not(Py_3_11))]
    fn PyObject_VectorcallDict(callable: Object, args: *const Object, count: usize, keywords: Object) -> Object;
    #[cfg(Py_3_11)]
    fn PyObject_Vectorcall(callable: Object, args: *const Object, count: usize, keyword_names: Object) -> Object;
    fn PyIter_Send(iterator: Object, value: Object, result: *mut Object) -> PySendResult;
    fn PyObject_VectorcallMethod(name: Object, args: *const Object, count: usize, keyword_names: Object) -> Object;
}

type Vectorcall = unsafe extern "C-unwind" fn(Object, *const Object, usize, Object) -> Object;

static CALL_NO_ARGS: unsafe extern "C-unwind" fn(Object) -> Object = PyObject_CallNoArgs;
static CALL: unsafe extern "C-unwind" fn(Object, Object, Object) -> Object = PyObject_Call;
#[cfg(not(Py_3_11))]
static VECTORCALL: Vectorcall = PyObject_VectorcallDict;
#[cfg(Py_3_11)]
static VECTORCALL: Vectorcall = PyObject_Vectorcall;
static SEND: unsafe extern "C-unwind" fn(Object, Object, *mut Object) -> PySendResult = PyIter_Send;
static VECTORCALL_METHOD: Vectorcall = PyObject_VectorcallMethod;

/// Keeps a thread that is being ended from unwinding any further; see the module's documentation.
pub struct StayHere(());

impl StayHere {
    #[inline]
    pub const fn new() -> Self {
        Self(())
    }

    /// The call has returned.
    #[inline]
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for StayHere {
    #[cold]
    fn drop(&mut self) {
        stay_if_ended();
    }
}

/// For destructors: does not return if the thread is being ended, rather than a panic being under way, which will be
/// caught and reported.
pub fn stay_if_ended() {
    while !std::thread::panicking() {
        std::thread::park();
    }
}

/// Calls the function at an address.
#[inline]
fn call_opaque<F: Copy, R>(function: &'static F, call: impl FnOnce(F) -> R) -> R {
    let guard = StayHere::new();
    // SAFETY: a reference is valid for reads. Volatile: the compiler does not know what is there.
    let result = call(unsafe { ptr::read_volatile(function) });
    guard.leave();
    result
}

/// `PyObject_CallNoArgs`.
///
/// # Safety
/// As for the function of the C API.
#[inline]
pub unsafe fn call_no_args(callable: Object) -> Object {
    // SAFETY: the caller's.
    call_opaque(&CALL_NO_ARGS, |function| unsafe { function(callable) })
}

/// `PyObject_Call`; `keywords` is a dict or null.
///
/// # Safety
/// As for the function of the C API.
#[inline]
pub unsafe fn call(callable: Object, args: Object, keywords: Object) -> Object {
    // SAFETY: the caller's.
    call_opaque(&CALL, |function| unsafe { function(callable, args, keywords) })
}

/// `PyObject_Vectorcall`; `keywords` is null or, up to Python 3.10, what `PyObject_VectorcallDict` takes.
///
/// # Safety
/// As for the function of the C API.
#[inline]
pub unsafe fn vectorcall(callable: Object, args: *const Object, count: usize, keywords: Object) -> Object {
    // SAFETY: the caller's.
    call_opaque(&VECTORCALL, |function| unsafe { function(callable, args, count, keywords) })
}

/// `PyObject_VectorcallMethod` without keywords.
///
/// # Safety
/// As for the function of the C API.
#[inline]
pub unsafe fn vectorcall_method(name: Object, args: *const Object, count: usize) -> Object {
    // SAFETY: the caller's.
    call_opaque(&VECTORCALL_METHOD, |function| unsafe { function(name, args, count, ptr::null_mut()) })
}

/// `PyIter_Send`.
///
/// # Safety
/// As for the function of the C API.
#[inline]
pub unsafe fn send(iterator: Object, value: Object, result: *mut Object) -> PySendResult {
    // SAFETY: the caller's.
    call_opaque(&SEND, |function| unsafe { function(iterator, value, result) })
}
