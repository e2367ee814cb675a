//! Native methods that are called without argument parsing of PyO3's.
//!
//! * `FastMethod`: a `METH_FASTCALL | METH_KEYWORDS` method on a PyO3 class; costs half of PyO3's own
//!   wrapper when `*args` or keywords are involved.
//! * `PlainMethod`: a `METH_NOARGS` method.
//!
//! PyO3's trampoline around a method catches panics, turns errors into exceptions, and counts that the thread is
//! attached, which is 90 instructions. A `PlainMethod`, and a `FastMethod` in its usual case, do without the count.
#![expect(unsafe_code, reason = "CPython's C API")]

use std::any::Any;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::impl_::trampoline::{fastcall_cfunction_with_keywords, MethodDef};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{ffi, Borrowed, PyClass, PyTypeInfo};

use super::call::vectorcall;

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

    pub fn keyword_values(&self) -> &'a [Borrowed<'a, 'py, PyAny>] {
        self.keyword_values
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

    /// All but the first positional one.
    pub fn behind_first(&self) -> Self {
        Self { positional: self.positional.get(1..).unwrap_or_default(), ..*self }
    }

    /// `function(*prefix, *positional, **keywords)`.
    pub fn forward(&self, py: Python<'py>, function: &Py<PyAny>, prefix: &[&Py<PyAny>]) -> PyResult<Bound<'py, PyAny>> {
        let mut values: Vec<*mut ffi::PyObject> = prefix.iter().map(|value| value.as_ptr()).collect();
        values.extend(self.positional.iter().map(|value| value.as_ptr()));
        let positional = values.len();
        values.extend(self.keyword_values.iter().map(|value| value.as_ptr()));
        let names = self.keyword_names.map(|names| names.to_owned().unbind());
        vectorcall(py, function.bind(py), &values, positional, names.as_ref())
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
pub trait FastMethod<C: PyTypeInfo> {
    /// The name and the text signature with the docstring, as in CPython's own method tables.
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    /// The usual case, outside of PyO3's trampoline: `None` leaves the call to `call`.
    ///
    /// PyO3 does not know that the thread is attached, so no `Py` may be dropped (but `Bound` may).
    #[inline]
    fn call_directly<'py>(
        _slf: Borrowed<'_, 'py, C>,
        _arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        None
    }

    fn call<'py>(slf: Borrowed<'_, 'py, C>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>>;
}

/// A method `name(self)` of the class `C`, outside of PyO3's trampoline as `FastMethod::call_directly` is.
pub trait PlainMethod<C: PyClass> {
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    fn call<'py>(slf: Borrowed<'_, 'py, C>) -> PyResult<Bound<'py, PyAny>>;
}

/// # Safety
/// Those of a C function with the flags `METH_FASTCALL | METH_KEYWORDS`, in a method of the class C.
#[inline]
unsafe fn borrow_all<'a, 'py, C>(
    py: Python<'py>,
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> (Borrowed<'a, 'py, C>, Arguments<'a, 'py>) {
    // SAFETY: the descriptor that holds this function checked that `slf` is an instance of C.
    // `values` holds `count` positional references, then one per keyword name, all borrowed from
    // the caller for the duration of the call; `Borrowed` is a transparent pointer.
    unsafe {
        let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<C>();
        let count = count as usize;
        let keywords = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let all: &[Borrowed<'_, '_, PyAny>] =
            if values.is_null() { &[] } else { std::slice::from_raw_parts(values.cast(), count + keywords) };
        let (positional, keyword_values) = all.split_at(count);
        let keyword_names = (keywords > 0).then(|| Borrowed::from_ptr(py, names).cast_unchecked::<PyTuple>());
        (slf, Arguments { positional, keyword_values, keyword_names })
    }
}

#[cold]
pub(super) fn panicked(payload: &(dyn Any + Send)) -> PyErr {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    PanicException::new_err(message.or_else(|| payload.downcast_ref().copied()).unwrap_or("panic").to_owned())
}

/// What a C function returns: the object, or null with the exception set. A panic is an exception too, as PyO3's.
#[inline(always)]
fn into_c<'py>(
    py: Python<'py>,
    method: impl FnOnce() -> Option<PyResult<Bound<'py, PyAny>>>,
) -> Option<*mut ffi::PyObject> {
    // What a method had lent out when it panicked is free again, or says that it is not.
    let error = match catch_unwind(AssertUnwindSafe(method)) {
        Ok(Some(Ok(object))) => return Some(object.into_ptr()),
        Ok(None) => return None,
        Ok(Some(Err(error))) => error,
        Err(payload) => panicked(&*payload),
    };
    error.restore(py);
    Some(ptr::null_mut())
}

/// The C function behind a `FastMethod`.
unsafe extern "C" fn fast_function<C: PyTypeInfo, M: FastMethod<C>>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls attached, with what the method's flags promise.
    unsafe {
        let py = Python::assume_attached();
        let (borrowed, arguments) = borrow_all(py, slf, values, count, names);
        into_c(py, || M::call_directly(borrowed, arguments))
            .unwrap_or_else(|| fastcall_cfunction_with_keywords::<Definition<C, M>>(slf, values, count, names))
    }
}

/// The C function behind a `PlainMethod`.
unsafe extern "C" fn plain_function<C: PyClass + PyTypeInfo, M: PlainMethod<C>>(
    slf: *mut ffi::PyObject,
    _arguments: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls attached; the descriptor that holds this function checked that `slf` is an instance of C.
    unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<C>();
        into_c(py, || Some(M::call(slf))).unwrap_or(ptr::null_mut())
    }
}

/// The rest of a `FastMethod`.
///
/// PyO3's own trampoline is around it: it catches panics, turns errors into exceptions, and lets `Py`
/// know that the thread is attached. Without the last, references dropped in here would only be given
/// back at the next call of an ordinary PyO3 method.
unsafe fn fast_call<C: PyTypeInfo, M: FastMethod<C>>(
    py: Python<'_>,
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: the caller's.
    let (slf, arguments) = unsafe { borrow_all(py, slf, values, count, names) };
    M::call(slf, arguments).map(Py::into_ptr)
}

/// Names `fast_call::<C, M>` to PyO3's trampoline.
struct Definition<C, M>(PhantomData<(C, M)>);

impl<C: PyTypeInfo, M: FastMethod<C>> MethodDef<fastcall_cfunction_with_keywords::Func> for Definition<C, M> {
    const METH: fastcall_cfunction_with_keywords::Func = fast_call::<C, M>;
}

/// Adds the method `M` to the class, which is `C` or derived from it.
pub fn add_fast_method<C: PyTypeInfo, M: FastMethod<C>>(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_method(
        class,
        ffi::PyMethodDef {
            ml_name: M::NAME.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: fast_function::<C, M> },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: M::DOC.as_ptr(),
        },
        M::NAME,
    )
}

/// Adds the method `M` to the class `C`.
pub fn add_plain_method<C: PyClass + PyTypeInfo, M: PlainMethod<C>>(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_method(
        class,
        ffi::PyMethodDef {
            ml_name: M::NAME.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: plain_function::<C, M> },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: M::DOC.as_ptr(),
        },
        M::NAME,
    )
}

/// The function of `definition` has the signature that its flags promise.
fn add_method(class: &Bound<'_, PyType>, definition: ffi::PyMethodDef, name: &CStr) -> PyResult<()> {
    // A method table entry must live as long as the type, that is, for ever.
    let definition = Box::leak(Box::new(definition));
    // SAFETY: the definition is never freed, and the callers above fit its function to its flags.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(name.to_str().expect("method names are ASCII literals"), descriptor)
}
