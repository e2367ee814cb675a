//! The classes of the loop's own readers and writers: asyncio's, with native methods in the place of some coroutines.
//!
//! They are made once, from the `asyncio.StreamReader` and `StreamWriter` that there are when the first connection starts. What
//! somebody changes in asyncio's classes afterwards holds for these, too.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyTuple, PyType};
use pyo3::Borrowed;

use super::coroutine::StreamCoroutine;
use super::known::classes;
use super::work::Work;
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::objects;

/// What the classes have in the place of asyncio's own.
pub const READER_METHODS: [&str; 4] = ["read", "readexactly", "readline", "readuntil"];
pub const WRITER_METHODS: [&str; 1] = ["drain"];

/// `asyncio.StreamReader` with native methods.
pub fn reader_from<'py>(base: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let class = derived_from(base, "StreamReader")?;
    add_fast_method::<PyAny, Read>(&class)?;
    add_fast_method::<PyAny, ReadExactly>(&class)?;
    add_fast_method::<PyAny, ReadLine>(&class)?;
    add_fast_method::<PyAny, ReadUntil>(&class)?;
    Ok(class)
}

/// `asyncio.StreamWriter` with a native method.
pub fn writer_from<'py>(base: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let class = derived_from(base, "StreamWriter")?;
    add_fast_method::<PyAny, Drain>(&class)?;
    Ok(class)
}

fn derived_from<'py>(base: &Bound<'py, PyType>, name: &str) -> PyResult<Bound<'py, PyType>> {
    let py = base.py();
    let names = PyDict::new(py);
    names.set_item("__slots__", PyTuple::empty(py))?;
    names.set_item("__module__", "ironloop._native")?;
    names.set_item("__doc__", format!("asyncio.{name} of a connection of ironloop's."))?;
    Ok(py.get_type::<PyType>().call1((name, (base,), names))?.cast_into::<PyType>()?)
}

fn number(value: Borrowed<'_, '_, PyAny>) -> Option<isize> {
    value.cast_exact::<PyInt>().ok()?.extract().ok()
}

macro_rules! stream_method {
    ($name:ident, $python_name:literal, $doc:literal, |$py:ident, $positional:ident| $work:expr) => {
        struct $name;

        impl FastMethod<PyAny> for $name {
            const NAME: &'static CStr = $python_name;
            const DOC: &'static CStr = $doc;

            #[inline]
            fn call_directly<'py>(
                slf: Borrowed<'_, 'py, PyAny>,
                arguments: Arguments<'_, 'py>,
            ) -> Option<PyResult<Bound<'py, PyAny>>> {
                let ($py, $positional) = (slf.py(), arguments.positional());
                let work: Work = if arguments.keyword_names().is_none() { $work } else { None }?;
                let unchanged = classes($py)?.are_unchanged($py);
                unchanged.ok()?.then(|| StreamCoroutine::make(slf, work))
            }

            /// asyncio's own: other arguments, or what somebody has put in its place.
            fn call<'py>(slf: Borrowed<'_, 'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
                let py = slf.py();
                let classes = classes(py).expect("the class was made from them");
                let name = objects::interned(py, &Self::NAME.to_string_lossy())?;
                let method = classes.method_of_asyncio(&slf, &name)?.unbind();
                Ok(arguments.forward(py, &method, &[])?.unbind())
            }
        }
    };
}

stream_method!(
    Read,
    c"read",
    c"read($self, n=-1)\n--\n\nUp to n bytes, as soon as there are any; all until the end of the stream if n is negative.",
    |_py, positional| match positional {
        [] => Some(Work::ReadAll),
        [count] => number(*count).filter(|&count| count != 0).map(|count| count.try_into().map_or(Work::ReadAll, Work::Read)),
        _ => None,
    }
);
stream_method!(
    ReadExactly,
    c"readexactly",
    c"readexactly($self, n)\n--\n\nExactly n bytes; asyncio.IncompleteReadError if the stream ends before.",
    |_py, positional| match positional {
        [count] => number(*count)?.try_into().ok().filter(|&count| count > 0).map(Work::ReadExactly),
        _ => None,
    }
);
stream_method!(
    ReadLine,
    c"readline",
    c"readline($self)\n--\n\nAll up to the next b'\\n', or to the end of the stream; ValueError if it is longer than the limit.",
    |_py, positional| positional.is_empty().then_some(Work::ReadLine)
);
stream_method!(
    ReadUntil,
    c"readuntil",
    c"readuntil($self, separator=b'\\n')\n--\n\nAll up to the separator, with it; asyncio.IncompleteReadError if the stream ends before,\n\
        asyncio.LimitOverrunError if it is longer than the limit. From Python 3.13 on there may be a tuple of separators.",
    |py, positional| match positional {
        [] => Some(Work::ReadUntil(PyBytes::new(py, b"\n").unbind())),
        [separator] => {
            let separator = separator.cast_exact::<PyBytes>().ok().filter(|it| !it.as_bytes().is_empty());
            separator.map(|separator| Work::ReadUntil(separator.to_owned().unbind()))
        }
        _ => None,
    }
);
stream_method!(
    Drain,
    c"drain",
    c"drain($self)\n--\n\nWaits until there is room for more to be written; what ended the connection if it has ended.",
    |_py, positional| positional.is_empty().then_some(Work::Drain)
);
