//! `run_in_executor` for the pools of ours: a call goes into the pool's queue, its outcome into the loop's inbox.
//!
//! Everything else is asyncio's own code, by way of `concurrent.futures`: executors of the program's, debug mode, and loops
//! whose `call_soon_threadsafe` somebody has replaced, who then sees the call that delivers the outcome.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::Borrowed;

use super::bindings::args_of;
use super::ready::Outcome;
use super::{overrides, report, LoopCore};
use crate::asyncio::callback::{Args, Call};
use crate::asyncio::handle::{Handle, HandleCore};
use crate::asyncio::jobs::{Job, JobQueue};
use crate::py::call;
use crate::py::imports::imports;
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::names::name;

/// Adds the method to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, RunInExecutor>(class)
}

/// `run_in_executor(executor, func, *args)`.
struct RunInExecutor;

impl FastMethod<LoopCore> for RunInExecutor {
    const NAME: &'static CStr = c"run_in_executor";
    const DOC: &'static CStr = c"run_in_executor($self, /, executor, func, *args)\n--\n\n\
        Call func(*args) in a thread of the executor, None: the default one; returns a future.\n\n\
        Raises RuntimeError when the loop is closed or the executor has been shut down.";

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        match arguments.positional() {
            [executor, function, args @ ..] if arguments.keyword_names().is_none() => {
                if let Some(future) = run_in_pool(&slf, executor, function, args)? {
                    return Ok(future);
                }
            }
            _ => {}
        }
        let inherited = &imports(py)?.run_in_executor;
        arguments.forward(py, inherited, &[slf.to_owned().into_any().as_unbound()]).map(Bound::unbind)
    }
}

/// The future of the call; `None` if it is not for us.
fn run_in_pool<'py>(
    slf: &Bound<'py, LoopCore>,
    executor: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    args: &[Borrowed<'_, 'py, PyAny>],
) -> PyResult<Option<Py<PyAny>>> {
    let py = slf.py();
    slf.get().check_open(py)?;
    let executor = if executor.is_none() { slf.call_method0(name!(py, "_default_pool"))? } else { executor.clone() };
    if executor.is_none() || slf.get().is_debug() || overrides(slf, name!(py, "call_soon_threadsafe"))? {
        return Ok(None);
    }
    let Some(queue) = executor.getattr_opt(name!(py, "_work_queue"))? else { return Ok(None) };
    let Ok(queue) = queue.cast_into::<JobQueue>() else { return Ok(None) };
    let future = slf.call_method0(name!(py, "create_future"))?.unbind();
    let call = Call { function: function.clone().unbind(), args: args_of(py, args)? };
    let job = Job::Call { event_loop: slf.clone().unbind(), future: future.clone_ref(py), call };
    Ok(queue.get().push(&executor, job)?.then_some(future))
}

/// Gives a future the outcome of its call, unless it has been cancelled meanwhile.
///
/// # Errors
/// What the exception handler lets through.
pub fn finish(event_loop: &Bound<'_, LoopCore>, future: &Py<PyAny>, outcome: Outcome) -> PyResult<()> {
    let py = event_loop.py();
    let (setter, value) = match outcome {
        Outcome::Result(value) => (name!(py, "set_result"), value.into_bound(py)),
        Outcome::Exception(error) => {
            (name!(py, "set_exception"), imports(py)?.convert_future_exc.bind(py).call1((error,))?)
        }
    };
    let Err(error) = call::call_method1(py, future, setter.as_unbound(), &value) else { return Ok(()) };
    if call::call_method0(py, future, name!(py, "cancelled").as_unbound())?.is_truthy()? {
        return Ok(());
    }
    report::callback_failed(event_loop, handle(event_loop, future.bind(py).getattr(setter)?, value)?.as_any(), error)
}

/// A handle that stands for `finish` where handles are shown.
pub fn handle_of_outcome<'py>(
    event_loop: &Bound<'py, LoopCore>,
    future: &Py<PyAny>,
    outcome: Outcome,
) -> PyResult<Bound<'py, Handle>> {
    let future = future.bind(event_loop.py());
    match outcome {
        Outcome::Result(value) => {
            handle(event_loop, future.getattr(name!(future.py(), "set_result"))?, value.into_bound(future.py()))
        }
        Outcome::Exception(error) => {
            handle(event_loop, future.getattr(name!(future.py(), "set_exception"))?, error.into_bound(future.py()))
        }
    }
}

fn handle<'py>(
    event_loop: &Bound<'py, LoopCore>,
    setter: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, Handle>> {
    let py = event_loop.py();
    let call = Call { function: setter.unbind(), args: Args::One(value.unbind()) };
    let core = HandleCore::new(py, event_loop.clone().unbind(), call, call::copy_context(py)?)?;
    Handle::new(py, core)
}
