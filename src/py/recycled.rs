//! Classes with an instance per callback: what is freed is made again, past the allocator and PyO3's general way.
//!
//! ```text
//!   made (PyO3) -> alive -> freed: contents given back, memory kept -> alive -> ...
//! ```
//!
//! Kept memory is untracked, has a reference count of 0 and still names its class; it belongs to the list, which the GIL
//! guards. Free-threaded and debug builds go PyO3's way each time.
//!
//! `Py` asks at each drop whether its thread is attached, and PyO3's deallocator looks up its class and its slots; here
//! contents are given back as `Bound`, by `release`.
#![expect(unsafe_code, reason = "type slots, memory of objects")]

use std::{mem, ptr};

use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyType;
use pyo3::{ffi, PyClass, PyTypeInfo};

use super::class::untrack;
use super::loop_owned::LoopOwned;

/// Whether this build keeps what is freed.
const ENABLED: bool = cfg!(not(any(Py_GIL_DISABLED, py_sys_config = "Py_DEBUG", py_sys_config = "Py_REF_DEBUG")));

/// Instances kept at the most. A burst of 10,000 callbacks finds room; it is 2 MB.
const KEPT_OBJECTS: usize = 16 * 1024;

/// A class without subclasses and without `__dict__`, collected and weakly referenceable, see the module's documentation.
pub trait Recycled: PyClass<BaseType = PyAny, Frozen = True> + PyTypeInfo + Sync {
    /// The memory that is kept.
    fn kept() -> &'static Kept;

    /// Gives back every reference in the instance, which may run Python code. Used in place of `Drop`.
    fn release(self, py: Python<'_>);
}

/// Memory of freed instances.
pub struct Kept(LoopOwned<Vec<Memory>>);

struct Memory(*mut ffi::PyObject);

// SAFETY: memory that nobody refers to; it may be handed to any thread that is attached.
unsafe impl Send for Memory {}

impl Kept {
    pub const fn new() -> Self {
        Self(LoopOwned::new(Vec::new()))
    }
}

/// Where PyO3 puts the value: behind the object's header. `make` makes sure of it.
const fn value_offset<C>() -> usize {
    mem::size_of::<ffi::PyObject>().next_multiple_of(mem::align_of::<C>())
}

/// A new instance. `tracked`: the collector knows it from the beginning; else `class::track` introduces it later.
#[inline]
pub fn make<C: Recycled>(py: Python<'_>, value: C, tracked: bool) -> PyResult<Bound<'_, C>> {
    let kept = if ENABLED { C::kept().0.with(py, Vec::pop) } else { None };
    let Some(Memory(object)) = kept else { return make_in_fresh_memory(py, value, tracked) };
    // SAFETY: the memory belonged to an instance of C and is as `dealloc` left it: what is neither the header nor the
    // value, the list of weak references, is empty. `make_in_fresh_memory` has seen that the value is where it is
    // written. Tracked only when it is whole.
    unsafe {
        ffi::PyObject_Init(object, ffi::Py_TYPE(object));
        object.byte_add(value_offset::<C>()).cast::<C>().write(value);
        if tracked {
            ffi::PyObject_GC_Track(object.cast());
        }
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

#[cold]
fn make_in_fresh_memory<C: Recycled>(py: Python<'_>, value: C, tracked: bool) -> PyResult<Bound<'_, C>> {
    let object = Bound::new(py, value)?;
    let value: *const C = object.get();
    assert_eq!(value as usize - object.as_ptr() as usize, value_offset::<C>(), "PyO3 puts the value behind the header");
    if !tracked {
        untrack(&object);
    }
    Ok(object)
}

unsafe extern "C" fn dealloc<C: Recycled>(object: *mut ffi::PyObject) {
    // SAFETY: CPython frees attached, what nobody refers to: an instance of C. Untracked first, it is seen by nobody when
    // the references go, one of which may run any code. The value is read once and not used again.
    unsafe {
        let py = Python::assume_attached();
        let class = ffi::Py_TYPE(object);
        ffi::PyObject_GC_UnTrack(object.cast());
        let weak_references = object.byte_offset((*class).tp_weaklistoffset).cast::<*mut ffi::PyObject>();
        if !(*weak_references).is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        ptr::read(object.byte_add(value_offset::<C>()).cast::<C>()).release(py);
        let kept = C::kept().0.with(py, |kept| {
            let room = kept.len() < KEPT_OBJECTS;
            if room {
                kept.push(Memory(object));
            }
            room
        });
        if !kept {
            ffi::PyObject_GC_Del(object.cast());
        }
        // The instance's reference.
        ffi::Py_DECREF(class.cast());
    }
}

/// Makes instances of `C` be recycled.
pub fn install<C: Recycled>(class: &Bound<'_, PyType>) {
    if !ENABLED {
        return;
    }
    let raw = class.as_type_ptr();
    // SAFETY: the type was just created by PyO3 and has no instances yet; it cannot be subclassed, so the slot is not
    // inherited.
    unsafe {
        assert!((*raw).tp_weaklistoffset > 0, "the class has weak references");
        (*raw).tp_dealloc = Some(dealloc::<C>);
    }
}
