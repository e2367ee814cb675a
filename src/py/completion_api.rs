//! The C functions by which other extensions post to a loop, and the capsule that has them.
//!
//! `python/ironloop/include/ironloop.h` is the same for C, and says what each may be called with. A foreign thread posts
//! without being attached; the loop's thread, attached, then calls `run`, or `discard` if the loop is closed before that.
//! The pointers are the caller's promise: nothing here can check them. What is behind `data` is not visible to the collector.
#![expect(unsafe_code, reason = "functions for other extensions, called through C")]

use std::ffi::{c_int, c_void, CStr};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::PyTypeInfo;

use super::thread_end::StayHere;
use crate::engine::completions::Completions;

/// `PyCapsule_Import` takes this name.
const NAME: &CStr = c"ironloop._native.completion_api";
/// Grows with each function that is added; none is changed or taken away.
const VERSION: u32 = 1;

/// May end the thread, up to Python 3.13, if it calls Python: see `thread_end`.
type Run = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;
type Discard = unsafe extern "C-unwind" fn(*mut c_void);
type Queue = Completions<Completion>;

/// Something that a foreign thread has posted.
pub struct Completion {
    run: Run,
    discard: Option<Discard>,
    data: *mut c_void,
}

// SAFETY: whoever posts promises that `data` may be used by the loop's thread (ironloop.h).
unsafe impl Send for Completion {}

impl Completion {
    /// Runs it.
    ///
    /// # Errors
    /// What `run` has raised.
    pub fn run(self, py: Python<'_>) -> PyResult<()> {
        let this = ManuallyDrop::new(self);
        let guard = StayHere::new();
        // SAFETY: attached; the poster promises that the function takes the data, which is given away here, once.
        let failed = unsafe { (this.run)(this.data) } != 0;
        guard.leave();
        if failed {
            return Err(PyErr::fetch(py));
        }
        Ok(())
    }

    /// Gives the data back to whoever could not post it.
    fn keep(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(discard) = self.discard {
            let guard = StayHere::new();
            // SAFETY: as for `run`, which was not called. Attached: a queue is closed by the loop or its end.
            unsafe { discard(self.data) };
            guard.leave();
        }
    }
}

/// A class of loops that can be posted to.
pub trait Postable: PyTypeInfo {
    /// The loop's queue.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed; `OSError` if there is no descriptor left.
    fn completions(slf: &Bound<'_, Self>) -> PyResult<Arc<Queue>>;
}

/// `ironloop_completion_api` of ironloop.h.
#[repr(C)]
struct Api {
    version: u32,
    size: u32,
    acquire: unsafe extern "C" fn(*mut ffi::PyObject) -> *const Queue,
    share: unsafe extern "C" fn(*const Queue) -> *const Queue,
    post: unsafe extern "C" fn(*const Queue, Run, Option<Discard>, *mut c_void) -> c_int,
    release: unsafe extern "C" fn(*const Queue),
}

struct ApiOf<L>(std::marker::PhantomData<L>);

impl<L: Postable> ApiOf<L> {
    const API: Api =
        Api { version: VERSION, size: size_of::<Api>() as u32, acquire: acquire::<L>, share, post, release };
}

/// The capsule for the module, of loops of the class `L`.
pub fn capsule<L: Postable + 'static>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let api: &'static Api = &ApiOf::<L>::API;
    // SAFETY: attached; the table and the name live as long as the process.
    unsafe {
        let capsule = ffi::PyCapsule_New(std::ptr::from_ref(api).cast_mut().cast(), NAME.as_ptr(), None);
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}

unsafe extern "C" fn acquire<L: Postable>(event_loop: *mut ffi::PyObject) -> *const Queue {
    // SAFETY: the caller is attached, and the object is alive.
    let (py, event_loop) = unsafe {
        let py = Python::assume_attached();
        (py, Borrowed::from_ptr(py, event_loop))
    };
    match event_loop.cast::<L>().map_err(PyErr::from).and_then(|event_loop| L::completions(&event_loop)) {
        Ok(queue) => Arc::into_raw(queue),
        Err(error) => {
            error.restore(py);
            std::ptr::null()
        }
    }
}

unsafe extern "C" fn share(queue: *const Queue) -> *const Queue {
    // SAFETY: the caller has a reference, from `acquire` or `share`, that is not released meanwhile.
    unsafe { Arc::increment_strong_count(queue) };
    queue
}

unsafe extern "C" fn post(queue: *const Queue, run: Run, discard: Option<Discard>, data: *mut c_void) -> c_int {
    // SAFETY: as in `share`.
    let queue = unsafe { &*queue };
    match queue.post(Completion { run, discard, data }) {
        Ok(()) => 0,
        Err(refused) => {
            refused.keep();
            -1
        }
    }
}

unsafe extern "C" fn release(queue: *const Queue) {
    // SAFETY: the caller gives up its reference. Nothing is in a queue that only foreign threads refer to: it is closed.
    drop(unsafe { Arc::from_raw(queue) });
}
