//! Which argument is which, for methods of the shape `method(named..., *args, context=None)`.
//!
//! The plain case, positional arguments only, copies nothing; keywords take the slow way and give CPython's
//! errors.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::Borrowed;

use crate::asyncio::callback::Args;
use crate::py::method::Arguments;
use crate::py::names::name;
use crate::py::objects;

/// The arguments of a method that takes named parameters, then `*args`, then `context=None`.
pub struct Bindings<'a, 'py, const N: usize> {
    pub named: [Borrowed<'a, 'py, PyAny>; N],
    pub rest: &'a [Borrowed<'a, 'py, PyAny>],
    pub context: Option<Py<PyAny>>,
}

impl<'a, 'py, const N: usize> Bindings<'a, 'py, N> {
    #[inline]
    pub fn new(py: Python<'py>, method: &str, names: [&str; N], arguments: Arguments<'a, 'py>) -> PyResult<Self> {
        let positional = arguments.positional();
        if positional.len() >= N && arguments.keyword_names().is_none() {
            let (named, rest) = positional.split_at(N);
            return Ok(Self { named: std::array::from_fn(|index| named[index]), rest, context: None });
        }
        Self::with_keywords(py, method, names, arguments)
    }

    fn with_keywords(py: Python<'py>, method: &str, names: [&str; N], arguments: Arguments<'a, 'py>) -> PyResult<Self> {
        let positional = arguments.positional();
        let mut named: [Option<Borrowed<'a, 'py, PyAny>>; N] =
            std::array::from_fn(|index| positional.get(index).copied());
        let mut context = None;
        for (name, value) in arguments.keywords() {
            if name.is(name!(py, "context")) || name.eq(name!(py, "context"))? {
                context = (!value.is_none()).then(|| value.to_owned().unbind());
                continue;
            }
            let name = name.extract::<String>()?;
            let Some(index) = names.iter().position(|known| *known == name) else {
                return Err(PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{name}'")));
            };
            if named[index].replace(value).is_some() {
                return Err(PyTypeError::new_err(format!("{method}() got multiple values for argument '{name}'")));
            }
        }
        if let Some(index) = named.iter().position(Option::is_none) {
            return Err(PyTypeError::new_err(format!(
                "{method}() missing a required positional argument: '{}'",
                names[index]
            )));
        }
        let named = std::array::from_fn(|index| named[index].expect("all names were found to be bound above"));
        Ok(Self { named, rest: positional.get(N..).unwrap_or_default(), context })
    }

    pub fn args(&self, py: Python<'py>) -> PyResult<Args> {
        args_of(py, self.rest)
    }
}

/// Positional arguments as they are kept.
#[inline(always)]
pub fn args_of<'py>(py: Python<'py>, values: &[Borrowed<'_, 'py, PyAny>]) -> PyResult<Args> {
    Ok(match values {
        [] => Args::None,
        [argument] => Args::One((*argument).to_owned().unbind()),
        many => Args::Many(objects::tuple(py, many.iter().copied())?.unbind()),
    })
}
