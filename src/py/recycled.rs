//! Classes with an instance per callback: past PyO3's general way, and without making the collector run.
//!
//! ```text
//!   fresh memory -> alive -> freed: contents given back, memory kept -> alive -> ...
//! ```
//!
//! CPython's allocator for collected objects counts them and collects each time that some hundred have been added; a burst
//! of callbacks is then gone through over and over. Our instances are not garbage for as long as they wait, so they are
//! made of plain memory, with the collector's header in front. Kept memory is untracked; the list belongs to whoever has the GIL. Free-threaded and debug builds, and a Python whose
//! collector has another header, go PyO3's way.
//!
//! `Py` asks at each drop whether its thread is attached, and PyO3's deallocator looks up its class and its slots; here
//! contents are given back as `Bound`, by `release`.
#![expect(unsafe_code, reason = "type slots, memory of objects")]

use std::sync::OnceLock;
use std::{mem, ptr};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyList, PyType};
use pyo3::{ffi, PyClass, PyTypeInfo};

use super::class::untrack;
use super::loop_owned::LoopOwned;

/// Whether this build of Python has the objects that we know how to make.
const KNOWN_BUILD: bool = cfg!(not(any(Py_GIL_DISABLED, py_sys_config = "Py_DEBUG", py_sys_config = "Py_REF_DEBUG")));

/// The collector's header, in front of each object that it may know: two words, zero while it does not
/// (`PyGC_Head` in CPython's pycore_gc.h).
type CollectorHeader = [usize; 2];

/// Instances kept at the most, 7 MB of them: as many callbacks as another thread can schedule until the GIL changes hands
/// (`sys.getswitchinterval()`, 5 ms). What is not kept goes back to the system, and is fetched again page by page.
const KEPT_OBJECTS: usize = 64 * 1024;

/// A class without subclasses and without `__dict__`, collected and weakly referenceable, see the module's documentation.
pub trait Recycled: PyClass<BaseType = PyAny, Frozen = True> + PyTypeInfo + Sync {
    /// The memory that is kept.
    fn kept() -> &'static Kept;

    /// Gives back every reference in the instance, which may run Python code. Used in place of `Drop`.
    fn release(self, py: Python<'_>);
}

/// Memory of freed instances; and whether this class is recycled at all.
pub struct Kept(LoopOwned<Vec<Memory>>, OnceLock<*mut ffi::PyTypeObject>);

struct Memory(*mut ffi::PyObject);

// SAFETY: memory that nobody refers to, which may be handed to any thread that is attached, and a class that lives for ever.
unsafe impl Send for Kept {}
// SAFETY: as above; the list is guarded by `LoopOwned`.
unsafe impl Sync for Kept {}

impl Kept {
    pub const fn new() -> Self {
        Self(LoopOwned::new(Vec::new()), OnceLock::new())
    }
}

/// Where PyO3 puts the value: behind the object's header. `make` makes sure of it.
const fn value_offset<C>() -> usize {
    mem::size_of::<ffi::PyObject>().next_multiple_of(mem::align_of::<C>())
}

/// Whether instances of this class are recycled, and `release` is called therefore.
pub fn is_active<C: Recycled>() -> bool {
    KNOWN_BUILD && C::kept().1.get().is_some()
}

/// A new instance of what `value` returns, which must not call Python and is written to where it stays. `tracked`: the collector
/// knows it from the beginning; else `class::track` introduces it later.
#[inline(always)]
pub fn make<C: Recycled>(py: Python<'_>, value: impl FnOnce() -> C, tracked: bool) -> PyResult<Bound<'_, C>> {
    let Some(&class) = C::kept().1.get().filter(|_| KNOWN_BUILD) else { return make_by_pyo3(py, value(), tracked) };
    let object = match C::kept().0.with(py, Vec::pop) {
        Some(Memory(object)) => object,
        None => fresh_memory(class)?,
    };
    // SAFETY: attached; the memory is that of an instance of C, as `fresh_memory` made or `dealloc` left it: what is neither
    // the header nor the value, the list of weak references, is empty. Tracked only when it is whole.
    let object = unsafe {
        ffi::PyObject_Init(object, class);
        object.byte_add(value_offset::<C>()).cast::<C>().write(value());
        if tracked {
            ffi::PyObject_GC_Track(object.cast());
        }
        Bound::from_owned_ptr(py, object).cast_into_unchecked::<C>()
    };
    let place = ptr::from_ref(object.get()) as usize;
    assert_eq!(place - object.as_ptr() as usize, value_offset::<C>(), "known when this is compiled");
    Ok(object)
}

/// Memory for an instance of `class`, which is C's.
#[cold]
fn fresh_memory(class: *mut ffi::PyTypeObject) -> PyResult<*mut ffi::PyObject> {
    let header = mem::size_of::<CollectorHeader>();
    // SAFETY: attached, as the caller is; the block is as long as the collector's header and an instance together, and zeroes are an
    // untracked object with a reference count of 0 and without weak references.
    unsafe {
        let block = ffi::PyObject_Calloc(1, header + (*class).tp_basicsize as usize);
        if block.is_null() {
            return Err(PyMemoryError::new_err(()));
        }
        Ok(block.byte_add(header).cast())
    }
}

fn make_by_pyo3<C: Recycled>(py: Python<'_>, value: C, tracked: bool) -> PyResult<Bound<'_, C>> {
    let object = Bound::new(py, value)?;
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
            ffi::PyObject_Free(object.byte_sub(mem::size_of::<CollectorHeader>()).cast());
        }
        // The instance's reference.
        ffi::Py_DECREF(class.cast());
    }
}

/// Makes instances of `C` be recycled. None of them may have been made before.
///
/// # Errors
/// What `sys.getsizeof` raises.
pub fn install<C: Recycled>(class: &Bound<'_, PyType>) -> PyResult<()> {
    if !KNOWN_BUILD || collector_header_bytes(class.py())? != mem::size_of::<CollectorHeader>() {
        return Ok(());
    }
    let raw = class.as_type_ptr();
    // SAFETY: the type was just created by PyO3 and has no instances yet; it cannot be subclassed, so the slot is not
    // inherited.
    unsafe {
        assert!((*raw).tp_weaklistoffset > 0, "the class has weak references");
        if C::kept().1.set(raw).is_ok() {
            (*raw).tp_dealloc = Some(dealloc::<C>);
        }
    }
    Ok(())
}

/// What `sys.getsizeof` adds to a collected object's own size.
fn collector_header_bytes(py: Python<'_>) -> PyResult<usize> {
    let object = PyList::empty(py);
    let all: usize = py.import("sys")?.call_method1("getsizeof", (&object,))?.extract()?;
    let own: usize = object.call_method0("__sizeof__")?.extract()?;
    Ok(all - own)
}
