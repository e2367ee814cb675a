//! `loop.busy_poll`: for how long the loop may look for events before its thread blocks.
//!
//! The setting, in nanoseconds, is read at each wait and may be changed at any time, by any thread. Whether it is made use
//! of is decided by how recent waits went (`engine/reactor/spin.rs`); the class `Loop` makes a property of the two methods.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::Borrowed;

use super::LoopCore;
use crate::py::call::{add_fast_method, Arguments, FastMethod};

/// Nobody wants a core to burn for longer than this, in seconds.
const LARGEST: f64 = 1.0;

/// Adds the methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, BusyPoll>(class)?;
    add_fast_method::<LoopCore, SetBusyPoll>(class)
}

/// `_busy_poll()`.
struct BusyPoll;

impl FastMethod<LoopCore> for BusyPoll {
    const NAME: &'static CStr = c"_busy_poll";
    const DOC: &'static CStr = c"_busy_poll($self, /)\n--\n\nThe value of busy_poll, in seconds.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, _arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let seconds = slf.get().busy_poll_ns.load(Ordering::Relaxed) as f64 / 1e9;
        Ok(seconds.into_pyobject(slf.py())?.into_any().unbind())
    }
}

/// `_set_busy_poll(seconds)`.
struct SetBusyPoll;

impl FastMethod<LoopCore> for SetBusyPoll {
    const NAME: &'static CStr = c"_set_busy_poll";
    const DOC: &'static CStr = c"_set_busy_poll($self, seconds, /)\n--\n\n\
        Set busy_poll. Raises ValueError unless it is a number from 0 to 1.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let given = arguments.single("_set_busy_poll", "seconds")?;
        let seconds = given.extract::<f64>()?;
        if !(0.0..=LARGEST).contains(&seconds) {
            let message = format!("busy_poll is a number of seconds from 0 to {LARGEST}, not {}", given.repr()?);
            return Err(PyValueError::new_err(message));
        }
        slf.get().busy_poll_ns.store((seconds * 1e9).round() as u64, Ordering::Relaxed);
        Ok(slf.py().None())
    }
}
