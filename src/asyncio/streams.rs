//! The short way into asyncio's `StreamReader`: what its protocol's `data_received` does, without calling it.
//!
//! Taken only if the protocol is a `StreamReaderProtocol` and its reader a `StreamReader`, not of subclasses, and nothing of
//! what would be called is replaced, in the classes or on the two objects; that is asked for every read. Anything
//! unusual (a reader that is gone, one that was told of the end) goes the long way, through the methods, with its errors.
//!
//! The reader stays as its own coroutines expect it: bytes in `_buffer`, `_waiter` woken and forgotten, reading paused
//! above twice the limit. This is what `StreamReader.feed_data` does in CPython 3.10 to 3.15.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyModule, PyString, PyType, PyWeakrefMethods, PyWeakrefReference};

use crate::py::call;
use crate::py::names::name;
use crate::py::objects;
use crate::py::originals::{is_method_of, state_of};

/// Minor versions of Python whose asyncio/streams.py was looked at.
const KNOWN_VERSIONS: std::ops::RangeInclusive<u8> = 10..=15;

/// asyncio's classes, and the methods that are not called.
struct Classes {
    protocol: Py<PyType>,
    reader: Py<PyType>,
    data_received: Py<PyAny>,
    stream_reader: Py<PyAny>,
    feed_data: Py<PyAny>,
    wakeup_waiter: Py<PyAny>,
    /// How an object reads and writes its attributes, unless a class says otherwise.
    getattribute: Py<PyAny>,
    setattr: Py<PyAny>,
    /// The states (`originals`) in which both classes were last found to be unchanged; 0: never.
    verified: AtomicU64,
}

/// The classes; `None` if they were not asyncio's own when they were first asked for.
fn classes(py: Python<'_>) -> Option<&'static Classes> {
    static CLASSES: PyOnceLock<Option<Classes>> = PyOnceLock::new();
    CLASSES.get_or_init(py, || load(py).unwrap_or(None)).as_ref()
}

fn load(py: Python<'_>) -> PyResult<Option<Classes>> {
    let streams = py.import(name!(py, "asyncio.streams"))?;
    let class = |name| streams.getattr(name)?.cast_into::<PyType>().map_err(PyErr::from);
    let (protocol, reader) = (class("StreamReaderProtocol")?, class("StreamReader")?);
    let property = protocol.getattr("_stream_reader")?;
    let own = KNOWN_VERSIONS.contains(&py.version_info().minor)
        && is_defined_in(&streams, &protocol.getattr("data_received")?)?
        && is_defined_in(&streams, &property.getattr("fget")?)?
        && is_defined_in(&streams, &reader.getattr("feed_data")?)?
        && is_defined_in(&streams, &reader.getattr("_wakeup_waiter")?)?;
    let object = py.get_type::<PyAny>();
    let classes = Classes {
        data_received: protocol.getattr("data_received")?.unbind(),
        stream_reader: property.unbind(),
        feed_data: reader.getattr("feed_data")?.unbind(),
        wakeup_waiter: reader.getattr("_wakeup_waiter")?.unbind(),
        getattribute: object.getattr("__getattribute__")?.unbind(),
        setattr: object.getattr("__setattr__")?.unbind(),
        verified: AtomicU64::new(0),
        protocol: protocol.unbind(),
        reader: reader.unbind(),
    };
    Ok((own && classes.look(py)?).then_some(classes))
}

/// Whether a function is the module's own: one that somebody has put in its place has other globals.
fn is_defined_in(module: &Bound<'_, PyModule>, function: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(function.getattr(name!(module.py(), "__globals__"))?.is(module.dict()))
}

impl Classes {
    /// Whether both classes are as they were. Cheap as long as nobody changes them.
    #[inline]
    fn are_unchanged(&self, py: Python<'_>) -> PyResult<bool> {
        let states = self.states(py);
        if states != 0 && states == self.verified.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let unchanged = self.look(py)?;
        // The look-ups have given the classes numbers, where they had lost them.
        self.verified.store(if unchanged { self.states(py) } else { 0 }, Ordering::Relaxed);
        Ok(unchanged)
    }

    /// Both states in one number; 0 if one of them is not known.
    #[inline]
    fn states(&self, py: Python<'_>) -> u64 {
        match (state_of(self.protocol.bind(py)), state_of(self.reader.bind(py))) {
            (Some(protocol), Some(reader)) => (u64::from(protocol.get()) << 32) | u64::from(reader.get()),
            _ => 0,
        }
    }

    fn look(&self, py: Python<'_>) -> PyResult<bool> {
        let (protocol, reader) = (self.protocol.bind(py), self.reader.bind(py));
        let same = |class: &Bound<'_, PyType>, name: &str, value: &Py<PyAny>| -> PyResult<bool> {
            Ok(class.getattr_opt(objects::interned(py, name)?)?.is_some_and(|found| found.is(value)))
        };
        Ok(same(protocol, "data_received", &self.data_received)?
            && same(protocol, "_stream_reader", &self.stream_reader)?
            && same(protocol, "__getattribute__", &self.getattribute)?
            && same(reader, "feed_data", &self.feed_data)?
            && same(reader, "_wakeup_waiter", &self.wakeup_waiter)?
            && same(reader, "__getattribute__", &self.getattribute)?
            && same(reader, "__setattr__", &self.setattr)?)
    }
}

/// Whether a protocol is one that `Feed` may know.
pub fn is_reader_protocol(protocol: &Bound<'_, PyAny>) -> bool {
    classes(protocol.py()).is_some_and(|classes| protocol.get_type().is(&classes.protocol))
}

/// A reader that can be fed without its methods.
pub struct Feed<'py> {
    reader: Bound<'py, PyAny>,
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
        if !protocol.get_type().is(&classes.protocol)
            || !classes.are_unchanged(py)?
            || !has_method(protocol, name!(py, "data_received"), &classes.data_received)?
        {
            return Ok(None);
        }
        let reference = protocol.getattr(name!(py, "_stream_reader_wr"))?;
        let Ok(reference) = reference.cast_exact::<PyWeakrefReference>() else { return Ok(None) };
        let Some(reader) = reference.upgrade() else { return Ok(None) };
        if !reader.get_type().is(&classes.reader)
            || !has_method(&reader, name!(py, "feed_data"), &classes.feed_data)?
            || !has_method(&reader, name!(py, "_wakeup_waiter"), &classes.wakeup_waiter)?
        {
            return Ok(None);
        }
        let waiter = reader.getattr(name!(py, "_waiter"))?;
        // Nobody waits for more than the end.
        if waiter.is_none() && reader.getattr(name!(py, "_eof"))?.is_truthy()? {
            return Ok(None);
        }
        let buffer = reader.getattr(name!(py, "_buffer"))?;
        let Ok(buffer) = buffer.cast_into_exact::<PyByteArray>() else { return Ok(None) };
        Ok(Some(Self { reader, buffer, waiter }))
    }

    /// Bytes were appended to the buffer: wakes who waits for them, and pauses reading if there are too many.
    pub fn fed(&self) -> PyResult<()> {
        let py = self.reader.py();
        if !self.waiter.is_none() {
            self.reader.setattr(name!(py, "_waiter"), py.None())?;
            let waiter = self.waiter.as_unbound();
            if !call::call_method0(py, waiter, name!(py, "cancelled").as_unbound())?.is_truthy()? {
                let none = py.None().into_bound(py);
                call::call_method1(py, waiter, name!(py, "set_result").as_unbound(), &none)?;
            }
        }
        let limit = self.reader.getattr(name!(py, "_limit"))?;
        let held = self.buffer.len();
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
        let py = self.reader.py();
        let transport = self.reader.getattr(name!(py, "_transport"))?;
        if transport.is_none() || self.reader.getattr(name!(py, "_paused"))?.is_truthy()? {
            return Ok(());
        }
        match transport.call_method0(name!(py, "pause_reading")) {
            Ok(_) => self.reader.setattr(name!(py, "_paused"), true),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyNotImplementedError>(py) => {
                self.reader.setattr(name!(py, "_transport"), py.None())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether `object.name` is the method of its class that it was, and not an attribute of the object's own.
fn has_method(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, function: &Py<PyAny>) -> PyResult<bool> {
    let method = object.getattr(name)?;
    Ok(is_method_of(&method, function))
}
