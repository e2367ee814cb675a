//! Index of the methods that Python calls on the loop; what they do is in the other files.
//!
//! The first part are the calls of every callback, timer and task, as `FastMethod`s; the second part
//! the rest, as ordinary PyO3 methods. Names that start with an underscore are what the running
//! interpreter's own asyncio classes call on `self`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyNameError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyString, PyTuple, PyType};
use pyo3::{intern, Borrowed};

use super::bindings::Bindings;
use super::ready::Entry;
use super::task_calls::call_of_task;
use super::watchers::Direction;
use super::LoopCore;
use crate::asyncio::callback::{Args, Call};
use crate::asyncio::handle::{Handle, HandleCore, TimerHandle};
use crate::asyncio::thread_safe_handle::ThreadSafeHandle;
use crate::py::call::{self, add_fast_method, Arguments, FastMethod};
use crate::py::error::os_error;
use crate::py::imports::imports;

/// Adds the fast methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, CallSoon>(class)?;
    add_fast_method::<LoopCore, CallSoonThreadsafe>(class)?;
    add_fast_method::<LoopCore, CallLater>(class)?;
    add_fast_method::<LoopCore, CallAt>(class)?;
    add_fast_method::<LoopCore, CreateTask>(class)?;
    add_fast_method::<LoopCore, AddReader>(class)?;
    add_fast_method::<LoopCore, AddWriter>(class)?;
    add_fast_method::<LoopCore, AddReaderUnchecked>(class)?;
    add_fast_method::<LoopCore, AddWriterUnchecked>(class)
}

impl LoopCore {
    /// What `call_soon` and its like check before they schedule anything.
    fn check_callback(
        slf: Borrowed<'_, '_, Self>,
        callback: Borrowed<'_, '_, PyAny>,
        method: &str,
        same_thread: bool,
    ) -> PyResult<()> {
        let this = slf.get();
        this.check_open()?;
        if this.is_debug() {
            let py = slf.py();
            if same_thread {
                slf.call_method0(intern!(py, "_check_thread"))?;
            }
            slf.call_method1(intern!(py, "_check_callback"), (callback, method))?;
        }
        Ok(())
    }

    fn new_handle_core<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        args: Args,
        context: Option<Py<PyAny>>,
    ) -> PyResult<HandleCore> {
        let py = slf.py();
        let context = match context {
            Some(context) => context,
            None => call::copy_context(py)?,
        };
        let function = callback.to_owned().unbind();
        HandleCore::new(py, slf.to_owned().unbind(), Call { function, args }, context)
    }
}

/// `call_soon(callback, *args, context=None)`.
struct CallSoon;

impl FastMethod<LoopCore> for CallSoon {
    const NAME: &'static CStr = c"call_soon";
    const DOC: &'static CStr = c"call_soon($self, /, callback, *args, context=None)\n--\n\n\
        Call callback(*args) in the next turn of the loop, in the order of these calls.\n\n\
        Returns a handle that can cancel it. Raises RuntimeError when the loop is closed.";

    #[inline]
    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if !this.is_debug() && !this.is_loop_closed() {
            if let Some(entry) = call_of_task(py, arguments)? {
                this.push(py, entry);
                return Ok(py.None());
            }
        }
        let bound = Bindings::new(py, "call_soon", ["callback"], arguments)?;
        let [callback] = bound.named;
        LoopCore::check_callback(slf, callback, "call_soon", true)?;
        let args = bound.args(py)?;
        let core = LoopCore::new_handle_core(slf, callback, args, bound.context)?;
        let handle = Handle::scheduled(py, core, this.spares_handles())?;
        this.push(py, Entry::Handle(handle.clone_ref(py)));
        Ok(handle.into_any())
    }
}

/// `call_soon_threadsafe(callback, *args, context=None)`.
struct CallSoonThreadsafe;

impl FastMethod<LoopCore> for CallSoonThreadsafe {
    const NAME: &'static CStr = c"call_soon_threadsafe";
    const DOC: &'static CStr = c"call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n\
        Like call_soon(), from any thread: the loop is woken if it sleeps.\n\n\
        Since Python 3.14 the handle can be cancelled from any thread, too.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let bound = Bindings::new(py, "call_soon_threadsafe", ["callback"], arguments)?;
        let [callback] = bound.named;
        LoopCore::check_callback(slf, callback, "call_soon_threadsafe", false)?;
        let args = bound.args(py)?;
        let core = LoopCore::new_handle_core(slf, callback, args, bound.context)?;
        // A handle that another one owns does not come back to the queue's care after its run.
        let spared = slf.get().spares_handles() && !ThreadSafeHandle::is_used(py)?;
        let handle = Handle::scheduled(py, core, spared)?;
        let (entry, handle) = match ThreadSafeHandle::of(py, &slf, &handle)? {
            Some(safe) => (Entry::Foreign(safe.clone_ref(py).into_any()), safe.into_any()),
            None => (Entry::Handle(handle.clone_ref(py)), handle.into_any()),
        };
        if slf.get().runs_here() {
            slf.get().push(py, entry);
        } else {
            slf.get().post(entry);
        }
        Ok(handle)
    }
}

/// `call_later(delay, callback, *args, context=None)`.
struct CallLater;

impl FastMethod<LoopCore> for CallLater {
    const NAME: &'static CStr = c"call_later";
    const DOC: &'static CStr = c"call_later($self, /, delay, callback, *args, context=None)\n--\n\n\
        Call callback(*args) after delay seconds, never before.\n\n\
        Returns a handle that can cancel it and tells when() it is due.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let bound = Bindings::new(py, "call_later", ["delay", "callback"], arguments)?;
        let [delay, callback] = bound.named;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let now = LoopCore::now();
        let (when, given) = if delay.is_instance_of::<PyFloat>() || delay.is_instance_of::<PyInt>() {
            (now + delay.extract::<f64>()?, None)
        } else {
            // Whatever can be added to a float; the error is that of the addition.
            let sum = now.into_pyobject(py)?.add(delay)?;
            (sum.extract::<f64>()?, Some(sum.unbind()))
        };
        LoopCore::schedule_at(slf, callback, when, given, bound.args(py)?, bound.context)
    }
}

/// `call_at(when, callback, *args, context=None)`.
struct CallAt;

impl FastMethod<LoopCore> for CallAt {
    const NAME: &'static CStr = c"call_at";
    const DOC: &'static CStr = c"call_at($self, /, when, callback, *args, context=None)\n--\n\n\
        Call callback(*args) when time() has reached when, in seconds.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let bound = Bindings::new(py, "call_at", ["when", "callback"], arguments)?;
        let [when, callback] = bound.named;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        let seconds = when.extract::<f64>()?;
        let given = (!when.is_exact_instance_of::<PyFloat>()).then(|| when.to_owned().unbind());
        LoopCore::schedule_at(slf, callback, seconds, given, bound.args(py)?, bound.context)
    }
}

impl LoopCore {
    fn schedule_at<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        when: f64,
        given: Option<Py<PyAny>>,
        args: Args,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::check_callback(slf, callback, "call_at", true)?;
        let core = Self::new_handle_core(slf, callback, args, context)?;
        let timer: Py<TimerHandle> = Self::add_timer(&slf, core, when, given)?;
        Ok(timer.into_any())
    }
}

/// `create_task(coro, **kwargs)`.
struct CreateTask;

impl FastMethod<LoopCore> for CreateTask {
    const NAME: &'static CStr = c"create_task";
    const DOC: &'static CStr = super::create_task_doc::CREATE_TASK;

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let imports = imports(py)?;
        let has_factory = this.state(py, |state| state.task_factory.is_some());
        // Everything but the plain case is the running interpreter's own code.
        let [coro] = arguments.positional() else {
            return Ok(arguments.forward(py, &imports.create_task, &[&slf.to_owned().into_any().unbind()])?.unbind());
        };
        if arguments.keyword_names().is_some() || has_factory || this.is_debug() {
            return Ok(arguments.forward(py, &imports.create_task, &[&slf.to_owned().into_any().unbind()])?.unbind());
        }
        this.check_open()?;
        let values = [coro.as_ptr(), slf.as_ptr()];
        let class = current(&imports.tasks, intern!(py, "Task"))?;
        Ok(call::vectorcall(py, &class, &values, 1, Some(&imports.loop_keyword))?.unbind())
    }
}

/// What a module calls `name` now: programs replace asyncio's classes there, and asyncio looks each time.
#[inline]
fn current(names: &Py<PyDict>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
    match names.bind(name.py()).get_item(name)? {
        Some(value) => Ok(value.unbind()),
        None => Err(PyNameError::new_err(format!("name '{name}' is not defined"))),
    }
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

    /// Seconds on the loop's clock, which is that of `time.monotonic()`.
    fn time(&self) -> f64 {
        Self::now()
    }

    /// Whether the loop runs at this moment.
    fn is_running(&self) -> bool {
        self.thread.load(Ordering::Relaxed) != 0
    }

    /// Whether `close()` was called.
    fn is_closed(&self) -> bool {
        self.is_loop_closed()
    }

    /// Whether debug mode is on.
    fn get_debug(&self) -> bool {
        self.is_debug()
    }

    /// Makes `run_forever()` return after the turn that runs now: what is ready already still runs.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// A future of this loop.
    fn create_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let imports = imports(py)?;
        let class = current(&imports.futures, intern!(py, "Future"))?;
        call::vectorcall(py, &class, &[slf.as_ptr()], 0, Some(&imports.loop_keyword))
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

    fn _check_closed(&self) -> PyResult<()> {
        self.check_open()
    }

    /// Runs one turn; in the loop of asyncio's `run_forever()`, called by ours, turns until `stop()` ends that, too.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run(slf)
    }

    /// Wakes the loop from any thread.
    fn _write_to_self(&self) {
        self.inbox.wake();
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

    #[getter(_closed)]
    fn closed_flag(&self) -> bool {
        self.is_loop_closed()
    }

    #[setter(_closed)]
    fn set_closed_flag(&self, closed: bool) {
        self.closed.store(closed, Ordering::Release);
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
        self.debug.store(debug.is_truthy()?, Ordering::Relaxed);
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
