//! Which interpreter of the process this is.
//!
//! PyO3 keeps one type object of each class, and one of each cached import, per process. In a sub-interpreter
//! (PEP 554, PEP 734, mod_wsgi) they would be those of another interpreter, whose objects must not be used
//! there. So only the main interpreter may have the module.

#![expect(unsafe_code, reason = "CPython's C API")]

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// `ImportError` in a sub-interpreter.
pub fn require_main(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached, as `_py` shows, so there is a current interpreter; the main one always exists.
    let is_main = unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() };
    if is_main {
        Ok(())
    } else {
        Err(PyImportError::new_err("ironloop cannot be used in a subinterpreter, only in the main interpreter"))
    }
}
