//! What observers ask of a loop, from any thread, while it runs or is blocked.
//!
//! Counters are read from atomics; only the lengths of the queues are asked of the loop's own state.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyType};
use pyo3::Borrowed;

use super::LoopCore;
use crate::engine::metrics::histogram::Histogram;
use crate::engine::sys::ticks::{ticks, TickRate};
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::objects;

/// Adds the methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, Progress>(class)?;
    add_fast_method::<LoopCore, Counters>(class)?;
    add_fast_method::<LoopCore, SetTracing>(class)
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
        let waiting = PyBool::new(py, this.inbox.is_sleeping()).to_owned().into_any();
        let progress = [objects::count(py, this.epoch())?, objects::count(py, thread)?, waiting];
        Ok(tuple(&progress)?.unbind())
    }
}

/// `_counters() -> dict`: the native part of `ironloop.metrics.Metrics`.
struct Counters;

impl FastMethod<LoopCore> for Counters {
    const NAME: &'static CStr = c"_counters";
    const DOC: &'static CStr = c"_counters($self, /)\n--\n\n\
        What the loop has counted, by the names of ironloop.metrics.Metrics' fields.\n\n\
        Times are in seconds; a histogram is (buckets, sum, max), a bucket (least, below, values).";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, _arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let counted = &this.metrics;
        let result = objects::dict(py)?;
        for (name, count) in [
            ("io_events", &counted.io_events),
            ("timers_fired", &counted.timers_fired),
            ("timers_cancelled", &counted.timers_cancelled),
            ("threadsafe_calls", &counted.threadsafe_calls),
            ("wakeups", &counted.wakeups),
            ("connections_accepted", &counted.connections_accepted),
            ("connections_opened", &counted.connections_opened),
            ("connections_closed", &counted.connections_closed),
            ("bytes_received", &counted.bytes_received),
            ("bytes_sent", &counted.bytes_sent),
            ("tls_handshakes", &counted.tls_handshakes),
            ("accept_pauses", &counted.accept_pauses),
        ] {
            set(&result, name, &objects::count(py, count.get())?)?;
        }
        set(&result, "turns", &objects::count(py, counted.turn_time.count())?)?;
        // The first callback has the number 2.
        set(&result, "callbacks", &objects::count(py, this.epoch() - 1)?)?;
        let (ready, timers) = this.state(py, |state| (state.ready.len(), state.timers.len()));
        set(&result, "ready", &objects::count(py, ready as u64)?)?;
        set(&result, "timers", &objects::count(py, timers as u64)?)?;
        set(&result, "running", &PyBool::new(py, this.turning.load(Ordering::Relaxed)))?;

        let rate = TickRate::of_this_machine();
        let seconds = |ticks: u64| rate.ns(ticks) as f64 / 1e9;
        let started = counted.run_started.get();
        let in_this_run = if started == 0 { 0 } else { ticks().saturating_sub(started) };
        let waited = counted.idle_ticks.get() + counted.spin_ticks.get();
        let busy = (counted.run_ticks.get() + in_this_run).saturating_sub(waited);
        for (name, ticks) in [("busy", busy), ("idle", counted.idle_ticks.get()), ("spin", counted.spin_ticks.get())] {
            set(&result, name, &objects::float(py, seconds(ticks))?)?;
        }
        for (name, histogram, unit) in [
            ("callback_time", &counted.callback_time, rate.ns_per_tick()),
            ("turn_time", &counted.turn_time, rate.ns_per_tick()),
            ("lag", &counted.lag, 1.0),
        ] {
            set(&result, name, &in_seconds(py, histogram, unit)?)?;
        }
        Ok(result.into_any().unbind())
    }
}

/// `_set_tracing(flag)`.
struct SetTracing;

impl FastMethod<LoopCore> for SetTracing {
    const NAME: &'static CStr = c"_set_tracing";
    const DOC: &'static CStr = c"_set_tracing($self, flag, /)\n--\n\n\
        Whether callbacks, polls and turns are told to ironloop._report while they run.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let [flag] = arguments.positional() else {
            return Err(PyTypeError::new_err("_set_tracing() takes one argument"));
        };
        slf.get().set_modes(slf.get().is_debug(), flag.is_truthy()?);
        Ok(slf.py().None())
    }
}

fn set(result: &Bound<'_, PyDict>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    result.set_item(objects::text(result.py(), name)?, value)
}

/// A histogram's filled buckets, sum and largest value; `unit` is that of its values in nanoseconds.
fn in_seconds<'py>(py: Python<'py>, histogram: &Histogram, unit: f64) -> PyResult<Bound<'py, PyAny>> {
    let seconds = |value: u64| objects::float(py, value as f64 * unit / 1e9);
    let bucket = |(least, below, values)| tuple(&[seconds(least)?, seconds(below)?, objects::count(py, values)?]);
    let buckets = histogram.filled().map(bucket).collect::<PyResult<Vec<_>>>()?;
    let buckets = objects::tuple(py, buckets.iter().map(Bound::as_borrowed))?.into_any();
    tuple(&[buckets, seconds(histogram.sum())?, seconds(histogram.largest())?])
}

fn tuple<'py>(items: &[Bound<'py, PyAny>; 3]) -> PyResult<Bound<'py, PyAny>> {
    Ok(objects::tuple(items[0].py(), items.iter().map(Bound::as_borrowed))?.into_any())
}
