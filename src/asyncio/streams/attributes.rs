//! The attributes of a reader, which are those of `asyncio.StreamReader`.
//!
//! They stay where asyncio's own code, and a program that looks into its reader, expect them: in the reader's `__dict__`. Nothing is
//! kept here from one look to the next.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyString};

use super::known::{has_method, Classes};
use crate::py::names::name;
use crate::py::objects;

/// What `StreamReader.__init__` sets, outside of debug mode. A reader with more attributes may have some in the
/// place of methods.
pub const NAMES: [&str; 8] = ["_limit", "_loop", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused"];

/// Access to a reader's attributes, if nothing on the reader stands in the place of a method that is not called.
pub enum Attributes<'py> {
    /// Of a reader of our class: in its dict, past everything that a class can put in the way, as nothing does.
    Dict(Bound<'py, PyDict>),
    /// Of one of asyncio's class.
    Object(Bound<'py, PyAny>),
}

impl<'py> Attributes<'py> {
    /// `None`: the long way, by its methods. The classes are known to be unchanged; no Python code runs.
    #[inline]
    pub fn of(reader: &Bound<'py, PyAny>, classes: &Classes) -> PyResult<Option<Self>> {
        if reader.get_type().is(&classes.reader) {
            return Self::of_ours(reader);
        }
        let py = reader.py();
        let usual = reader.get_type().is(&classes.reader_base)
            && has_method(reader, name!(py, "feed_data"), &classes.feed_data)?
            && has_method(reader, name!(py, "_wakeup_waiter"), &classes.wakeup_waiter)?;
        Ok(usual.then(|| Self::Object(reader.clone())))
    }

    /// The same for a reader of our class, or one that is about to be.
    #[inline]
    pub fn of_ours(reader: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let dict = objects::dict_of(reader)?;
        Ok((dict.len() == NAMES.len()).then_some(Self::Dict(dict)))
    }

    /// # Errors
    /// `AttributeError`, which is seen by nobody: whoever gets it takes the long way.
    #[inline]
    pub fn get(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Dict(dict) => match dict.get_item(name)? {
                Some(value) => Ok(value),
                None => Err(PyAttributeError::new_err(name.clone().unbind())),
            },
            Self::Object(reader) => reader.getattr(name),
        }
    }

    #[inline]
    pub fn is_set(&self, name: &Bound<'py, PyString>) -> PyResult<bool> {
        self.get(name)?.is_truthy()
    }

    #[inline]
    pub fn set(&self, name: &Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        match self {
            Self::Dict(dict) => dict.set_item(name, value),
            Self::Object(reader) => reader.setattr(name, value),
        }
    }

    /// # Errors
    /// `TypeError` if it is no `bytearray`.
    #[inline]
    pub fn buffer(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        Ok(self.get(name!(py, "_buffer"))?.cast_into_exact()?)
    }
}
