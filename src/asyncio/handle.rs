//! `Handle`: a callback with its arguments and context, until it ran or was cancelled.
//!
//! It stands for `asyncio.Handle`, as `TimerHandle` does for its namesake: `isinstance` says so (by `__class__`),
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
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::Borrowed;

use crate::asyncio::callback::Call;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::asyncio::run_guard::RunGuard;
use crate::py::call::{self, thread_ident};
use crate::py::class::track;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::method::{add_plain_method, PlainMethod};
use crate::py::names::name;
use crate::py::recycled::{self, Kept, Recycled};

/// The docstring of both classes' `cancel`.
pub const CANCEL_DOC: &CStr = c"cancel($self, /)\n--\n\n\
    Prevents the callback from being called. Does nothing if it was called or cancelled already.";

/// Makes the class ready for use.
pub fn set_up(py: Python<'_>) -> PyResult<()> {
    recycled::install::<Handle>(&py.get_type::<Handle>())?;
    add_plain_method::<Handle, Handle>(&py.get_type::<Handle>())
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
    state: LoopOwned<HandleState>,
    /// 0 or 1, in a word: see `LoopOwned`.
    cancelled: AtomicUsize,
    pub event_loop: Py<LoopCore>,
}

struct HandleState {
    /// `None`: one without variables, made when somebody needs it. So timers, and callbacks in bulk, have no
    /// contexts while they wait.
    context: Option<Py<PyAny>>,
    /// `None` once cancelled.
    call: Option<Call>,
    debug: Option<Box<DebugInfo>>,
}

impl HandleCore {
    /// For a loop that is not in debug mode.
    #[inline(always)]
    pub const fn without_debug(event_loop: Py<LoopCore>, call: Call, context: Option<Py<PyAny>>) -> Self {
        Self {
            state: LoopOwned::new(HandleState { context, call: Some(call), debug: None }),
            cancelled: AtomicUsize::new(0),
            event_loop,
        }
    }

    /// Takes a stack trace if the loop is in debug mode.
    pub fn new(py: Python<'_>, event_loop: Py<LoopCore>, call: Call, context: Py<PyAny>) -> PyResult<Self> {
        let is_debug = event_loop.get().is_debug();
        let this = Self::without_debug(event_loop, call, Some(context));
        if is_debug {
            let source_traceback = imports(py)?.extract_stack.call0(py)?;
            let debug = DebugInfo { source_traceback: Some(source_traceback), repr: None };
            this.state.with(py, |state| state.debug = Some(Box::new(debug)));
        }
        Ok(this)
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) != 0
    }

    /// Calls the callback in its context; a cancelled handle does nothing.
    #[inline(always)]
    pub fn run(&self, py: Python<'_>) -> PyResult<()> {
        let (call, context) = self.state.with(py, |state| {
            (
                state.call.as_ref().map(|call| call.bound(py)),
                state.context.as_ref().map(|context| context.bind(py).clone()),
            )
        });
        match (call, context) {
            (Some(call), Some(context)) => call.invoke(&context),
            (Some(call), None) => call.invoke(&self.make_context(py)?),
            (None, _) => Ok(()),
        }
    }

    /// The context that the callback runs in.
    pub fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.state.with(py, |state| state.context.as_ref().map(|context| context.bind(py).clone())) {
            Some(context) => Ok(context),
            None => self.make_context(py),
        }
    }

    fn make_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = call::new_context(py)?;
        let (context, _left_over) = self.state.with(py, |state| match &state.context {
            // Another thread was faster.
            Some(context) => (context.bind(py).clone(), Some(made)),
            None => {
                state.context = Some(made.clone().unbind());
                (made, None)
            }
        });
        Ok(context)
    }

    /// False if it was cancelled before.
    #[inline]
    pub fn cancel(&self, slf: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        if self.cancelled.swap(1, Ordering::AcqRel) != 0 {
            return Ok(false);
        }
        if self.event_loop.get().is_debug() {
            let repr = slf.repr()?.unbind();
            let _previous = self.state.with(py, |state| state.debug.get_or_insert_default().repr.replace(repr));
        }
        track(slf);
        // Dropped outside: freeing the callback may run any code.
        drop(self.state.with(py, |state| state.call.take()).map(|call| call.into_bound(py)));
        Ok(true)
    }

    pub fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.call.as_ref().map(|call| call.function.clone_ref(py)))
    }

    pub fn args(&self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        let args = self.state.with(py, |state| state.call.as_ref().map(|call| call.args.clone_ref(py)));
        args.map(|args| args.to_tuple(py).map(Bound::unbind)).transpose()
    }

    pub fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| Some(state.debug.as_ref()?.source_traceback.as_ref()?.clone_ref(py)))
    }

    pub fn kept_repr(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.state.with(py, |state| Some(state.debug.as_ref()?.repr.as_ref()?.clone_ref(py)))
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state.visit(|state| state.visit(visit)).unwrap_or(Ok(()))
    }

    /// Gives all references back, see `Recycled::release`.
    #[inline(always)]
    pub fn release(self, py: Python<'_>) {
        let Self { state, cancelled: _, event_loop } = self;
        let HandleState { context, call, debug } = state.into_inner();
        drop(call.map(|call| call.into_bound(py)));
        drop(event_loop.into_bound(py));
        drop(context.map(|context| context.into_bound(py)));
        if let Some(debug) = debug {
            let DebugInfo { source_traceback, repr } = *debug;
            drop(source_traceback.map(|traceback| traceback.into_bound(py)));
            drop(repr.map(|repr| repr.into_bound(py)));
        }
    }

    /// Breaks cycles through the callback.
    pub fn clear(&self) {
        drop(self.state.visit(|state| (state.call.take(), state.debug.take())));
    }
}

impl HandleState {
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        if let Some(call) = &self.call {
            visit.call(&call.function)?;
            call.args.visit(visit)?;
        }
        match self.debug.as_ref().and_then(|debug| debug.source_traceback.as_ref()) {
            Some(source_traceback) => visit.call(source_traceback),
            None => Ok(()),
        }
    }
}

/// `loop.call_soon`'s result.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct Handle {
    pub core: HandleCore,
    guard: RunGuard,
}

impl Handle {
    /// A handle that the collector knows.
    pub fn new(py: Python<'_>, core: HandleCore) -> PyResult<Bound<'_, Self>> {
        recycled::make(py, || Self { core, guard: RunGuard::new(false) }, true)
    }

    /// A handle for the ready queue.
    ///
    /// `running`: the loop runs, so it is alive, and with it everything in its queue: the collector need not look at the
    /// handle until it has run, was cancelled, or the run ends. The same holds for timers. Most handles are freed before that, and a burst of
    /// callbacks is not visited in each of the collections that it brings about.
    ///
    /// `thread_safe`: of `call_soon_threadsafe`, which makes a difference since Python 3.14.
    #[inline(always)]
    pub fn scheduled(py: Python<'_>, core: HandleCore, running: bool, thread_safe: bool) -> PyResult<Bound<'_, Self>> {
        recycled::make(py, || Self { core, guard: RunGuard::new(thread_safe) }, !running)
    }

    /// Calls the callback in the calling thread. Exceptions go to the exception handler of `event_loop`.
    ///
    /// # Errors
    /// `SystemExit`, `KeyboardInterrupt`, and what the exception handler lets through.
    #[inline]
    pub fn run(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        this_thread: impl FnOnce() -> u64,
    ) -> PyResult<()> {
        let guard = &slf.get().guard;
        if guard.is_wanted() {
            return guard.run(this_thread(), || Self::run_here(slf, event_loop));
        }
        Self::run_here(slf, event_loop)
    }

    #[inline(always)]
    fn run_here(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        match slf.get().core.run(slf.py()) {
            Ok(()) => Ok(()),
            Err(error) => {
                track(slf);
                report::callback_failed(event_loop, slf.as_any(), error)
            }
        }
    }
}

impl Handle {
    /// Prevents the callback from being called. Does nothing if it was called or cancelled already.
    #[inline]
    pub fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.guard.wait(slf.py())?;
        this.core.cancel(slf.as_any())?;
        // Without a GIL, the run may have begun meanwhile.
        this.guard.wait(slf.py())
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
        let imports = imports(py)?;
        let thread_safe = imports.thread_safe_handle.as_ref().filter(|_| self.guard.is_wanted());
        Ok(thread_safe.unwrap_or(&imports.handle).clone_ref(py))
    }

    /// Whether it was cancelled. If it can be cancelled from any thread, this waits while the callback runs in another.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.guard.wait(py)?;
        Ok(self.core.is_cancelled())
    }

    /// The context that the callback runs in.
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.context(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run(slf, slf.get().core.event_loop.bind(slf.py()), thread_ident)
    }

    fn _repr_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.handle.bind(py).call_method1(name!(py, "_repr_info"), (slf,))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        imports(py)?.handle.bind(py).call_method1(name!(py, "__repr__"), (slf,))
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
        self.core.visit(&visit)
    }

    fn __clear__(&self) {
        self.core.clear();
    }
}
