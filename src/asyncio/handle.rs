//! `Handle` and `TimerHandle`: a callback with its arguments and context, until it ran or was cancelled.
//!
//! They stand for `asyncio.Handle` and `asyncio.TimerHandle`: `isinstance` says so (by `__class__`),
//! the attributes that debuggers read are there, and what depends on the version of Python (repr,
//! comparison) is done by that version's own functions, which take any object with these attributes.
//!
//! ```text
//!   scheduled -> run                 the callback is kept: the handle can be shown afterwards
//!             -> cancelled           callback and arguments are dropped at once
//! ```
//!
//! `cancel` may be called from any thread; everything else belongs to the loop's thread.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::basic::CompareOp;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{intern, Borrowed};

use crate::asyncio::callback::Call;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::engine::time::timer_heap::TimerKey;
use crate::py::class::track;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::method::{add_plain_method, PlainMethod};
use crate::py::recycled::{self, Kept, Recycled};

const CANCEL_DOC: &CStr = c"cancel($self, /)\n--\n\n\
    Prevents the callback from being called. Does nothing if it was called or cancelled already.";

/// Makes the two classes ready for use.
pub fn set_up(py: Python<'_>) -> PyResult<()> {
    recycled::install::<Handle>(&py.get_type::<Handle>());
    recycled::install::<TimerHandle>(&py.get_type::<TimerHandle>());
    add_plain_method::<Handle, Handle>(&py.get_type::<Handle>())?;
    add_plain_method::<TimerHandle, TimerHandle>(&py.get_type::<TimerHandle>())
}

/// What only debug mode needs.
#[derive(Default)]
struct DebugInfo {
    /// Where the handle was created: a `traceback.StackSummary`.
    source_traceback: Option<Py<PyAny>>,
    /// The repr from before it was cancelled.
    repr: Option<Py<PyString>>,
}

/// What both classes have.
pub struct HandleCore {
    /// `None` once cancelled.
    call: LoopOwned<Option<Call>>,
    cancelled: AtomicBool,
    event_loop: Py<LoopCore>,
    context: Py<PyAny>,
    debug: LoopOwned<Option<Box<DebugInfo>>>,
}

impl HandleCore {
    /// For a loop that is not in debug mode.
    #[inline]
    pub const fn without_debug(event_loop: Py<LoopCore>, call: Call, context: Py<PyAny>) -> Self {
        Self {
            call: LoopOwned::new(Some(call)),
            cancelled: AtomicBool::new(false),
            event_loop,
            context,
            debug: LoopOwned::new(None),
        }
    }

    /// Takes a stack trace if the loop is in debug mode.
    pub fn new(py: Python<'_>, event_loop: Py<LoopCore>, call: Call, context: Py<PyAny>) -> PyResult<Self> {
        let is_debug = event_loop.get().is_debug();
        let mut this = Self::without_debug(event_loop, call, context);
        if is_debug {
            let source_traceback = imports(py)?.extract_stack.call0(py)?;
            let debug = DebugInfo { source_traceback: Some(source_traceback), repr: None };
            this.debug = LoopOwned::new(Some(Box::new(debug)));
        }
        Ok(this)
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Calls the callback in its context; a cancelled handle does nothing.
    #[inline]
    pub fn run(&self, py: Python<'_>) -> PyResult<()> {
        match self.call.with(py, |call| call.as_ref().map(|call| call.bound(py))) {
            Some(call) => call.invoke(self.context.bind(py)),
            None => Ok(()),
        }
    }

    /// False if it was cancelled before.
    #[inline]
    fn cancel(&self, slf: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        if self.cancelled.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        if self.event_loop.get().is_debug() {
            let repr = slf.repr()?.unbind();
            let _previous = self.debug.with(py, |debug| debug.get_or_insert_default().repr.replace(repr));
        }
        track(slf);
        // Dropped outside: freeing the callback may run any code.
        drop(self.call.with(py, Option::take).map(|call| call.into_bound(py)));
        Ok(true)
    }

    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.call.with(py, |call| call.as_ref().map(|call| call.function.clone_ref(py)))
    }

    fn args(&self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        let args = self.call.with(py, |call| call.as_ref().map(|call| call.args.clone_ref(py)));
        args.map(|args| args.to_tuple(py).map(Bound::unbind)).transpose()
    }

    fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.debug.with(py, |debug| Some(debug.as_ref()?.source_traceback.as_ref()?.clone_ref(py)))
    }

    fn kept_repr(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.debug.with(py, |debug| Some(debug.as_ref()?.repr.as_ref()?.clone_ref(py)))
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        if let Some(result) = self.call.visit(|call| match call {
            Some(call) => visit.call(&call.function).and_then(|()| call.args.visit(visit)),
            None => Ok(()),
        }) {
            result?;
        }
        self.debug
            .visit(|debug| match debug.as_ref().and_then(|debug| debug.source_traceback.as_ref()) {
                Some(source_traceback) => visit.call(source_traceback),
                None => Ok(()),
            })
            .unwrap_or(Ok(()))
    }

    /// Gives all references back, see `Recycled::release`.
    #[inline]
    fn release(self, py: Python<'_>) {
        let Self { call, cancelled: _, event_loop, context, debug } = self;
        drop(call.into_inner().map(|call| call.into_bound(py)));
        drop(event_loop.into_bound(py));
        drop(context.into_bound(py));
        if let Some(debug) = debug.into_inner() {
            let DebugInfo { source_traceback, repr } = *debug;
            drop(source_traceback.map(|traceback| traceback.into_bound(py)));
            drop(repr.map(|repr| repr.into_bound(py)));
        }
    }

    /// Breaks cycles through the callback.
    fn clear(&self) {
        drop(self.call.visit(Option::take));
        drop(self.debug.visit(Option::take));
    }
}

/// `loop.call_soon`'s result.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct Handle {
    pub core: HandleCore,
}

impl Handle {
    /// A handle for the ready queue.
    ///
    /// `running`: the loop runs, so it is alive, and with it everything in its queue: the collector need not look at the
    /// handle until it has run, was cancelled, or the run ends. The same holds for timers. Most handles are freed before that, and a burst of
    /// callbacks is not visited in each of the collections that it brings about.
    #[inline]
    pub fn scheduled(py: Python<'_>, core: HandleCore, running: bool) -> PyResult<Bound<'_, Self>> {
        recycled::make(py, Self { core }, !running)
    }
}

impl Handle {
    /// Prevents the callback from being called. Does nothing if it was called or cancelled already.
    #[inline]
    pub fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().core.cancel(slf.as_any()).map(drop)
    }
}

impl PlainMethod<Handle> for Handle {
    const NAME: &'static CStr = c"cancel";
    const DOC: &'static CStr = CANCEL_DOC;

    #[inline]
    fn call<'py>(slf: Borrowed<'_, 'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::cancel(&slf)?;
        Ok(slf.py().None().into_bound(slf.py()))
    }
}

impl Recycled for Handle {
    fn kept() -> &'static Kept {
        static KEPT: Kept = Kept::new();
        &KEPT
    }

    #[inline]
    fn release(self, py: Python<'_>) {
        self.core.release(py);
    }
}

#[pymethods]
impl Handle {
    /// `asyncio.Handle`: an instance of it, as far as `isinstance` can tell.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.handle.clone_ref(py))
    }

    /// Whether it was cancelled.
    fn cancelled(&self) -> bool {
        self.core.is_cancelled()
    }

    /// The context that the callback runs in.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.core.context.clone_ref(py)
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
        imports(py)?.handle.bind(py).call_method1(intern!(py, "_repr_info"), (slf,))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.handle.bind(py).call_method1(intern!(py, "__repr__"), (slf,))
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
    fn _context(&self, py: Python<'_>) -> Py<PyAny> {
        self.core.context.clone_ref(py)
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
        self.core.visit(&visit)
    }

    fn __clear__(&self) {
        self.core.clear();
    }
}

/// `loop.call_later`'s and `loop.call_at`'s result.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct TimerHandle {
    pub core: HandleCore,
    /// Seconds of `loop.time()`; the object that the caller gave if it was not a float.
    when: f64,
    given_when: Option<Py<PyAny>>,
    /// Its place in the loop's heap, until it is due or cancelled.
    key: LoopOwned<Option<TimerKey>>,
}

impl TimerHandle {
    pub fn new(core: HandleCore, when: f64, given_when: Option<Py<PyAny>>) -> Self {
        Self { core, when, given_when, key: LoopOwned::new(None) }
    }

    pub fn set_key(&self, py: Python<'_>, key: Option<TimerKey>) {
        self.key.with(py, |slot| *slot = key);
    }

    fn when_object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.given_when {
            Some(when) => Ok(when.clone_ref(py)),
            None => Ok(self.when.into_pyobject(py)?.into_any().unbind()),
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
            if let Some(key) = this.key.with(py, Option::take) {
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
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.core.context.clone_ref(py)
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
        imports(py)?.timer_handle.bind(py).call_method1(intern!(py, "_repr_info"), (slf,))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.timer_handle.bind(py).call_method1(intern!(py, "__repr__"), (slf,))
    }

    /// By deadline, as `asyncio.TimerHandle` compares.
    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        operator: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let name = match operator {
            CompareOp::Lt => intern!(py, "__lt__"),
            CompareOp::Le => intern!(py, "__le__"),
            CompareOp::Eq => intern!(py, "__eq__"),
            CompareOp::Ne => intern!(py, "__ne__"),
            CompareOp::Gt => intern!(py, "__gt__"),
            CompareOp::Ge => intern!(py, "__ge__"),
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
    fn _scheduled(&self, py: Python<'_>) -> bool {
        self.key.with(py, |key| key.is_some())
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
    fn _context(&self, py: Python<'_>) -> Py<PyAny> {
        self.core.context.clone_ref(py)
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
