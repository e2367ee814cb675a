//! Entries of the ready queue, and how each kind of them is run.
//!
//! One queue holds, in the order in which asyncio would run them: callbacks from `call_soon`, the
//! events that the reactor reported, and the timers that are due.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::{report, LoopCore};
use crate::asyncio::callback::{Args, BoundArgs, BoundCall, Call};
use crate::asyncio::handle::{Handle, HandleCore};
use crate::asyncio::timer_handle::TimerHandle;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::Readiness;
use crate::py::call;
use crate::py::class::{track, track_if_shared};

/// Makes the handles in a queue known to the collector: the run is over, and the loop may become garbage.
pub fn track_handles<'a>(py: Python<'_>, entries: impl Iterator<Item = &'a Entry>) {
    for entry in entries {
        match entry {
            Entry::Handle(handle) => track(handle.bind(py)),
            Entry::Timer(timer) => track(timer.bind(py)),
            _ => {}
        }
    }
}

/// Something that is ready to run.
pub enum Entry {
    /// A callback of at most one argument to which nobody holds a handle.
    Call {
        function: Py<PyAny>,
        argument: Option<Py<PyAny>>,
        context: Py<PyAny>,
    },
    Handle(Py<Handle>),
    Timer(Py<TimerHandle>),
    /// A handle that is not ours, for example one that asyncio's Python code made.
    Foreign(Py<PyAny>),
    /// An event of a registered source; dropped if the source is gone by then.
    Io(Token, Readiness),
}

impl Entry {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Call { function, argument, context } => {
                visit.call(function)?;
                visit.call(argument)?;
                visit.call(context)
            }
            Self::Handle(handle) => visit.call(handle),
            Self::Timer(timer) => visit.call(timer),
            Self::Foreign(handle) => visit.call(handle),
            Self::Io(..) => Ok(()),
        }
    }

    /// The entry of a handle of any class; `None` if it is cancelled.
    pub fn of_handle(handle: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        Ok(if let Ok(handle) = handle.cast::<Handle>() {
            (!handle.get().core.is_cancelled()).then(|| Self::Handle(handle.clone().unbind()))
        } else if let Ok(timer) = handle.cast::<TimerHandle>() {
            (!timer.get().core.is_cancelled()).then(|| Self::Timer(timer.clone().unbind()))
        } else {
            (!is_cancelled(handle)?).then(|| Self::Foreign(handle.clone().unbind()))
        })
    }

    /// Another reference to the same.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Call { function, argument, context } => Self::Call {
                function: function.clone_ref(py),
                argument: argument.as_ref().map(|argument| argument.clone_ref(py)),
                context: context.clone_ref(py),
            },
            Self::Handle(handle) => Self::Handle(handle.clone_ref(py)),
            Self::Timer(timer) => Self::Timer(timer.clone_ref(py)),
            Self::Foreign(handle) => Self::Foreign(handle.clone_ref(py)),
            Self::Io(token, readiness) => Self::Io(*token, *readiness),
        }
    }

    /// Runs it. Exceptions go to the exception handler.
    ///
    /// # Errors
    /// `SystemExit`, `KeyboardInterrupt`, and what the exception handler lets through.
    #[inline]
    pub fn run(self, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = event_loop.py();
        if event_loop.get().is_debug() {
            return self.run_in_debug(event_loop);
        }
        match self {
            Self::Call { function, argument, context } => {
                let args = argument.map_or(BoundArgs::None, |argument| BoundArgs::One(argument.into_bound(py)));
                let call = BoundCall { function: function.into_bound(py), args };
                let context = context.into_bound(py);
                match call.invoke(&context) {
                    Ok(()) => Ok(()),
                    Err(error) => bare_call_failed(event_loop, call.unbind(), context.unbind(), error),
                }
            }
            Self::Handle(handle) => {
                let handle = handle.into_bound(py);
                let outcome = Handle::run(&handle, event_loop, || event_loop.get().this_thread());
                // From now on somebody else keeps it, or nobody: see `Handle::scheduled`.
                track_if_shared(&handle);
                outcome
            }
            Self::Timer(timer) => {
                let timer = timer.into_bound(py);
                let outcome = timer.get().core.run(py);
                track_if_shared(&timer);
                match outcome {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        track(&timer);
                        report::callback_failed(event_loop, timer.as_any(), error)
                    }
                }
            }
            Self::Foreign(handle) => run_foreign(handle.bind(py)),
            Self::Io(token, readiness) => LoopCore::dispatch(event_loop, token, readiness),
        }
    }

    /// As `run`, and logs what is slow.
    fn run_in_debug(self, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = event_loop.py();
        let handle = match self {
            Self::Call { function, argument, context } => {
                let call = Call { function, args: argument.map_or(Args::None, Args::One) };
                let core = HandleCore::new(py, event_loop.clone().unbind(), call, context)?;
                Handle::new(py, core)?.into_any()
            }
            Self::Handle(handle) if handle.get().core.is_cancelled() => return Ok(()),
            Self::Timer(timer) if timer.get().core.is_cancelled() => return Ok(()),
            Self::Handle(handle) => {
                let handle = handle.into_bound(py);
                track(&handle);
                handle.into_any()
            }
            Self::Timer(timer) => {
                let timer = timer.into_bound(py);
                track(&timer);
                timer.into_any()
            }
            Self::Foreign(handle) => {
                let handle = handle.into_bound(py);
                if is_cancelled(&handle)? {
                    return Ok(());
                }
                handle
            }
            Self::Io(token, readiness) => return LoopCore::dispatch_timed(event_loop, token, readiness),
        };
        report::run_timed(event_loop, &handle)
    }
}

fn is_cancelled(handle: &Bound<'_, PyAny>) -> PyResult<bool> {
    handle.getattr(intern!(handle.py(), "_cancelled"))?.is_truthy()
}

fn run_foreign(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_cancelled(handle)? {
        return Ok(());
    }
    let py = handle.py();
    call::call_method0(py, handle.as_unbound(), intern!(py, "_run").as_unbound()).map(drop)
}

/// Makes the handle that the report shows.
#[cold]
fn bare_call_failed(event_loop: &Bound<'_, LoopCore>, call: Call, context: Py<PyAny>, error: PyErr) -> PyResult<()> {
    let py = event_loop.py();
    let core = HandleCore::new(py, event_loop.clone().unbind(), call, context)?;
    let handle = Handle::new(py, core)?;
    report::callback_failed(event_loop, handle.as_any(), error)
}
