//! The short way into asyncio's `StreamReader`: what its protocol's `data_received` does, without calling it.
//!
//! Taken only if the protocol is a `StreamReaderProtocol` and its reader a `StreamReader`, not of a program's subclasses, and
//! nothing of what would be called is replaced. Anything unusual (a reader that is gone, one that was told of the end) goes
//! the long way, through the methods, with its errors.
//!
//! The reader stays as its own coroutines expect it: bytes in `_buffer`, `_waiter` woken and forgotten, reading paused
//! above twice the limit. This is what `StreamReader.feed_data` does in CPython 3.10 to 3.15.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyByteArrayMethods, PyWeakrefMethods, PyWeakrefReference};

use super::attributes::Attributes;
use super::known::classes;
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

/// A reader that can be fed without its methods.
pub struct Feed<'py> {
    reader: Attributes<'py>,
    /// Its buffer: what is received is to be appended, and then told by `fed`.
    pub buffer: Bound<'py, PyByteArray>,
    waiter: Bound<'py, PyAny>,
}

impl<'py> Feed<'py> {
    /// `None`: the long way. Nothing is changed, and no Python code runs.
    pub fn of(protocol: &Bound<'py, PyAny>) -> Option<Self> {
        Self::look(protocol).unwrap_or(None)
    }

    fn look(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = protocol.py();
        let Some(classes) = classes(py) else { return Ok(None) };
        if !protocol.get_type().is(&classes.protocol) || !classes.are_unchanged(py)? {
            return Ok(None);
        }
        let own = objects::dict_of(protocol)?;
        if own.contains(name!(py, "data_received"))? {
            return Ok(None);
        }
        let Some(reference) = own.get_item(name!(py, "_stream_reader_wr"))? else { return Ok(None) };
        let Ok(reference) = reference.cast_exact::<PyWeakrefReference>() else { return Ok(None) };
        let Some(reader) = reference.upgrade() else { return Ok(None) };
        let Some(reader) = Attributes::of(&reader, classes)? else { return Ok(None) };
        let waiter = reader.get(name!(py, "_waiter"))?;
        // Nobody waits for more than the end.
        if waiter.is_none() && reader.is_set(name!(py, "_eof"))? {
            return Ok(None);
        }
        Ok(Some(Self { buffer: reader.buffer(py)?, waiter, reader }))
    }

    /// Bytes were appended to the buffer: wakes who waits for them, and pauses reading if there are too many.
    pub fn fed(&self) -> PyResult<()> {
        let Self { reader, buffer, waiter } = self;
        let py = buffer.py();
        if !waiter.is_none() {
            reader.set(name!(py, "_waiter"), py.None().bind(py))?;
            wake(waiter)?;
        }
        let limit = reader.get(name!(py, "_limit"))?;
        let held = buffer.len();
        let too_much = match limit.extract::<usize>() {
            Ok(limit) => held / 2 >= limit && held > limit.saturating_mul(2),
            Err(_) => limit.mul(2)?.lt(held)?,
        };
        if too_much {
            self.pause()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn pause(&self) -> PyResult<()> {
        let Self { reader, buffer, .. } = self;
        let py = buffer.py();
        let transport = reader.get(name!(py, "_transport"))?;
        if transport.is_none() || reader.is_set(name!(py, "_paused"))? {
            return Ok(());
        }
        match call::call_method0(py, transport.as_unbound(), name!(py, "pause_reading").as_unbound()) {
            Ok(_) => reader.set(name!(py, "_paused"), PyBool::new(py, true).as_any()),
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                reader.set(name!(py, "_transport"), py.None().bind(py))
            }
            Err(error) => Err(error),
        }
    }
}

/// `waiter.set_result(None)`, unless it was cancelled.
#[inline]
fn wake(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    let none = py.None().into_bound(py);
    if let Some(accelerated) = imports(py)?.accelerated.as_ref().filter(|it| waiter.get_type().is(&it.future)) {
        if !call::call1(py, &accelerated.future_cancelled, waiter.as_unbound())?.is_truthy()? {
            let set_result = accelerated.future_set_result.bind(py);
            call::vectorcall(py, set_result, &[waiter.as_ptr(), none.as_ptr()], 2, None)?;
        }
        return Ok(());
    }
    if !call::call_method0(py, waiter.as_unbound(), name!(py, "cancelled").as_unbound())?.is_truthy()? {
        call::call_method1(py, waiter.as_unbound(), name!(py, "set_result").as_unbound(), &none)?;
    }
    Ok(())
}
