//! What PyO3 leaves out of a class: a finalizer that runs before the object is taken apart, and a say in what
//! the collector knows.
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

/// A new instance of a class with a `__dict__`.
///
/// CPython 3.11 allocates the `__dict__` before PyO3 writes the instance's contents, and that allocation may
/// start the collector, which would then traverse zeroes. So the collector waits until the instance is whole.
pub fn new_with_dict<C: PyClass<BaseType = pyo3::PyAny>>(py: Python<'_>, value: C) -> PyResult<Bound<'_, C>> {
    if cfg!(not(all(Py_3_11, not(Py_3_12)))) {
        return Bound::new(py, value);
    }
    // SAFETY: attached; neither call runs Python code.
    let was_enabled = unsafe { ffi::PyGC_Disable() } != 0;
    let instance = Bound::new(py, value);
    if was_enabled {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
    instance
}

/// Takes an object out of the collector's lists, for as long as it cannot be garbage.
///
/// The collector then neither visits it nor counts its references, so what it refers to counts as alive. Whoever calls
/// this calls `track` before the object may become part of a cycle that nobody else keeps alive.
#[inline]
pub fn untrack<C>(object: &Bound<'_, C>) {
    if cfg!(not(Py_GIL_DISABLED)) {
        // SAFETY: attached; an object of a collected class, initialised; doing it twice does no harm.
        unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
    }
}

/// The opposite of `untrack`. Does nothing if the collector knows the object; runs no Python code.
#[inline]
pub fn track<C>(object: &Bound<'_, C>) {
    // SAFETY: attached; an object of a collected class, initialised, and not tracked when it is to be.
    unsafe {
        if cfg!(not(Py_GIL_DISABLED)) && ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}

/// `track`, if somebody besides the caller holds the object: otherwise it is about to be freed.
#[inline]
pub fn track_if_shared<C>(object: &Bound<'_, C>) {
    // SAFETY: attached; a live object.
    if unsafe { ffi::Py_REFCNT(object.as_ptr()) } > 1 {
        track(object);
    }
}

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

/// Whether the instance has contents. CPython 3.11 lets go of one for whose `__dict__` there was no memory, and whose contents
/// are zeroes still; those of a whole one refer to something.
///
/// # Safety
/// An object whose reference count fell to zero, attached.
unsafe fn is_whole(object: *mut ffi::PyObject) -> bool {
    if cfg!(not(all(Py_3_11, not(Py_3_12)))) {
        return true;
    }
    let words = object.cast::<usize>();
    // SAFETY: the object has as many bytes as its class says, which were zeroes in the beginning; they are looked at as bits,
    // whatever is in them.
    unsafe {
        let count = usize::try_from((*ffi::Py_TYPE(object)).tp_basicsize).unwrap_or_default() / size_of::<usize>();
        (size_of::<ffi::PyObject>() / size_of::<usize>()..count).any(|index| words.add(index).read_volatile() != 0)
    }
}

unsafe extern "C" fn dealloc<C: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: as this is called by CPython for an object that has just been allocated, and refers to nothing but its class.
    unsafe {
        if !is_whole(object) {
            let class = ffi::Py_TYPE(object);
            ffi::PyObject_GC_UnTrack(object.cast());
            if let Some(free) = (*class).tp_free {
                free(object.cast());
            }
            ffi::Py_DECREF(class.cast());
            return;
        }
    }
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
