//! The one path that errors of callbacks take: to `loop.call_exception_handler`.
//!
//! `SystemExit` and `KeyboardInterrupt` are not reported, they leave `run_forever`. The words are
//! put together in `ironloop._report`, by the running Python's own helpers.

use pyo3::exceptions::{PyKeyboardInterrupt, PyResourceWarning, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::LoopCore;
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

/// Whether an exception ends the loop's run instead of being reported.
pub fn ends_the_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// A callback raised.
///
/// # Errors
/// The exception itself if it ends the run, or what the exception handler lets through.
#[cold]
pub fn callback_failed(event_loop: &Bound<'_, LoopCore>, handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = event_loop.py();
    if ends_the_run(py, &error) {
        return Err(error);
    }
    let exception = error.into_value(py);
    ask_report(py, name!(py, "callback_failed"), &[event_loop, handle, exception.bind(py)])
}

/// Calls a function of `ironloop._report`.
fn ask_report<'py>(py: Python<'py>, name: &Bound<'py, PyString>, arguments: &[&Bound<'py, PyAny>]) -> PyResult<()> {
    let function = imports(py)?.report.bind(py).getattr(name)?;
    let arguments = objects::tuple(py, arguments.iter().map(|argument| argument.as_borrowed()))?;
    call::call_tuple(py, function.as_unbound(), arguments.as_unbound()).map(drop)
}

/// The error of a classic mistake, with a hint as its note.
#[cold]
pub fn with_hint(py: Python<'_>, error: PyErr) -> PyErr {
    let add = || ask_report(py, name!(py, "add_hint"), &[error.value(py)]);
    let added = add();
    added.map_or_else(|failure| failure, |()| error)
}

/// Debug mode or trace: runs a handle and times it.
pub fn run_timed(event_loop: &Bound<'_, LoopCore>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    ask_report(py, name!(py, "run_timed"), &[event_loop, handle])
}

/// Debug mode or trace: a source's callbacks have run since `start`, in `loop.time()`'s seconds.
pub fn slow_source(event_loop: &Bound<'_, LoopCore>, start: f64, source: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    ask_report(py, name!(py, "slow_source"), &[event_loop, &objects::float(py, start)?, source])
}

/// The last `callbacks` callbacks took `seconds`, which may be too long; `callback` is the last, if it is still there.
#[cold]
pub fn slow_callback(
    event_loop: &Bound<'_, LoopCore>,
    callback: Option<Bound<'_, PyAny>>,
    seconds: f64,
    callbacks: u32,
) -> PyResult<()> {
    let py = event_loop.py();
    let limit = event_loop.getattr(name!(py, "slow_callback_duration")).and_then(|limit| limit.extract::<f64>());
    if !limit.is_ok_and(|limit| seconds >= limit) {
        return Ok(());
    }
    let callback = callback.unwrap_or_else(|| py.None().into_bound(py));
    let numbers = [objects::float(py, seconds)?, objects::count(py, callbacks.into())?];
    ask_report(py, name!(py, "slow_callback"), &[event_loop, &callback, &numbers[0], &numbers[1]])
}

/// Trace: a turn, or its poll for events, began at `start` and is over; `events` came.
#[cold]
pub fn traced(event_loop: &Bound<'_, LoopCore>, what: &str, start: f64, events: usize) -> PyResult<()> {
    let py = event_loop.py();
    let values = [objects::text(py, what)?.into_any(), objects::float(py, start)?, objects::count(py, events as u64)?];
    ask_report(py, name!(py, "traced"), &[event_loop, &values[0], &values[1], &values[2]])
}

/// Something that is not a callback of the user's failed; `details` are further keys of the context.
///
/// # Errors
/// What the exception handler lets through.
#[cold]
pub fn failed(
    event_loop: &Bound<'_, PyAny>,
    message: &str,
    exception: &Bound<'_, PyAny>,
    details: &[(&str, Option<&Bound<'_, PyAny>>)],
) -> PyResult<()> {
    let py = event_loop.py();
    let context = objects::dict(py)?;
    context.set_item(name!(py, "message"), objects::text(py, message)?)?;
    context.set_item(name!(py, "exception"), exception)?;
    for (key, value) in details {
        if let Some(value) = value {
            context.set_item(objects::text(py, key)?, value)?;
        }
    }
    let name = name!(py, "call_exception_handler").as_unbound();
    call::call_method1(py, event_loop.as_unbound(), name, context.as_any()).map(drop)
}

/// A connection ended by an error that happens every day: for debug mode's log only.
pub fn everyday_error(
    event_loop: &Bound<'_, LoopCore>,
    transport: &Bound<'_, PyAny>,
    message: &str,
    exception: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if !event_loop.get().is_debug() {
        return Ok(());
    }
    let py = event_loop.py();
    let texts = [objects::text(py, "%r: %s")?.into_any(), objects::text(py, message)?.into_any()];
    let arguments = [&texts[0], transport, &texts[1]].into_iter().map(Bound::as_borrowed);
    let keywords = objects::dict(py)?;
    keywords.set_item(name!(py, "exc_info"), exception)?;
    let debug = imports(py)?.logger.bind(py).getattr(name!(py, "debug"))?;
    call::call_with_keywords(&debug, &objects::tuple(py, arguments)?, &keywords).map(drop)
}

/// Warns of a transport that nobody closed and nobody has any more.
pub fn unclosed(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let message = objects::text(py, &format!("unclosed transport {}", transport.repr()?))?.into_any();
    let category = py.get_type::<PyResourceWarning>().into_any();
    let keywords = objects::dict(py)?;
    keywords.set_item(name!(py, "source"), transport)?;
    let arguments = objects::tuple(py, [&message, &category].into_iter().map(Bound::as_borrowed))?;
    let warn = py.import(name!(py, "warnings"))?.getattr(name!(py, "warn"))?;
    call::call_with_keywords(&warn, &arguments, &keywords).map(drop)
}
