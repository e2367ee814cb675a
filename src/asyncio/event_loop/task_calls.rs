//! Calls that asyncio's C Task makes to schedule itself: recognised, and queued without a handle.
//!
//! A task passes one of two wrappers, its step or its wake-up, and throws the handle away. This is the
//! hottest path of most programs.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{intern, Borrowed};

use super::ready::Entry;
use crate::py::call::{self, Arguments};
use crate::py::imports::imports;

/// The call of a task that schedules itself: `call_soon(wrapper, [future], context=context)`.
///
/// It gets no handle, and its keywords are recognised by the identity of the tuple that holds their name:
/// asyncio's C code passes the same one every time.
#[inline]
pub fn call_of_task(py: Python<'_>, arguments: Arguments<'_, '_>) -> PyResult<Option<Entry>> {
    static KEYWORDS: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let (callback, argument) = match arguments.positional() {
        [callback] => (callback, None),
        [callback, argument] => (callback, Some(argument)),
        _ => return Ok(None),
    };
    let Some(names) = arguments.keyword_names() else { return Ok(None) };
    let known = KEYWORDS.get(py).is_some_and(|keywords| keywords.is(names));
    if !is_task_wrapper(py, *callback)? {
        return Ok(None);
    }
    let mut keywords = arguments.keywords();
    let (Some((name, context)), None) = (keywords.next(), keywords.next()) else { return Ok(None) };
    if !known {
        if !name.eq(intern!(py, "context"))? || context.is_none() {
            return Ok(None);
        }
        let _ = KEYWORDS.set(py, (*names).to_owned().unbind());
    }
    Ok(Some(Entry::Call {
        function: (*callback).to_owned().unbind(),
        argument: argument.map(|argument| (*argument).to_owned().unbind()),
        context: (*context).to_owned().unbind(),
    }))
}

/// Whether a callback is one of the two that asyncio's C Task passes, its step and its wake-up: it throws the
/// handle away, and nobody else can get hold of them in the ordinary course of things.
///
/// Neither has a name in any module. They show themselves with the first tasks that run, and are then known
/// by their type and by their C function.
#[inline]
fn is_task_wrapper(py: Python<'_>, callback: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
    if let Some(step) = TASK_STEP.get(py) {
        if callback.get_type().is(step) {
            return Ok(true);
        }
    }
    match call::c_function(&callback) {
        Some(function) => match TASK_WAKEUP.get(py) {
            Some(&wakeup) => Ok(function == wakeup),
            None => learn_task_wrapper(py, callback, Some(function)),
        },
        None if TASK_STEP.get(py).is_none() => learn_task_wrapper(py, callback, None),
        None => Ok(false),
    }
}

static TASK_STEP: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static TASK_WAKEUP: PyOnceLock<usize> = PyOnceLock::new();

#[cold]
fn learn_task_wrapper(py: Python<'_>, callback: Borrowed<'_, '_, PyAny>, function: Option<usize>) -> PyResult<bool> {
    let Ok(task) = callback.getattr(intern!(py, "__self__")) else { return Ok(false) };
    if !task.get_type().is(imports(py)?.task.bind(py)) {
        return Ok(false);
    }
    if let Some(function) = function {
        let is_wakeup = callback.getattr(intern!(py, "__name__"))?.eq("task_wakeup")?;
        if is_wakeup {
            let _ = TASK_WAKEUP.set(py, function);
        }
        return Ok(is_wakeup);
    }
    let class = callback.get_type();
    let is_step = class.name()?.to_str()? == "TaskStepMethWrapper";
    if is_step {
        let _ = TASK_STEP.set(py, class.unbind());
    }
    Ok(is_step)
}
