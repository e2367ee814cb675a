//! Calls into Python, and native methods that are called without argument parsing of PyO3's.
//!
//! * `call0`, `call1`, `call_tuple`, `call_method1`: vectorcall without a temporary tuple.
//! * `copy_context`, `Entered`: `contextvars` as `Context.run` does it, without its call.
//! * `FastMethod`: a `METH_FASTCALL | METH_KEYWORDS` method on a PyO3 class; costs half of PyO3's own
//!   wrapper when `*args` or keywords are involved.
#![expect(unsafe_code, reason = "CPython's C API")]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::impl_::trampoline::{fastcall_cfunction_with_keywords, MethodDef};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{ffi, Borrowed, PyClass, PyTypeInfo};

use super::thread_end;

/// `function()`.
#[inline]
pub fn call0<'py>(py: Python<'py>, function: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; `function` is a live object; the result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, thread_end::call_no_args(function.as_ptr())) }
}

/// `function(argument)`.
#[inline]
pub fn call1<'py>(py: Python<'py>, function: &Py<PyAny>, argument: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), argument.as_ptr()];
    // SAFETY: attached; one argument follows the slot that PY_VECTORCALL_ARGUMENTS_OFFSET lets the callee
    // overwrite; both objects are kept alive by the caller's references.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = thread_end::vectorcall(function.as_ptr(), arguments, count);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// `function(*arguments)`.
#[inline]
pub fn call_tuple<'py>(py: Python<'py>, function: &Py<PyAny>, arguments: &Py<PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; `arguments` is an exact tuple or a subclass of it.
    unsafe { Bound::from_owned_ptr_or_err(py, thread_end::call(function.as_ptr(), arguments.as_ptr())) }
}

/// `target.name()` without creating the bound method.
#[inline]
pub fn call_method0<'py>(py: Python<'py>, target: &Py<PyAny>, name: &Py<PyString>) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), target.as_ptr()];
    // SAFETY: as in `call_method1`, without an argument.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        Bound::from_owned_ptr_or_err(py, thread_end::vectorcall_method(name.as_ptr(), arguments, count))
    }
}

/// `target.name(argument)` without creating the bound method.
#[inline]
pub fn call_method1<'py>(
    py: Python<'py>,
    target: &Py<PyAny>,
    name: &Py<PyString>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), target.as_ptr(), argument.as_ptr()];
    // SAFETY: attached; two arguments (the target counts) follow the slot that the callee may overwrite;
    // all three objects are kept alive by the caller's references.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = thread_end::vectorcall_method(name.as_ptr(), arguments, count);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// `target.name(first, second)` without creating the bound method.
#[inline]
pub fn call_method2<'py>(
    py: Python<'py>,
    target: &Py<PyAny>,
    name: &Py<PyString>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = [ptr::null_mut(), target.as_ptr(), first.as_ptr(), second.as_ptr()];
    // SAFETY: as in `call_method1`, with one argument more.
    unsafe {
        let arguments = slots.as_mut_ptr().add(1);
        let count = 3 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = thread_end::vectorcall_method(name.as_ptr(), arguments, count);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// `function(*positional, **keywords)` with the keyword values behind the positional ones.
#[inline]
pub fn vectorcall<'py>(
    py: Python<'py>,
    function: &Py<PyAny>,
    values: &[*mut ffi::PyObject],
    positional: usize,
    keyword_names: Option<&Py<PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let names = keyword_names.map_or(ptr::null_mut(), Py::as_ptr);
    debug_assert!(values.len() >= positional);
    // SAFETY: attached; `values` holds borrowed references that the callers in this crate take from
    // objects alive during the call, one per positional argument and keyword name.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyObject_Vectorcall(function.as_ptr(), values.as_ptr(), positional, names),
        )
    }
}

/// `contextvars.copy_context()`.
#[inline]
pub fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// `context.copy()`.
pub fn copy_of_context(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; the function checks the type itself; returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind) }
}

/// Whether `context.run` can be replaced by entering and leaving it.
#[inline]
pub fn is_context(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyContext_CheckExact(context.as_ptr()) != 0 }
}

/// Runs `body` inside of `context`, as `context.run` would.
///
/// # Errors
/// `RuntimeError` when the context is entered already, else what `body` returns.
#[inline]
pub fn in_context<'py, R>(py: Python<'py>, context: &Py<PyAny>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let entered = Entered::new(py, context)?;
    let result = body();
    entered.leave()?;
    result
}

/// A context that is entered until this is dropped or left.
struct Entered<'a, 'py>(&'a Py<PyAny>, Python<'py>);

impl<'a, 'py> Entered<'a, 'py> {
    #[inline]
    fn new(py: Python<'py>, context: &'a Py<PyAny>) -> PyResult<Self> {
        // SAFETY: attached; `PyContext_Enter` checks the type itself and sets an exception on failure.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self(context, py))
    }

    #[inline]
    fn leave(self) -> PyResult<()> {
        let (context, py) = (self.0, self.1);
        std::mem::forget(self);
        // SAFETY: attached; this context was entered by `new` and is the innermost one of this thread:
        // the body ran to its end, and every `Context.run` in it has returned.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(())
    }
}

impl Drop for Entered<'_, '_> {
    /// Only reached when the body panicked, or the thread is being ended.
    fn drop(&mut self) {
        thread_end::stay_if_ended();
        // SAFETY: as in `leave`. A failure leaves an exception set, which is cleared.
        unsafe {
            if ffi::PyContext_Exit(self.0.as_ptr()) != 0 {
                ffi::PyErr_Clear();
            }
        }
    }
}

/// The C function behind a `builtin_function_or_method`; `None` for other objects.
#[inline]
pub fn c_function(object: &Bound<'_, PyAny>) -> Option<usize> {
    // SAFETY: attached; the function is only asked for after the type was checked.
    unsafe {
        if ffi::PyCFunction_CheckExact(object.as_ptr()) == 0 {
            return None;
        }
        ffi::PyCFunction_GetFunction(object.as_ptr()).map(|function| function as usize)
    }
}

/// Runs pending Python-level signal handlers (main thread only; elsewhere it does nothing).
#[inline]
pub fn check_signals(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached.
    if unsafe { ffi::PyErr_CheckSignals() } != 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(())
}

/// `threading.get_ident()` of the calling thread; never 0.
#[inline]
pub fn thread_ident() -> u64 {
    // SAFETY: has no preconditions.
    #[allow(clippy::useless_conversion, reason = "c_ulong is 32 bits wide on some platforms")]
    unsafe {
        u64::from(ffi::PyThread_get_thread_ident())
    }
}

/// The arguments of a call, borrowed from the caller.
#[derive(Clone, Copy)]
pub struct Arguments<'a, 'py> {
    positional: &'a [Borrowed<'a, 'py, PyAny>],
    keyword_values: &'a [Borrowed<'a, 'py, PyAny>],
    keyword_names: Option<Borrowed<'a, 'py, PyTuple>>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    pub fn positional(&self) -> &'a [Borrowed<'a, 'py, PyAny>] {
        self.positional
    }

    pub fn keyword_names(&self) -> Option<Borrowed<'a, 'py, PyTuple>> {
        self.keyword_names
    }

    /// Pairs of name and value.
    pub fn keywords(
        &self,
    ) -> impl Iterator<Item = (Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> + use<'a, 'py> {
        let names = self.keyword_names;
        self.keyword_values.iter().enumerate().filter_map(move |(index, value)| {
            let name = names?.get_borrowed_item_tied(index)?;
            Some((name, *value))
        })
    }

    /// The only argument of a method that takes one.
    ///
    /// # Errors
    /// `TypeError` in CPython's words.
    #[inline]
    pub fn single(&self, method: &str, name: &str) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        match (self.positional, self.keyword_names) {
            ([argument], None) => Ok(*argument),
            ([], Some(_)) if self.keyword_values.len() == 1 => {
                let (given, value) = self.keywords().next().expect("there is one keyword");
                if given.extract::<String>()? == name {
                    return Ok(value);
                }
                Err(PyTypeError::new_err(format!("{method}() got an unexpected keyword argument {}", given.repr()?)))
            }
            ([], None) => {
                Err(PyTypeError::new_err(format!("{method}() missing 1 required positional argument: '{name}'")))
            }
            _ => Err(PyTypeError::new_err(format!("{method}() takes exactly one argument"))),
        }
    }

    /// The arguments of a method that takes `first` and, optionally, `second`.
    ///
    /// # Errors
    /// `TypeError` in CPython's words.
    #[inline]
    pub fn one_or_two(
        &self,
        method: &str,
        first: &str,
        second: &str,
    ) -> PyResult<(Borrowed<'a, 'py, PyAny>, Option<Borrowed<'a, 'py, PyAny>>)> {
        match (self.positional, self.keyword_names) {
            ([one], None) => Ok((*one, None)),
            ([one, two], None) => Ok((*one, Some(*two))),
            _ => self.named_one_or_two(method, first, second),
        }
    }

    fn named_one_or_two(
        &self,
        method: &str,
        first: &str,
        second: &str,
    ) -> PyResult<(Borrowed<'a, 'py, PyAny>, Option<Borrowed<'a, 'py, PyAny>>)> {
        if self.positional.len() > 2 {
            let given = self.positional.len() + 1;
            let message = format!("{method}() takes from 2 to 3 positional arguments but {given} were given");
            return Err(PyTypeError::new_err(message));
        }
        let (mut one, mut two) = (self.positional.first().copied(), self.positional.get(1).copied());
        for (name, value) in self.keywords() {
            let name = name.extract::<String>()?;
            let slot = match name {
                _ if name == first => &mut one,
                _ if name == second => &mut two,
                _ => {
                    let message = format!("{method}() got an unexpected keyword argument '{name}'");
                    return Err(PyTypeError::new_err(message));
                }
            };
            if slot.replace(value).is_some() {
                return Err(PyTypeError::new_err(format!("{method}() got multiple values for argument '{name}'")));
            }
        }
        let missing = || PyTypeError::new_err(format!("{method}() missing 1 required positional argument: '{first}'"));
        Ok((one.ok_or_else(missing)?, two))
    }

    /// `function(*prefix, *positional, **keywords)`.
    pub fn forward(&self, py: Python<'py>, function: &Py<PyAny>, prefix: &[&Py<PyAny>]) -> PyResult<Bound<'py, PyAny>> {
        let mut values: Vec<*mut ffi::PyObject> = prefix.iter().map(|value| value.as_ptr()).collect();
        values.extend(self.positional.iter().map(|value| value.as_ptr()));
        let positional = values.len();
        values.extend(self.keyword_values.iter().map(|value| value.as_ptr()));
        let names = self.keyword_names.map(|names| names.to_owned().unbind());
        vectorcall(py, function, &values, positional, names.as_ref())
    }
}

/// `tuple[index]` that lives as long as the tuple's borrow.
trait TupleItem<'a, 'py> {
    fn get_borrowed_item_tied(self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>>;
}

impl<'a, 'py> TupleItem<'a, 'py> for Borrowed<'a, 'py, PyTuple> {
    fn get_borrowed_item_tied(self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: the index is in range; tuples are immutable, so the item lives as long as the tuple,
        // which lives for 'a.
        unsafe {
            let item = ffi::PyTuple_GET_ITEM(self.as_ptr(), index as ffi::Py_ssize_t);
            Some(Borrowed::from_ptr(self.py(), item))
        }
    }
}

/// A method `name(self, *args, **keywords)` of the class `C`, see `add_fast_methods`.
pub trait FastMethod<C: PyClass> {
    /// The name and the text signature with the docstring, as in CPython's own method tables.
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    fn call<'py>(slf: Borrowed<'_, 'py, C>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>>;
}

/// The body of the C function behind a `FastMethod`.
///
/// PyO3's own trampoline is around it: it catches panics, turns errors into exceptions, and lets `Py`
/// know that the thread is attached. Without the last, references dropped in here would only be given
/// back at the next call of an ordinary PyO3 method.
unsafe fn fast_call<C: PyClass + PyTypeInfo, M: FastMethod<C>>(
    py: Python<'_>,
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: the descriptor that holds this function checked that `slf` is an instance of C.
    // `values` holds `count` positional references, then one per keyword name, all borrowed from
    // the caller for the duration of the call; `Borrowed` is a transparent pointer.
    let (slf, arguments) = unsafe {
        let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<C>();
        let count = count as usize;
        let keywords = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let all: &[Borrowed<'_, '_, PyAny>] =
            if values.is_null() { &[] } else { std::slice::from_raw_parts(values.cast(), count + keywords) };
        let (positional, keyword_values) = all.split_at(count);
        let keyword_names = (keywords > 0).then(|| Borrowed::from_ptr(py, names).cast_unchecked::<PyTuple>());
        (slf, Arguments { positional, keyword_values, keyword_names })
    };
    M::call(slf, arguments).map(Py::into_ptr)
}

/// Names `fast_call::<C, M>` to PyO3's trampoline.
struct Definition<C, M>(PhantomData<(C, M)>);

impl<C: PyClass + PyTypeInfo, M: FastMethod<C>> MethodDef<fastcall_cfunction_with_keywords::Func> for Definition<C, M> {
    const METH: fastcall_cfunction_with_keywords::Func = fast_call::<C, M>;
}

/// Adds the method `M` to the class `C`.
pub fn add_fast_method<C: PyClass + PyTypeInfo, M: FastMethod<C>>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    // A method table entry must live as long as the type, that is, for ever.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: fastcall_cfunction_with_keywords::<Definition<C, M>>,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: M::DOC.as_ptr(),
    }));
    // SAFETY: the definition is never freed, its function has the signature that its flags promise.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    let name = M::NAME.to_str().expect("method names are ASCII literals");
    class.setattr(name, descriptor)
}
