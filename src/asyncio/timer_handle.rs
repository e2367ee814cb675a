//! `TimerHandle`: a `Handle` with a deadline.
//!
//! ```text
//!   in the loop's heap (key) -> due: in the ready queue -> run
//!                            -> cancelled: taken out of the heap at once
//! ```
//!
//! `cancel` may be called from any thread; everything else belongs to the loop's thread.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::basic::CompareOp;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::Borrowed;

use crate::asyncio::event_loop::{report, LoopCore};
use crate::asyncio::handle::{HandleCore, CANCEL_DOC};
use crate::engine::time::timer_heap::TimerKey;
use crate::py::imports::imports;
use crate::py::method::{add_plain_method, PlainMethod};
use crate::py::names::name;
use crate::py::objects;
use crate::py::recycled::{self, Kept, Recycled};

/// Makes the class ready for use.
pub fn set_up(py: Python<'_>) -> PyResult<()> {
    recycled::install::<TimerHandle>(&py.get_type::<TimerHandle>())?;
    add_plain_method::<TimerHandle, TimerHandle>(&py.get_type::<TimerHandle>())
}

/// `loop.call_later`'s and `loop.call_at`'s result.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct TimerHandle {
    pub core: HandleCore,
    /// Seconds of `loop.time()`; the object that the caller gave if it was not a float.
    when: f64,
    given_when: Option<Py<PyAny>>,
    /// Its place in the loop's heap, until it is due or cancelled: a `TimerKey`, or 0. A word and not more, as there may be many
    /// timers; a key that another thread reads a moment too late matches nothing in the heap.
    key: AtomicU64,
}

impl TimerHandle {
    pub fn new(core: HandleCore, when: f64, given_when: Option<Py<PyAny>>) -> Self {
        Self { core, when, given_when, key: AtomicU64::new(0) }
    }

    pub fn set_key(&self, key: Option<TimerKey>) {
        self.key.store(key.map_or(0, TimerKey::to_bits), Ordering::Relaxed);
    }

    fn key(&self) -> Option<TimerKey> {
        TimerKey::from_bits(self.key.load(Ordering::Relaxed))
    }

    fn when_object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.given_when {
            Some(when) => Ok(when.clone_ref(py)),
            None => Ok(objects::float(py, self.when)?.unbind()),
        }
    }
}

impl PlainMethod<TimerHandle> for TimerHandle {
    const NAME: &'static CStr = c"cancel";
    const DOC: &'static CStr = CANCEL_DOC;

    #[inline]
    fn call<'py>(slf: Borrowed<'_, 'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.core.cancel(slf.as_any())? {
            if let Some(key) = this.key() {
                this.set_key(None);
                this.core.event_loop.get().forget_timer(py, key);
            }
        }
        Ok(py.None().into_bound(py))
    }
}

impl Recycled for TimerHandle {
    fn kept() -> &'static Kept {
        static KEPT: Kept = Kept::new();
        &KEPT
    }

    #[inline]
    fn release(self, py: Python<'_>) {
        drop(self.given_when.map(|when| when.into_bound(py)));
        self.core.release(py);
    }
}

#[pymethods]
impl TimerHandle {
    /// `asyncio.TimerHandle`: an instance of it, as far as `isinstance` can tell.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.timer_handle.clone_ref(py))
    }

    /// Whether it was cancelled.
    fn cancelled(&self) -> bool {
        self.core.is_cancelled()
    }

    /// When it is due, in seconds of `loop.time()`.
    fn when(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.when_object(py)
    }

    /// The context that the callback runs in.
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.context(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().core.run(py) {
            Ok(()) => Ok(()),
            Err(error) => report::callback_failed(slf.get().core.event_loop.bind(py), slf.as_any(), error),
        }
    }

    fn _repr_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.timer_handle.bind(py).call_method1(name!(py, "_repr_info"), (slf,))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.timer_handle.bind(py).call_method1(name!(py, "__repr__"), (slf,))
    }

    /// By deadline, as `asyncio.TimerHandle` compares.
    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        operator: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let name = match operator {
            CompareOp::Lt => name!(py, "__lt__"),
            CompareOp::Le => name!(py, "__le__"),
            CompareOp::Eq => name!(py, "__eq__"),
            CompareOp::Ne => name!(py, "__ne__"),
            CompareOp::Gt => name!(py, "__gt__"),
            CompareOp::Ge => name!(py, "__ge__"),
        };
        if matches!(operator, CompareOp::Ne) {
            // `object.__ne__` inverts the `__eq__` of the real type, which is this function.
            let equal = Self::__richcmp__(slf, other, CompareOp::Eq)?;
            if equal.is(py.NotImplemented()) {
                return Ok(equal);
            }
            return Ok((!equal.is_truthy()?).into_pyobject(py)?.to_owned().into_any());
        }
        imports(py)?.timer_handle.bind(py).call_method1(name, (slf, other))
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.when_object(py)?.bind(py).hash()
    }

    #[getter]
    fn _when(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.when_object(py)
    }

    #[getter]
    fn _scheduled(&self) -> bool {
        self.key().is_some()
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.core.callback(py)
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        self.core.args(py)
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.context(py)
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.core.is_cancelled()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.core.event_loop.clone_ref(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.core.source_traceback(py)
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.core.kept_repr(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(when) = &self.given_when {
            visit.call(when)?;
        }
        self.core.visit(&visit)
    }

    fn __clear__(&self) {
        self.core.clear();
    }
}
