//! The one place where an engine error becomes a Python exception.
//!
//! The class is the one that CPython's `OSError` chooses for the number, the text is strerror(3)'s, without the file
//! name or address that only the caller knows.

use pyo3::exceptions::PyOSError;
use pyo3::types::PyAnyMethods;
use pyo3::{PyErr, Python};

use super::objects;
use crate::engine;

/// `OSError` or the subclass that CPython chooses for the number (`ConnectionResetError`, ...).
pub fn os_error(py: Python<'_>, error: &engine::Error) -> PyErr {
    let message = std::io::Error::from_raw_os_error(error.errno).to_string();
    os_error_with(py, error.errno, message.split(" (os error").next().unwrap_or_default())
}

/// The same, with another text than the system's.
pub fn os_error_with(py: Python<'_>, errno: i32, text: &str) -> PyErr {
    // OSError's constructor picks the subclass, as long as it is called and not merely named.
    match objects::text(py, text).and_then(|text| py.get_type::<PyOSError>().call1((errno, text))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}
