//! ironloop's completion API for Rust: a queue that any thread posts closures to. A file to copy.
//!
//! It is ironloop.h, which says what the functions promise, with the types that Rust has for that: a closure that is `Send`
//! runs once, in the loop's thread, attached, or is dropped.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// `ironloop_completion_api`, version 1.
#[repr(C)]
struct Api {
    version: u32,
    size: u32,
    acquire: unsafe extern "C" fn(*mut ffi::PyObject) -> *mut c_void,
    share: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    post: unsafe extern "C" fn(*mut c_void, Run, Option<Discard>, *mut c_void) -> c_int,
    release: unsafe extern "C" fn(*mut c_void),
}

type Run = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;
type Discard = unsafe extern "C-unwind" fn(*mut c_void);
type Closure = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// The loop is closed.
#[derive(Debug)]
pub struct Closed;

/// The queue of a loop. Clones are the same queue.
pub struct Queue {
    api: &'static Api,
    queue: NonNull<c_void>,
}

// SAFETY: ironloop.h: everything but `acquire` may be called by any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// The queue of an ironloop loop.
    ///
    /// # Errors
    /// ImportError without ironloop; TypeError for another loop; RuntimeError for one that is closed.
    pub fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let api = api(py)?;
        // SAFETY: attached, and the object is alive.
        let queue = unsafe { (api.acquire)(event_loop.as_ptr()) };
        NonNull::new(queue).map(|queue| Self { api, queue }).ok_or_else(|| PyErr::fetch(py))
    }

    /// Has the loop call the closure. Does not wait for the interpreter.
    ///
    /// # Errors
    /// `Closed`; the closure has been dropped then.
    pub fn post(&self, closure: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static) -> Result<(), Closed> {
        // Twice boxed: the closure may need a wide pointer, and `data` is a thin one.
        let data: *mut Closure = Box::into_raw(Box::new(Box::new(closure)));
        // SAFETY: the queue is ours until `release`; the functions take what `data` is, once.
        if unsafe { (self.api.post)(self.queue.as_ptr(), run, Some(discard), data.cast()) } == 0 {
            return Ok(());
        }
        // SAFETY: refused: the data is still ours.
        drop(unsafe { Box::from_raw(data) });
        Err(Closed)
    }
}

impl Clone for Queue {
    fn clone(&self) -> Self {
        // SAFETY: as in `post`.
        unsafe { (self.api.share)(self.queue.as_ptr()) };
        Self { api: self.api, queue: self.queue }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference from `acquire` or `share`, given back once.
        unsafe { (self.api.release)(self.queue.as_ptr()) };
    }
}

// The loop's thread is attached already. PyO3 counts for each extension of its own whether a thread is, so that it has to
// be told; else it would put off letting go of Python objects. At the interpreter's end it cannot be told any more.

unsafe extern "C-unwind" fn run(data: *mut c_void) -> c_int {
    // SAFETY: what `post` made, handed over.
    let closure = unsafe { Box::from_raw(data.cast::<Closure>()) };
    let outcome = Python::try_attach(|py| closure(py).map_err(|error| error.restore(py)));
    outcome.map_or(0, |outcome| if outcome.is_ok() { 0 } else { -1 })
}

unsafe extern "C-unwind" fn discard(data: *mut c_void) {
    // SAFETY: as in `run`.
    let closure = unsafe { Box::from_raw(data.cast::<Closure>()) };
    let _ = Python::try_attach(move |_| drop(closure));
}

/// The functions, imported once.
fn api(py: Python<'_>) -> PyResult<&'static Api> {
    static API: OnceLock<usize> = OnceLock::new();
    let address = match API.get() {
        Some(&address) => address,
        None => {
            // SAFETY: attached; the name is a C string.
            let api = unsafe { ffi::PyCapsule_Import(c"ironloop._native.completion_api".as_ptr(), 0) };
            if api.is_null() {
                return Err(PyErr::fetch(py));
            }
            *API.get_or_init(|| api as usize)
        }
    };
    // SAFETY: the capsule of this name has the table, which is never freed.
    let api = unsafe { &*(address as *const Api) };
    if api.version < 1 || (api.size as usize) < size_of::<Api>() {
        return Err(PyRuntimeError::new_err("this ironloop has no completion API of version 1"));
    }
    Ok(api)
}
