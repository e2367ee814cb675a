//! `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at`: from a Python call to the ready queue or the timers.
//!
//! Each has its usual case, without debug mode and keywords, in `call_directly`; what is not usual comes to `call`, which
//! also makes the errors. The loop's thread calls the first, third and fourth; any thread the second.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyType};
use pyo3::Borrowed;

use super::bindings::{args_of, Bindings};
use super::discarded::call_without_handle;
use super::ready::Entry;
use super::LoopCore;
use crate::asyncio::callback::{Args, Call};
use crate::asyncio::handle::{Handle, HandleCore};
use crate::py::call;
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::names::name;
use crate::py::objects;

/// CPython keeps 255 freed contexts for new ones. While fewer than that wait in the queue, a context for each callback
/// costs least; when there are more, it pays to have those without variables made as late as possible.
const FEW_CONTEXTS: usize = 200;

/// Adds these methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, CallSoon>(class)?;
    add_fast_method::<LoopCore, CallSoonThreadsafe>(class)?;
    add_fast_method::<LoopCore, CallLater>(class)?;
    add_fast_method::<LoopCore, CallAt>(class)
}

/// `call_soon(callback, *args, context=None)`.
struct CallSoon;

impl FastMethod<LoopCore> for CallSoon {
    const NAME: &'static CStr = c"call_soon";
    const DOC: &'static CStr = c"call_soon($self, /, callback, *args, context=None)\n--\n\n\
        Call callback(*args) in the next turn of the loop, in the order of these calls.\n\n\
        Returns a handle that can cancel it. Raises RuntimeError when the loop is closed.";

    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, LoopCore>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = slf.py();
        if slf.get().needs_checks() {
            return None;
        }
        if arguments.keyword_names().is_some() {
            let (function, argument, context) = call_without_handle(py, arguments)?;
            slf.get().push(py, || Entry::Call {
                function: function.to_owned().unbind(),
                argument: argument.map(|argument| argument.to_owned().unbind()),
                context: context.to_owned().unbind(),
            });
            return Some(Ok(py.None().into_bound(py)));
        }
        let (callback, rest) = arguments.positional().split_first()?;
        Some(LoopCore::queue_callback(slf, *callback, rest, false))
    }

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let bound = Bindings::new(py, "call_soon", ["callback"], arguments)?;
        let [callback] = bound.named;
        LoopCore::check_callback(slf, callback, "call_soon", true)?;
        let args = bound.args(py)?;
        let core = LoopCore::new_handle_core(slf, callback, args, bound.context)?;
        let handle = Handle::scheduled(py, core, this.spares_handles(), false)?.unbind();
        this.push(py, || Entry::Handle(handle.clone_ref(py)));
        Ok(handle.into_any())
    }
}

/// `call_soon_threadsafe(callback, *args, context=None)`.
struct CallSoonThreadsafe;

impl FastMethod<LoopCore> for CallSoonThreadsafe {
    const NAME: &'static CStr = c"call_soon_threadsafe";
    const DOC: &'static CStr = c"call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n\
        Like call_soon(), from any thread: the loop is woken if it sleeps.\n\n\
        Since Python 3.14 the handle can be cancelled from any thread, too.";

    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, LoopCore>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        if slf.get().needs_checks() || arguments.keyword_names().is_some() {
            return None;
        }
        let (callback, rest) = arguments.positional().split_first()?;
        slf.get().count_threadsafe_call();
        Some(LoopCore::queue_callback(slf, *callback, rest, true))
    }

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let bound = Bindings::new(py, "call_soon_threadsafe", ["callback"], arguments)?;
        let [callback] = bound.named;
        LoopCore::check_callback(slf, callback, "call_soon_threadsafe", false)?;
        let args = bound.args(py)?;
        let core = LoopCore::new_handle_core(slf, callback, args, bound.context)?;
        let handle = Handle::scheduled(py, core, this.spares_handles(), true)?.unbind();
        this.count_threadsafe_call();
        this.push(py, || Entry::Handle(handle.clone_ref(py)));
        Ok(handle.into_any())
    }
}

/// `call_later(delay, callback, *args, context=None)`.
struct CallLater;

impl FastMethod<LoopCore> for CallLater {
    const NAME: &'static CStr = c"call_later";
    const DOC: &'static CStr = c"call_later($self, /, delay, callback, *args, context=None)\n--\n\n\
        Call callback(*args) after delay seconds, never before.\n\n\
        Returns a handle that can cancel it and tells when() it is due.";

    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, LoopCore>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let [delay, callback, rest @ ..] = arguments.positional() else { return None };
        if slf.get().needs_checks() || arguments.keyword_names().is_some() {
            return None;
        }
        let delay = if let Ok(delay) = delay.cast_exact::<PyFloat>() {
            delay.value()
        } else if delay.is_exact_instance_of::<PyInt>() {
            f64::from(delay.extract::<i32>().ok()?)
        } else {
            return None;
        };
        Some(LoopCore::set_timer(slf, *callback, LoopCore::now() + delay, rest))
    }

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let bound = Bindings::new(py, "call_later", ["delay", "callback"], arguments)?;
        let [delay, callback] = bound.named;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let now = LoopCore::now();
        let (when, given) = if delay.is_instance_of::<PyFloat>() || delay.is_instance_of::<PyInt>() {
            (now + delay.extract::<f64>()?, None)
        } else {
            // Whatever can be added to a float; the error is that of the addition.
            let sum = objects::float(py, now)?.add(delay)?;
            (sum.extract::<f64>()?, Some(sum.unbind()))
        };
        LoopCore::schedule_at(slf, callback, when, given, bound.args(py)?, bound.context)
    }
}

/// `call_at(when, callback, *args, context=None)`.
struct CallAt;

impl FastMethod<LoopCore> for CallAt {
    const NAME: &'static CStr = c"call_at";
    const DOC: &'static CStr = c"call_at($self, /, when, callback, *args, context=None)\n--\n\n\
        Call callback(*args) when time() has reached when, in seconds.";

    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, LoopCore>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let [when, callback, rest @ ..] = arguments.positional() else { return None };
        if slf.get().needs_checks() || arguments.keyword_names().is_some() {
            return None;
        }
        let when = when.cast_exact::<PyFloat>().ok()?.value();
        Some(LoopCore::set_timer(slf, *callback, when, rest))
    }

    fn call<'py>(slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let bound = Bindings::new(py, "call_at", ["when", "callback"], arguments)?;
        let [when, callback] = bound.named;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        let seconds = when.extract::<f64>()?;
        let given = (!when.is_exact_instance_of::<PyFloat>()).then(|| when.to_owned().unbind());
        LoopCore::schedule_at(slf, callback, seconds, given, bound.args(py)?, bound.context)
    }
}

impl LoopCore {
    /// The loop is closed or in debug mode: see `check_callback`.
    #[inline]
    pub fn needs_checks(&self) -> bool {
        self.is_loop_closed() || self.is_debug()
    }

    /// The usual case of `call_soon` and `call_soon_threadsafe`.
    #[inline(always)]
    fn queue_callback<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        args: &[Borrowed<'_, 'py, PyAny>],
        thread_safe: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let context = if thread_safe || slf.get().state(py, |state| state.ready.len() > FEW_CONTEXTS) {
            call::copy_context_if_any(py)?
        } else {
            Some(call::copy_context(py)?)
        };
        let core = Self::plain_handle_core(slf, callback, args, context)?;
        let handle = Handle::scheduled(py, core, slf.get().spares_handles(), thread_safe)?;
        slf.get().push(py, || Entry::Handle(handle.clone().unbind()));
        Ok(handle.into_any())
    }

    /// The usual case of `call_later` and `call_at`.
    #[inline]
    fn set_timer<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        when: f64,
        args: &[Borrowed<'_, 'py, PyAny>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let context = call::copy_context_if_any(slf.py())?;
        let core = Self::plain_handle_core(slf, callback, args, context)?;
        Self::add_timer(&slf, core, when, None).map(Bound::into_any)
    }

    #[inline(always)]
    fn plain_handle_core<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        args: &[Borrowed<'_, 'py, PyAny>],
        context: Option<Py<PyAny>>,
    ) -> PyResult<HandleCore> {
        let call = Call { args: args_of(slf.py(), args)?, function: callback.to_owned().unbind() };
        Ok(HandleCore::without_debug(slf.to_owned().unbind(), call, context))
    }

    /// What `call_soon` and its like check before they schedule anything.
    pub fn check_callback(
        slf: Borrowed<'_, '_, Self>,
        callback: Borrowed<'_, '_, PyAny>,
        method: &str,
        same_thread: bool,
    ) -> PyResult<()> {
        let this = slf.get();
        this.check_open(slf.py())?;
        if this.is_debug() {
            let py = slf.py();
            if same_thread {
                slf.call_method0(name!(py, "_check_thread"))?;
            }
            slf.call_method1(name!(py, "_check_callback"), (callback, method))?;
        }
        Ok(())
    }

    pub fn new_handle_core<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        args: Args,
        context: Option<Py<PyAny>>,
    ) -> PyResult<HandleCore> {
        let py = slf.py();
        let context = match context {
            Some(context) => context,
            None => call::copy_context(py)?,
        };
        let function = callback.to_owned().unbind();
        HandleCore::new(py, slf.to_owned().unbind(), Call { function, args }, context)
    }

    fn schedule_at<'py>(
        slf: Borrowed<'_, 'py, Self>,
        callback: Borrowed<'_, 'py, PyAny>,
        when: f64,
        given: Option<Py<PyAny>>,
        args: Args,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::check_callback(slf, callback, "call_at", true)?;
        let core = Self::new_handle_core(slf, callback, args, context)?;
        Ok(Self::add_timer(&slf, core, when, given)?.into_any().unbind())
    }
}
