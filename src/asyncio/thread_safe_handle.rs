//! `ThreadSafeHandle`: what `call_soon_threadsafe` returns since Python 3.14, to be cancelled from any thread.
//!
//! ```text
//!   cancel, cancelled ----.
//!   the run of the callback --> one lock per handle, which its own thread may take again
//! ```
//!
//! So whoever has cancelled it knows that the callback is not running, and will not. It stands for
//! `asyncio.events._ThreadSafeHandle` and owns an ordinary handle, which answers for everything else. The lock is
//! Python's `threading.RLock`: waiting for it detaches from the interpreter.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::event_loop::report;
use super::event_loop::LoopCore;
use super::handle::Handle;
use crate::py::imports::imports;

/// See the module's documentation.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct ThreadSafeHandle {
    handle: Py<Handle>,
    event_loop: Py<LoopCore>,
    lock: Py<PyAny>,
}

impl ThreadSafeHandle {
    /// Whether this version of asyncio has such handles.
    pub const IS_USED: bool = cfg!(Py_3_14);

    /// Makes `handle` safe; `None` where asyncio has no such handles.
    pub fn of(
        py: Python<'_>,
        event_loop: &Bound<'_, LoopCore>,
        handle: &Py<Handle>,
    ) -> PyResult<Option<Py<ThreadSafeHandle>>> {
        if !Self::IS_USED {
            return Ok(None);
        }
        let lock = imports(py)?.rlock.call0(py)?;
        let this = Self { handle: handle.clone_ref(py), event_loop: event_loop.clone().unbind(), lock };
        Py::new(py, this).map(Some)
    }

    fn locked<R>(&self, py: Python<'_>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        self.lock.call_method0(py, intern!(py, "acquire"))?;
        let outcome = body();
        self.lock.call_method0(py, intern!(py, "release"))?;
        outcome
    }
}

#[pymethods]
impl ThreadSafeHandle {
    /// `asyncio.events._ThreadSafeHandle`: an instance of it, as far as `isinstance` can tell.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(imports(py)?.thread_safe_handle.as_ref().map(|class| class.clone_ref(py)))
    }

    /// Prevents the callback from being called. Waits while it runs in another thread, and does nothing then.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.locked(py, || Handle::cancel(self.handle.bind(py)))
    }

    /// Whether it was cancelled. Waits while the callback runs in another thread.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.locked(py, || Ok(self.handle.get().core.is_cancelled()))
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.locked(py, || match this.handle.get().core.run(py) {
            Ok(()) => Ok(()),
            Err(error) => report::callback_failed(this.event_loop.bind(py), slf.as_any(), error),
        })
    }

    fn _repr_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.handle.bind(py).call_method1(intern!(py, "_repr_info"), (slf,))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.handle.bind(py).call_method1(intern!(py, "__repr__"), (slf,))
    }

    /// The ordinary handle's attributes.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.handle.bind(name.py()).as_any().getattr(name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handle)?;
        visit.call(&self.event_loop)?;
        visit.call(&self.lock)
    }
}
