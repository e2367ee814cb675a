//! A function with its arguments, as it waits in a handle or in the ready queue, and how it is called.
//!
//! Most callbacks have one argument or none, which then needs no tuple. While it waits a call owns its references
//! (`Call`); when it runs they are bound to the interpreter (`BoundCall`), which makes dropping them cheaper.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::py::call;
use crate::py::names::name;
use crate::py::objects;

/// Positional arguments: most callbacks have none or one, which then needs no tuple.
pub enum Args {
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

impl Args {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::None => Self::None,
            Self::One(argument) => Self::One(argument.clone_ref(py)),
            Self::Many(arguments) => Self::Many(arguments.clone_ref(py)),
        }
    }

    pub fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::None => Ok(PyTuple::empty(py)),
            Self::One(argument) => objects::tuple(py, [argument.bind_borrowed(py)].into_iter()),
            Self::Many(arguments) => Ok(arguments.bind(py).clone()),
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::One(argument) => visit.call(argument),
            Self::Many(arguments) => visit.call(arguments),
        }
    }
}

/// A function and its positional arguments.
pub struct Call {
    pub function: Py<PyAny>,
    pub args: Args,
}

impl Call {
    #[inline(always)]
    pub fn bound<'py>(&self, py: Python<'py>) -> BoundCall<'py> {
        let args = match &self.args {
            Args::None => BoundArgs::None,
            Args::One(argument) => BoundArgs::One(argument.bind(py).clone()),
            Args::Many(arguments) => BoundArgs::Many(arguments.bind(py).clone()),
        };
        BoundCall { function: self.function.bind(py).clone(), args }
    }

    #[inline]
    pub fn into_bound(self, py: Python<'_>) -> BoundCall<'_> {
        let args = match self.args {
            Args::None => BoundArgs::None,
            Args::One(argument) => BoundArgs::One(argument.into_bound(py)),
            Args::Many(arguments) => BoundArgs::Many(arguments.into_bound(py)),
        };
        BoundCall { function: self.function.into_bound(py), args }
    }
}

/// A call with references of its own, to be made while nothing is lent. Bound references are given back
/// without asking whether the thread is attached, which counts here.
pub struct BoundCall<'py> {
    pub function: Bound<'py, PyAny>,
    pub args: BoundArgs<'py>,
}

pub enum BoundArgs<'py> {
    None,
    One(Bound<'py, PyAny>),
    Many(Bound<'py, PyTuple>),
}

impl BoundCall<'_> {
    /// Calls it inside of `context`; `context` may be anything that has a `run` method.
    #[inline(always)]
    pub fn invoke(&self, context: &Bound<'_, PyAny>) -> PyResult<()> {
        if !call::is_context(context) {
            return self.invoke_by_run(context);
        }
        let py = context.py();
        let function = self.function.as_unbound();
        call::in_context(py, context.as_unbound(), || {
            match &self.args {
                BoundArgs::None => call::call0(py, function),
                BoundArgs::One(argument) => call::call1(py, function, argument.as_unbound()),
                BoundArgs::Many(arguments) => call::call_tuple(py, function, arguments.as_unbound()),
            }
            .map(drop)
        })
    }

    #[cold]
    fn invoke_by_run(&self, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = context.py();
        let run = context.getattr(name!(py, "run"))?;
        let function = objects::tuple(py, [self.function.as_borrowed()].into_iter())?;
        let arguments = match &self.args {
            BoundArgs::None => PyTuple::empty(py),
            BoundArgs::One(argument) => objects::tuple(py, [argument.as_borrowed()].into_iter())?,
            BoundArgs::Many(arguments) => arguments.clone(),
        };
        call::call_tuple(py, run.as_unbound(), function.add(arguments)?.cast::<PyTuple>()?.as_unbound()).map(drop)
    }

    pub fn unbind(self) -> Call {
        let args = match self.args {
            BoundArgs::None => Args::None,
            BoundArgs::One(argument) => Args::One(argument.unbind()),
            BoundArgs::Many(arguments) => Args::Many(arguments.unbind()),
        };
        Call { function: self.function.unbind(), args }
    }
}
