//! Calls of `call_soon` whose caller throws the handle away: they are queued without one.
//!
//! asyncio's C code, for the steps of tasks and for what waits on a future, is such a caller, and the hottest one of most
//! programs. It shows itself by the tuple of keyword names that it passes, `("context",)`: an object of its own, which no
//! Python code gets hold of. `learn` finds out which it is by having a future schedule a callback on a loop of ours.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use pyo3::Borrowed;

use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::objects;

static KEYWORDS: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

/// Function, argument and context of a call of `call_soon` that needs no handle; `None` for all others.
#[inline(always)]
pub fn call_without_handle<'a, 'py>(py: Python<'py>, arguments: Arguments<'a, 'py>) -> Option<Bare<'a, 'py>> {
    let names = arguments.keyword_names()?;
    if !KEYWORDS.get(py)?.is(names) {
        return None;
    }
    let [context] = arguments.keyword_values() else { return None };
    let (function, argument) = match arguments.positional() {
        [function] => (function, None),
        [function, argument] => (function, Some(argument)),
        _ => return None,
    };
    Some((*function, argument.copied(), *context))
}

/// See `call_without_handle`.
type Bare<'a, 'py> = (Borrowed<'a, 'py, PyAny>, Option<Borrowed<'a, 'py, PyAny>>, Borrowed<'a, 'py, PyAny>);

/// What stands for a loop while we learn.
#[pyclass(frozen, module = "ironloop._native")]
struct Probe;

#[pymethods]
impl Probe {
    fn get_debug(&self) -> bool {
        false
    }
}

struct ProbeCallSoon;

impl FastMethod<Probe> for ProbeCallSoon {
    const NAME: &'static CStr = c"call_soon";
    const DOC: &'static CStr = c"call_soon($self, /, callback, *args, context=None)\n--\n\n";

    fn call<'py>(slf: Borrowed<'_, 'py, Probe>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(names) = arguments.keyword_names() {
            // Set already: the module is initialized again, in another interpreter say.
            let _ = KEYWORDS.set(py, names.to_owned().unbind());
        }
        Ok(py.None())
    }
}

/// To be called once, before the first loop is made. Without asyncio's C code there is nothing to learn.
pub fn learn(py: Python<'_>) -> PyResult<()> {
    let Ok(accelerated) = py.import("_asyncio") else { return Ok(()) };
    let probe = Bound::new(py, Probe)?;
    add_fast_method::<Probe, ProbeCallSoon>(&py.get_type::<Probe>())?;
    let keywords = objects::dict(py)?;
    keywords.set_item("loop", probe)?;
    let future = accelerated.getattr("Future")?.call((), Some(&keywords))?;
    future.call_method1("add_done_callback", (py.get_type::<PyDict>(),))?;
    future.call_method1("set_result", (py.None(),))?;
    Ok(())
}
