//! Readers and writers of the loop's connections get native methods.
//!
//! asyncio makes both. The loop meets the reader when the connection starts, and changes its class before the program has seen it; the
//! writer of a server's connection is made when the program is told of it, so the loop stands between the two. Those of clients are made
//! where the loop does not see it. The readers of a child process are met when it has been started.
//!
//! Not in debug mode, where coroutines know who made them; nor before Python 3.11, which cannot say cheaply whether a class
//! has changed; nor on free-threaded builds, which would stop all threads for it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::attributes::Attributes;
use super::coroutine::StreamCoroutine;
use super::known::{classes, is_reader_protocol};
use crate::py::call;
use crate::py::names::name;
use crate::py::recycled;

/// Gives the protocol's reader the native methods, and the writer that will be made, if all three are asyncio's own. `debug`: of the loop.
///
/// # Errors
/// `MemoryError`.
pub fn adopt(protocol: &Bound<'_, PyAny>, debug: bool) -> PyResult<()> {
    let py = protocol.py();
    if !is_reader_protocol(protocol) {
        return Ok(());
    }
    let Some(reference) = protocol.getattr_opt(name!(py, "_stream_reader_wr"))? else { return Ok(()) };
    let Ok(reference) = reference.cast_exact::<PyWeakrefReference>() else { return Ok(()) };
    let Some(reader) = reference.upgrade() else { return Ok(()) };
    if !adopt_reader(&reader, debug)? {
        return Ok(());
    }
    let name = name!(py, "_client_connected_cb");
    match protocol.getattr_opt(name)? {
        Some(callback) if !callback.is_none() => {
            protocol.setattr(name, Bound::new(py, Introduction { callback: callback.unbind() })?)
        }
        _ => Ok(()),
    }
}

/// Gives a reader the native methods, if it is as asyncio has made it.
///
/// # Errors
/// `MemoryError`.
pub fn adopt_reader(reader: &Bound<'_, PyAny>, debug: bool) -> PyResult<bool> {
    let py = reader.py();
    if cfg!(not(Py_3_11)) || debug || !recycled::is_active::<StreamCoroutine>() {
        return Ok(false);
    }
    let Some(classes) = classes(py) else { return Ok(false) };
    let as_made = reader.get_type().is(&classes.reader_base)
        && classes.are_unchanged(py)?
        && Attributes::of_ours(reader)?.is_some();
    if as_made {
        reader.setattr(name!(py, "__class__"), &classes.reader)?;
    }
    Ok(as_made)
}

/// What asyncio calls with reader and writer in the place of the program's `client_connected_cb`.
#[pyclass(frozen, module = "ironloop._native")]
pub struct Introduction {
    callback: Py<PyAny>,
}

#[pymethods]
impl Introduction {
    fn __call__<'py>(&self, reader: &Bound<'py, PyAny>, writer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = writer.py();
        if let Some(classes) = classes(py).filter(|classes| writer.get_type().is(&classes.writer_base)) {
            // It is called once.
            let protocol = writer.getattr(name!(py, "_protocol"))?;
            protocol.setattr(name!(py, "_client_connected_cb"), &self.callback)?;
            writer.setattr(name!(py, "__class__"), &classes.writer)?;
        }
        call::vectorcall(py, self.callback.bind(py), &[reader.as_ptr(), writer.as_ptr()], 2, None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)
    }
}
