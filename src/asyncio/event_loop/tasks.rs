//! What asyncio's tasks and futures ask of the loop: `create_task`, `create_future`, and the questions in their making.
//!
//! Tasks and futures are asyncio's own classes, or what a program has put in their place. The loop's thread calls these;
//! `time`, `is_running`, `is_closed` and `get_debug` may be called from any.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyNameError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple, PyType};
use pyo3::Borrowed;

use super::LoopCore;
use crate::asyncio::streams::with_coroutine_of;
use crate::py::call;
use crate::py::imports::{imports, Accelerated, Imports};
use crate::py::method::{add_fast_method, add_plain_method, Arguments, FastMethod, PlainMethod};
use crate::py::names::name;
use crate::py::objects;

/// Adds these methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, CreateTask>(class)?;
    add_plain_method::<LoopCore, CreateFuture>(class)?;
    add_plain_method::<LoopCore, Time>(class)?;
    add_plain_method::<LoopCore, IsRunning>(class)?;
    add_plain_method::<LoopCore, IsClosed>(class)?;
    add_plain_method::<LoopCore, GetDebug>(class)
}

/// `create_task(coro, **kwargs)`.
struct CreateTask;

impl FastMethod<LoopCore> for CreateTask {
    const NAME: &'static CStr = c"create_task";
    const DOC: &'static CStr = super::create_task_doc::CREATE_TASK;

    /// A task of a stream's method is one of asyncio's coroutine, for who looks into it.
    ///
    /// Here: a coroutine and perhaps a name, or since Python 3.14 `eager_start`, without a task factory.
    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, LoopCore>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = slf.py();
        let [coro] = arguments.positional() else { return None };
        let imports = imports(py).ok()?;
        let option = match arguments.keyword_names() {
            None => None,
            Some(names) => Some(only_option(imports, names, arguments).ok()??).filter(|option| !option.value.is_none()),
        };
        if slf.get().needs_checks() || slf.get().state(py, |state| state.task_factory.is_some()) {
            return None;
        }
        Some(with_coroutine_of(*coro, |coro| new_task(imports, slf, coro, option)))
    }

    /// Everything but the plain case is the running interpreter's own code.
    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let slf = slf.to_owned().into_any().unbind();
        let create_task = &imports(py)?.create_task;
        let task = match arguments.positional().first() {
            Some(coro) => with_coroutine_of(*coro, |coro| {
                arguments.behind_first().forward(py, create_task, &[&slf, coro.to_owned().as_unbound()])
            }),
            None => arguments.forward(py, create_task, &[&slf]),
        };
        task.map(Bound::unbind)
    }
}

/// A keyword with its value, as `Task` takes it.
struct TaskOption<'a, 'py> {
    keyword: Borrowed<'a, 'py, PyTuple>,
    /// `("loop", keyword)`.
    behind_loop: &'static Py<PyTuple>,
    value: Borrowed<'a, 'py, PyAny>,
}

/// The keyword, if it is the only one and one that may be handed on.
#[inline]
fn only_option<'a, 'py>(
    imports: &'static Imports,
    keyword: Borrowed<'a, 'py, PyTuple>,
    arguments: Arguments<'a, 'py>,
) -> PyResult<Option<TaskOption<'a, 'py>>> {
    let (Some((name, value)), 1) = (arguments.keywords().next(), arguments.keyword_values().len()) else {
        return Ok(None);
    };
    let py = value.py();
    let behind_loop = if name.is(name!(py, "name")) {
        &imports.loop_and_name_keywords
    } else if cfg!(Py_3_14) && name.is(name!(py, "eager_start")) {
        &imports.loop_and_eager_start_keywords
    } else {
        return Ok(None);
    };
    Ok(Some(TaskOption { keyword, behind_loop, value }))
}

#[inline]
fn new_task<'py>(
    imports: &'static Imports,
    event_loop: Borrowed<'_, 'py, LoopCore>,
    coro: Borrowed<'_, 'py, PyAny>,
    option: Option<TaskOption<'_, 'py>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let class = current(&imports.tasks, name!(py, "Task"))?;
    let passed = Passed::to(imports, event_loop, |accelerated| class.is(&accelerated.task))?;
    match (option, passed) {
        (None, Passed::Nothing) => call::call1(py, class.as_unbound(), coro.as_unbound()),
        (None, Passed::Dict(keywords)) => {
            call::call_with_keywords(&class, &objects::tuple(py, [coro].into_iter())?, &keywords)
        }
        (None, Passed::Keyword) => {
            call::vectorcall(py, &class, &[coro.as_ptr(), event_loop.as_ptr()], 1, Some(&imports.loop_keyword))
        }
        (Some(TaskOption { keyword, value, .. }), Passed::Nothing) => {
            call::vectorcall(py, &class, &[coro.as_ptr(), value.as_ptr()], 1, Some(keyword.as_unbound()))
        }
        (Some(TaskOption { behind_loop, value, .. }), _) => {
            call::vectorcall(py, &class, &[coro.as_ptr(), event_loop.as_ptr(), value.as_ptr()], 1, Some(behind_loop))
        }
    }
}

/// How a new task or future is told of its loop.
enum Passed<'py> {
    /// It takes the one that runs.
    Nothing,
    /// `loop=`, to a class in C: CPython would make a dict for each call, and throw it away.
    Dict(Bound<'py, PyDict>),
    /// `loop=`, to a class that may keep what it is given.
    Keyword,
}

impl<'py> Passed<'py> {
    #[inline]
    fn to(
        imports: &'static Imports,
        event_loop: Borrowed<'_, 'py, LoopCore>,
        is_class: impl FnOnce(&Accelerated) -> bool,
    ) -> PyResult<Self> {
        let Some(accelerated) = imports.accelerated.as_ref().filter(|accelerated| is_class(accelerated)) else {
            return Ok(Self::Keyword);
        };
        match &accelerated.running_loop {
            Some(running_loop) if running_loop.call(event_loop.py())?.is(event_loop) => Ok(Self::Nothing),
            _ => loop_keywords(event_loop).map(|keywords| keywords.map_or(Self::Keyword, Self::Dict)),
        }
    }
}

/// `{"loop": self}`, always the same; `None` once the loop is closed, as it would keep it alive.
#[inline]
fn loop_keywords<'py>(event_loop: Borrowed<'_, 'py, LoopCore>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = event_loop.py();
    let kept = event_loop.get().state(py, |state| state.loop_keywords.as_ref().map(|kept| kept.bind(py).clone()));
    if kept.is_some() || event_loop.get().is_loop_closed() {
        return Ok(kept);
    }
    let keywords = objects::dict(py)?;
    keywords.set_item(name!(py, "loop"), event_loop)?;
    let _previous = event_loop.get().state(py, |state| state.loop_keywords.replace(keywords.clone().unbind()));
    Ok(Some(keywords))
}

/// What a module calls `name` now: programs replace asyncio's classes there, and asyncio looks each time.
#[inline]
fn current<'py>(names: &Py<PyDict>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    match names.bind(name.py()).get_item(name)? {
        Some(value) => Ok(value),
        None => Err(PyNameError::new_err(format!("name '{name}' is not defined"))),
    }
}

macro_rules! plain_method {
    ($name:ident, $python_name:literal, $doc:literal, |$slf:ident| $body:expr) => {
        struct $name;

        impl PlainMethod<LoopCore> for $name {
            const NAME: &'static CStr = $python_name;
            const DOC: &'static CStr = $doc;

            #[inline]
            fn call<'py>($slf: Borrowed<'_, 'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
                $body
            }
        }
    };
}

plain_method!(CreateFuture, c"create_future", c"create_future($self, /)\n--\n\nA future of this loop.", |slf| {
    let py = slf.py();
    let imports = imports(py)?;
    let class = current(&imports.futures, name!(py, "Future"))?;
    match Passed::to(imports, slf, |accelerated| class.is(&accelerated.future))? {
        Passed::Nothing => call::call0(py, class.as_unbound()),
        Passed::Dict(keywords) => call::call_with_keywords(&class, imports.nothing.bind(py), &keywords),
        Passed::Keyword => call::vectorcall(py, &class, &[slf.as_ptr()], 0, Some(&imports.loop_keyword)),
    }
});
plain_method!(
    Time,
    c"time",
    c"time($self, /)\n--\n\nSeconds on the loop's clock, which is that of `time.monotonic()`.",
    |slf| objects::float(slf.py(), LoopCore::now())
);
plain_method!(
    IsRunning,
    c"is_running",
    c"is_running($self, /)\n--\n\nWhether the loop runs at this moment.",
    |slf| Ok(boolean(slf.py(), slf.get().thread.load(Ordering::Relaxed) != 0))
);
plain_method!(IsClosed, c"is_closed", c"is_closed($self, /)\n--\n\nWhether `close()` was called.", |slf| Ok(boolean(
    slf.py(),
    slf.get().is_loop_closed()
)));
plain_method!(GetDebug, c"get_debug", c"get_debug($self, /)\n--\n\nWhether debug mode is on.", |slf| {
    Ok(boolean(slf.py(), slf.get().is_debug()))
});

fn boolean(py: Python<'_>, value: bool) -> Bound<'_, PyAny> {
    PyBool::new(py, value).to_owned().into_any()
}
