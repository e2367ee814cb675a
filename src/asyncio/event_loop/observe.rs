//! What observers ask of a loop, from any thread, while it runs or is blocked.
//!
//! Everything here is read from atomics: it needs neither the loop's thread nor its help.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::Borrowed;

use super::LoopCore;
use crate::py::call::{add_fast_method, Arguments, FastMethod};

/// Adds the methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, Progress>(class)
}

/// `_progress() -> (callbacks, thread, waiting)`.
struct Progress;

impl FastMethod<LoopCore> for Progress {
    const NAME: &'static CStr = c"_progress";
    const DOC: &'static CStr = c"_progress($self, /)\n--\n\n\
        (callbacks begun so far, ident of the thread that runs the loop or 0, whether it waits for events).\n\n\
        As long as the first number stays the same and the loop does not wait, one callback is running.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, _arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let thread = if this.turning.load(Ordering::Relaxed) { this.thread.load(Ordering::Relaxed) } else { 0 };
        let progress = (this.epoch(), thread, this.inbox.is_sleeping());
        Ok(progress.into_pyobject(py)?.into_any().unbind())
    }
}
