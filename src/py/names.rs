//! `name!(py, "text")`: an interned `str` that is made at its first use and kept for ever.
//!
//! PyO3's `intern!` panics if there is no memory at that moment. This one is an error of the function that it is used in,
//! `MemoryError`, and the next use tries again; so it is for functions and closures that return a `PyResult`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::objects;

/// The `str` behind one use of `name!`.
pub struct Name(&'static str, PyOnceLock<Py<PyString>>);

impl Name {
    pub const fn new(text: &'static str) -> Self {
        Self(text, PyOnceLock::new())
    }

    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyString>> {
        match self.1.get(py) {
            Some(name) => Ok(name.bind(py)),
            None => self.make(py),
        }
    }

    #[cold]
    fn make<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyString>> {
        let name = objects::interned(py, self.0)?.unbind();
        Ok(self.1.get_or_init(py, || name).bind(py))
    }
}

/// See the file's documentation.
macro_rules! name {
    ($py:expr, $text:literal) => {{
        static NAME: $crate::py::names::Name = $crate::py::names::Name::new($text);
        NAME.get($py)?
    }};
}
pub(crate) use name;
