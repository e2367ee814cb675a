//! Whether `StreamWriter.drain()` has nothing to wait for.
//!
//! That is so nearly always. When it has, or when there is an error to be raised, asyncio's own coroutine does it; nothing is
//! changed here.

use pyo3::prelude::*;

use super::attributes::Attributes;
use super::known::classes;
use crate::asyncio::transport::stream::StreamTransport;
use crate::py::call;
use crate::py::names::name;
use crate::py::objects;

/// What `StreamWriter.__init__` sets.
const WRITER_ATTRIBUTES: usize = 5;

/// Whether asyncio's `drain` would do nothing. Changes nothing.
///
/// # Errors
/// Whatever means that asyncio's is to be asked.
#[inline]
pub fn is_drained(writer: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = writer.py();
    let Some(classes) = classes(py) else { return Ok(false) };
    let own = objects::dict_of(writer)?;
    if own.len() != WRITER_ATTRIBUTES || !classes.are_unchanged(py)? {
        return Ok(false);
    }
    let Some(reader) = own.get_item(name!(py, "_reader"))? else { return Ok(false) };
    if !reader.get_type().is(&classes.reader) {
        return Ok(false);
    }
    match Attributes::of_ours(&reader)? {
        Some(attributes) if attributes.get(name!(py, "_exception"))?.is_none() => {}
        _ => return Ok(false),
    }
    let Some(transport) = own.get_item(name!(py, "_transport"))? else { return Ok(false) };
    if is_closing(&transport)? {
        return Ok(false);
    }
    let Some(protocol) = own.get_item(name!(py, "_protocol"))? else { return Ok(false) };
    if !protocol.get_type().is(&classes.protocol) {
        return Ok(false);
    }
    let protocol = objects::dict_of(&protocol)?;
    let is_false = |name| Ok::<_, PyErr>(matches!(protocol.get_item(name)?, Some(value) if !value.is_truthy()?));
    Ok(is_false(name!(py, "_paused"))?
        && is_false(name!(py, "_connection_lost"))?
        && !protocol.contains(name!(py, "_drain_helper"))?)
}

#[inline]
fn is_closing(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    match transport.cast_exact::<StreamTransport>() {
        Ok(transport) => Ok(StreamTransport::closing(transport)),
        Err(_) => {
            let name = name!(transport.py(), "is_closing").as_unbound();
            call::call_method0(transport.py(), transport.as_unbound(), name)?.is_truthy()
        }
    }
}
