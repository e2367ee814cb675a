//! Entries of the ready queue, and how each kind of them is run.
//!
//! One queue holds, in the order in which asyncio would run them: callbacks from `call_soon`, the
//! events that the reactor reported, and the timers that are due.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::{executor, report, LoopCore};
use crate::asyncio::callback::{Args, BoundArgs, BoundCall, Call};
use crate::asyncio::handle::{Handle, HandleCore};
use crate::asyncio::timer_handle::TimerHandle;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::Readiness;
use crate::py::call;
use crate::py::class::{track, track_if_shared};
use crate::py::names::name;

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
    /// A call that another thread made for a future of the loop's.
    Finished {
        future: Py<PyAny>,
        outcome: Outcome,
    },
    /// An event of a registered source; dropped if the source is gone by then.
    Io(IoEvent),
}

/// Aligned as the pointers in the other variants are: an `Entry` is then moved in words. Otherwise its halves are copied
/// with an overlap, and each copy waits for the one before it (a tenth of the time of a short callback).
#[repr(align(8))]
#[derive(Clone, Copy)]
pub struct IoEvent {
    pub token: Token,
    pub readiness: Readiness,
}

/// How a call ended.
pub enum Outcome {
    Result(Py<PyAny>),
    Exception(Py<PyAny>),
}

impl Outcome {
    const fn value(&self) -> &Py<PyAny> {
        match self {
            Self::Result(value) | Self::Exception(value) => value,
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Result(value) => Self::Result(value.clone_ref(py)),
            Self::Exception(error) => Self::Exception(error.clone_ref(py)),
        }
    }
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
            Self::Finished { future, outcome } => {
                visit.call(future)?;
                visit.call(outcome.value())
            }
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
            Self::Finished { future, outcome } => {
                Self::Finished { future: future.clone_ref(py), outcome: outcome.clone_ref(py) }
            }
            Self::Io(event) => Self::Io(*event),
        }
    }

    /// Runs it. Exceptions go to the exception handler. `after` is called when it has run, before anything is let go of.
    ///
    /// Nothing here takes it as a whole: it is moved in words then, from where it was in the queue.
    ///
    /// # Errors
    /// `SystemExit`, `KeyboardInterrupt`, and what the exception handler lets through.
    #[inline(always)]
    pub fn run(
        self,
        event_loop: &Bound<'_, LoopCore>,
        after: impl FnOnce(Ran<'_, '_>) -> PyResult<()>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        match self {
            Self::Call { function, argument, context } => {
                let args = argument.map_or(BoundArgs::None, |argument| BoundArgs::One(argument.into_bound(py)));
                let call = BoundCall { function: function.into_bound(py), args };
                let context = context.into_bound(py);
                let outcome = match call.invoke(&context) {
                    Ok(()) => Ok(()),
                    Err(error) => bare_call_failed(event_loop, &call, &context, error),
                };
                finish(|| after(Ran::Object(&call.function)), outcome)
            }
            Self::Handle(handle) => {
                let handle = handle.into_bound(py);
                let outcome = Handle::run(&handle, event_loop, || event_loop.get().this_thread());
                // From now on somebody else keeps it, or nobody: see `Handle::scheduled`.
                track_if_shared(&handle);
                finish(|| after(Ran::Object(handle.as_any())), outcome)
            }
            Self::Timer(timer) => {
                let timer = timer.into_bound(py);
                let outcome = timer.get().core.run(py);
                track_if_shared(&timer);
                let outcome = match outcome {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        track(&timer);
                        report::callback_failed(event_loop, timer.as_any(), error)
                    }
                };
                finish(|| after(Ran::Object(timer.as_any())), outcome)
            }
            Self::Foreign(handle) => {
                let handle = handle.into_bound(py);
                let outcome = run_foreign(&handle);
                finish(|| after(Ran::Object(&handle)), outcome)
            }
            Self::Io(IoEvent { token, readiness }) => {
                let outcome = LoopCore::dispatch(event_loop, token, readiness);
                finish(|| after(Ran::Event(token)), outcome)
            }
            Self::Finished { future, outcome } => {
                let outcome = executor::finish(event_loop, &future, outcome);
                finish(|| after(Ran::Object(future.bind(py))), outcome)
            }
        }
    }

    /// As `run`, and logs what is slow in debug mode, and keeps a trace if asked to.
    pub fn run_observed(
        self,
        event_loop: &Bound<'_, LoopCore>,
        after: impl FnOnce(Ran<'_, '_>) -> PyResult<()>,
    ) -> PyResult<()> {
        if let Self::Io(IoEvent { token, readiness }) = self {
            let outcome = LoopCore::dispatch_timed(event_loop, token, readiness);
            return after(Ran::Event(token)).and(outcome);
        }
        if let Self::Finished { future, outcome } = self {
            let outcome = executor::finish(event_loop, &future, outcome);
            return after(Ran::Object(future.bind(event_loop.py()))).and(outcome);
        }
        let handle = self.into_handle(event_loop)?;
        let outcome =
            is_cancelled(&handle)
                .and_then(|cancelled| if cancelled { Ok(()) } else { report::run_timed(event_loop, &handle) });
        after(Ran::Object(&handle)).and(outcome)
    }

    /// The handle of a callback, made if it has none; not for events.
    fn into_handle<'py>(self, event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        Ok(match self {
            Self::Call { function, argument, context } => {
                let call = Call { function, args: argument.map_or(Args::None, Args::One) };
                let core = HandleCore::new(py, event_loop.clone().unbind(), call, context)?;
                Handle::new(py, core)?.into_any()
            }
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
            Self::Foreign(handle) => handle.into_bound(py),
            Self::Finished { .. } | Self::Io(..) => unreachable!("these have no handle"),
        })
    }
}

/// What comes after a callback, and how both have ended. A result of no size to speak of, but for errors, is not copied around:
/// it would be read in larger pieces than it was just written in, which takes as long as all the rest.
#[inline(always)]
fn finish(after: impl FnOnce() -> PyResult<()>, outcome: PyResult<()>) -> PyResult<()> {
    match outcome {
        Ok(()) => after(),
        Err(error) => {
            after()?;
            Err(error)
        }
    }
}

/// What ran, to name it should it have been slow.
pub enum Ran<'a, 'py> {
    /// A handle, or a function that had none.
    Object(&'a Bound<'py, PyAny>),
    Event(Token),
}

fn is_cancelled(handle: &Bound<'_, PyAny>) -> PyResult<bool> {
    handle.getattr(name!(handle.py(), "_cancelled"))?.is_truthy()
}

fn run_foreign(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_cancelled(handle)? {
        return Ok(());
    }
    let py = handle.py();
    call::call_method0(py, handle.as_unbound(), name!(py, "_run").as_unbound()).map(drop)
}

/// Makes the handle that the report shows.
#[cold]
fn bare_call_failed(
    event_loop: &Bound<'_, LoopCore>,
    call: &BoundCall<'_>,
    context: &Bound<'_, PyAny>,
    error: PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    let args = match &call.args {
        BoundArgs::None => Args::None,
        BoundArgs::One(argument) => Args::One(argument.clone().unbind()),
        BoundArgs::Many(arguments) => Args::Many(arguments.clone().unbind()),
    };
    let call = Call { function: call.function.clone().unbind(), args };
    let core = HandleCore::new(py, event_loop.clone().unbind(), call, context.clone().unbind())?;
    let handle = Handle::new(py, core)?;
    report::callback_failed(event_loop, handle.as_any(), error)
}
