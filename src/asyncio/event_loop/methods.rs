//! Index of the methods that Python calls on the loop; what they do is in the other files.
//!
//! The calls of every callback, timer and task are in `scheduling.rs` and `tasks.rs`; here are those of readers and writers, as
//! `FastMethod`s, and the rest, as ordinary PyO3 methods. Names that start with an underscore are what the running
//! interpreter's own asyncio classes call on `self`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::Borrowed;

use super::bindings::Bindings;
use super::ready::Entry;
use super::watchers::Direction;
use super::{connect, scheduling, sock, tasks, LoopCore};
use crate::py::error::os_error;
use crate::py::method::{add_fast_method, Arguments, FastMethod};

/// Adds the fast methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    scheduling::add_to(class)?;
    tasks::add_to(class)?;
    connect::add_to(class)?;
    sock::add_to(class)?;
    add_fast_method::<LoopCore, AddReader>(class)?;
    add_fast_method::<LoopCore, AddWriter>(class)?;
    add_fast_method::<LoopCore, AddReaderUnchecked>(class)?;
    add_fast_method::<LoopCore, AddWriterUnchecked>(class)
}

macro_rules! watch_method {
    ($name:ident, $python_name:literal, $direction:expr, $checked:literal, $doc:literal) => {
        struct $name;

        impl FastMethod<LoopCore> for $name {
            const NAME: &'static CStr = $python_name;
            const DOC: &'static CStr = $doc;

            fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
                let py = slf.py();
                let method = $python_name.to_str().unwrap_or_default();
                let bound = Bindings::new(py, method, ["fd", "callback"], arguments)?;
                let [file, callback] = bound.named;
                if $checked && bound.context.is_some() {
                    let message = format!("{method}() got an unexpected keyword argument 'context'");
                    return Err(PyTypeError::new_err(message));
                }
                let fd = if $checked { LoopCore::watchable_descriptor(&slf, &file)? } else { file.extract::<RawFd>()? };
                let core = LoopCore::new_handle_core(slf, callback, bound.args(py)?, bound.context)?;
                let handle = LoopCore::watch(&slf, &file, fd, $direction, core)?;
                Ok(if $checked { py.None() } else { handle.into_any() })
            }
        }
    };
}

watch_method!(
    AddReader,
    c"add_reader",
    Direction::Read,
    true,
    c"add_reader($self, /, fd, callback, *args)\n--\n\n\
      Call callback(*args) in every turn in which fd (a number, or an object with fileno()) can be read.\n\n\
      Replaces a reader that was there. Raises RuntimeError when a transport uses fd, ValueError when it is\n\
      no descriptor, PermissionError when it cannot be polled (a regular file)."
);
watch_method!(
    AddWriter,
    c"add_writer",
    Direction::Write,
    true,
    c"add_writer($self, /, fd, callback, *args)\n--\n\n\
      Call callback(*args) in every turn in which fd (a number, or an object with fileno()) can be written.\n\n\
      Replaces a writer that was there. Raises as add_reader() does."
);
watch_method!(
    AddReaderUnchecked,
    c"_add_reader",
    Direction::Read,
    false,
    c"_add_reader($self, /, fd, callback, *args, context=None)\n--\n\nadd_reader() for asyncio's own transports; returns the handle."
);
watch_method!(
    AddWriterUnchecked,
    c"_add_writer",
    Direction::Write,
    false,
    c"_add_writer($self, /, fd, callback, *args, context=None)\n--\n\nadd_writer() for asyncio's own transports; returns the handle."
);

#[pymethods]
impl LoopCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Self::create().map_err(|error| os_error(py, &error))
    }

    /// Makes `run_forever()` return after the turn that runs now: what is ready already still runs.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The callable that `create_task()` uses, or None.
    fn get_task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory_slot(py)
    }

    /// Removes the reader of `fd`. False: there was none.
    fn remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch_file(slf, fd, Direction::Read)
    }

    /// Removes the writer of `fd`. False: there was none.
    fn remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch_file(slf, fd, Direction::Write)
    }

    fn _remove_reader(&self, py: Python<'_>, fd: RawFd) -> PyResult<bool> {
        self.unwatch(py, fd, Direction::Read)
    }

    fn _remove_writer(&self, py: Python<'_>, fd: RawFd) -> PyResult<bool> {
        self.unwatch(py, fd, Direction::Write)
    }

    fn _ensure_fd_no_transport(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::watchable_descriptor(slf, fd).map(drop)
    }

    /// Which directions of `fd` are watched, as a mask of `selectors.EVENT_READ` and `EVENT_WRITE`.
    fn _watched(&self, py: Python<'_>, fd: RawFd) -> u8 {
        self.watched_directions(py, fd)
    }

    fn _check_closed(&self, py: Python<'_>) -> PyResult<()> {
        self.check_open(py)
    }

    /// Runs one turn; in the loop of asyncio's `run_forever()`, called by ours, turns until `stop()` ends that, too.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run(slf)
    }

    /// Wakes the loop from any thread.
    fn _write_to_self(&self) {
        if let Some(reactor) = self.inbox.end_sleep() {
            reactor.waker().wake();
        }
    }

    /// Queues a handle of any kind, unless it is cancelled.
    fn _add_callback(&self, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(entry) = Entry::of_handle(handle)? {
            self.push(handle.py(), entry);
        }
        Ok(())
    }

    /// Drops everything that is scheduled or registered and closes the reactor.
    fn _close_core(&self, py: Python<'_>) {
        self.close_core(py);
    }

    /// Gives a loop that this process got by a fork a reactor of its own. True, once: it has one, and needs a self-pipe.
    fn _leave_parent(&self, py: Python<'_>) -> PyResult<bool> {
        self.leave_parent(py)
    }

    /// The number of the reactor's own descriptor, -1 once closed.
    fn _reactor_fileno(&self, py: Python<'_>) -> RawFd {
        self.state(py, |state| state.sources.reactor.as_ref().map_or(-1, |reactor| reactor.as_raw_fd()))
    }

    /// The handles that are ready to run.
    fn _ready_handles(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        Self::ready_handles(slf)
    }

    /// The handles of the timers, in no order.
    fn _timer_handles(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.timer_handles(py)
    }

    /// Lets listeners that lacked a descriptor try again.
    fn _resume_starved(slf: &Bound<'_, Self>) {
        Self::resume_starved(slf);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.visit(&visit)
    }

    fn __clear__(&self) {
        self.clear();
    }

    fn _timer_handle_cancelled(&self, _handle: &Bound<'_, PyAny>) {}

    /// For how many seconds the loop may look for events before it blocks; 50 microseconds unless set.
    ///
    /// It does so only while recent events came in time, so a loop with little to do, or one whose peers need its core,
    /// just blocks. 0 turns it off. The environment variable IRONLOOP_BUSY_POLL sets it for new loops. ValueError for a
    /// number below 0 or above 1.
    #[getter]
    fn busy_poll(&self) -> f64 {
        self.busy_poll_ns.load(Ordering::Relaxed) as f64 / 1e9
    }

    #[setter]
    fn set_busy_poll(&self, seconds: f64) -> PyResult<()> {
        if !(0.0..=1.0).contains(&seconds) {
            return Err(PyValueError::new_err(format!("busy_poll is a number of seconds from 0 to 1, not {seconds}")));
        }
        self.busy_poll_ns.store((seconds * 1e9).round() as u64, Ordering::Relaxed);
        Ok(())
    }

    #[getter(_closed)]
    fn closed_flag(&self) -> bool {
        self.is_loop_closed()
    }

    #[setter(_closed)]
    fn set_closed_flag(&self, py: Python<'_>, closed: bool) {
        self.mark_closed(py, closed);
    }

    #[getter(_stopping)]
    fn stopping_flag(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    #[setter(_stopping)]
    fn set_stopping_flag(&self, stopping: bool) {
        self.stopping.store(stopping, Ordering::Relaxed);
    }

    /// Whether the next `_run_once()` runs turns until `stop()`.
    #[getter(_until_stop)]
    fn until_stop_flag(&self) -> bool {
        self.until_stop.load(Ordering::Relaxed)
    }

    #[setter(_until_stop)]
    fn set_until_stop_flag(&self, until_stop: bool) {
        self.until_stop.store(until_stop, Ordering::Relaxed);
    }

    #[getter(_debug)]
    fn debug_flag(&self) -> bool {
        self.is_debug()
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_modes(debug.is_truthy()?, self.is_tracing());
        Ok(())
    }

    /// `threading.get_ident()` of the thread that runs the loop, or None.
    #[getter(_thread_id)]
    fn thread_id(&self) -> Option<u64> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|&thread| thread != 0)
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, thread: Option<u64>) -> PyResult<()> {
        if thread == Some(0) {
            return Err(PyValueError::new_err("0 is no thread's identifier"));
        }
        self.thread.store(thread.unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    }

    #[getter(_task_factory)]
    fn task_factory_slot(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state(py, |state| state.task_factory.as_ref().map(|factory| factory.clone_ref(py)))
    }

    #[setter(_task_factory)]
    fn set_task_factory_slot(&self, py: Python<'_>, factory: Option<Py<PyAny>>) {
        let _previous = self.state(py, |state| std::mem::replace(&mut state.task_factory, factory));
    }
}
