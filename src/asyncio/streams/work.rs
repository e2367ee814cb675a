//! What a method of a reader or writer is to do, natively or by asyncio's own coroutine.
//!
//! Arguments that native code does not take are not here: such calls go to asyncio's methods at once (`native`).

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::known::classes;
use crate::py::call;
use crate::py::names::name;
use crate::py::objects;

/// What is to be done.
pub enum Work {
    /// `reader.read(n)`, n > 0.
    Read(usize),
    /// `reader.read()`: all until the end of the stream.
    ReadAll,
    /// `reader.readexactly(n)`, n > 0.
    ReadExactly(usize),
    /// `reader.readline()`.
    ReadLine,
    /// `reader.readuntil(separator)`, not empty.
    ReadUntil(Py<PyBytes>),
    /// `writer.drain()`.
    Drain,
}

impl Work {
    /// The names of class and method.
    pub fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Read(_) | Self::ReadAll => ("StreamReader", "read"),
            Self::ReadExactly(_) => ("StreamReader", "readexactly"),
            Self::ReadLine => ("StreamReader", "readline"),
            Self::ReadUntil(_) => ("StreamReader", "readuntil"),
            Self::Drain => ("StreamWriter", "drain"),
        }
    }

    /// What asyncio's own method returns.
    #[cold]
    pub fn begin_by_asyncio<'py>(&self, stream: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = stream.py();
        let classes = classes(py).expect("whoever has this method has a class that was made from them");
        let method = |name| classes.method_of_asyncio(stream, name);
        let with = |method: Bound<'py, PyAny>, argument: Bound<'py, PyAny>| {
            call::call1(py, method.as_unbound(), argument.as_unbound())
        };
        match self {
            Self::Read(count) => with(method(name!(py, "read"))?, objects::count(py, *count as u64)?),
            Self::ReadAll => call::call0(py, method(name!(py, "read"))?.as_unbound()),
            Self::ReadExactly(count) => with(method(name!(py, "readexactly"))?, objects::count(py, *count as u64)?),
            Self::ReadLine => call::call0(py, method(name!(py, "readline"))?.as_unbound()),
            Self::ReadUntil(separator) => with(method(name!(py, "readuntil"))?, separator.bind(py).clone().into_any()),
            Self::Drain => call::call0(py, method(name!(py, "drain"))?.as_unbound()),
        }
    }
}
