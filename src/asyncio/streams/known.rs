//! asyncio's classes for streams, and whether they are as they were when their code was looked at.
//!
//! What is not called any more because native code does it may have been replaced, in the classes or on an object: that is
//! asked for every read, and costs little as long as nobody changes the classes.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyString, PySuper, PyType};

use super::{attributes, native};
use crate::py::names::name;
use crate::py::objects;
use crate::py::originals::{is_method_of, state_of};

/// Minor versions of Python whose asyncio/streams.py was looked at.
const KNOWN_VERSIONS: std::ops::RangeInclusive<u8> = 10..=15;

/// What of the protocol is not called, or not as asyncio's own code would.
const OF_THE_PROTOCOL: [&str; 4] = ["data_received", "_stream_reader", "_drain_helper", "__getattribute__"];

/// The same of the reader, where the class of ours inherits it.
const OF_THE_READER: [&str; 7] = [
    "feed_data",
    "_wakeup_waiter",
    "_wait_for_data",
    "_maybe_resume_transport",
    "exception",
    "__getattribute__",
    "__setattr__",
];

/// And of the writer.
const OF_THE_WRITER: [&str; 2] = ["__getattribute__", "__setattr__"];

/// See the module's documentation.
pub struct Classes {
    pub protocol: Py<PyType>,
    /// `asyncio.StreamReader` and `asyncio.StreamWriter`.
    pub reader_base: Py<PyType>,
    pub writer_base: Py<PyType>,
    /// What those of the loop's connections become: subclasses, see `native`.
    pub reader: Py<PyType>,
    pub writer: Py<PyType>,
    pub feed_data: Py<PyAny>,
    pub wakeup_waiter: Py<PyAny>,
    /// Each class with what it had by each name.
    originals: Vec<(Py<PyType>, Py<PyString>, Py<PyAny>)>,
    /// The states (`py::originals`) in which protocol, reader and writer were last found to be unchanged; 0: never.
    verified: [AtomicU32; 3],
}

/// The classes; `None` if they were not asyncio's own when they were first asked for.
#[inline]
pub fn classes(py: Python<'_>) -> Option<&'static Classes> {
    static CLASSES: PyOnceLock<Option<Classes>> = PyOnceLock::new();
    CLASSES.get_or_init(py, || load(py).unwrap_or(None)).as_ref()
}

/// Whether a protocol is one that `Feed` may know.
pub fn is_reader_protocol(protocol: &Bound<'_, PyAny>) -> bool {
    classes(protocol.py()).is_some_and(|classes| protocol.get_type().is(&classes.protocol))
}

fn load(py: Python<'_>) -> PyResult<Option<Classes>> {
    let streams = py.import(name!(py, "asyncio.streams"))?;
    let class = |name| streams.getattr(name)?.cast_into::<PyType>().map_err(PyErr::from);
    let (protocol, reader_base) = (class("StreamReaderProtocol")?, class("StreamReader")?);
    let writer_base = class("StreamWriter")?;
    if !KNOWN_VERSIONS.contains(&py.version_info().minor) {
        return Ok(None);
    }
    let (reader, writer) = (native::reader_from(&reader_base)?, native::writer_from(&writer_base)?);
    let learned: [(_, _, &[&str]); 5] = [
        (&protocol, &protocol, &OF_THE_PROTOCOL),
        (&reader_base, &reader, &OF_THE_READER),
        (&reader_base, &reader_base, &native::READER_METHODS),
        (&writer_base, &writer, &OF_THE_WRITER),
        (&writer_base, &writer_base, &native::WRITER_METHODS),
    ];
    let mut originals = Vec::new();
    // Before Python 3.11 there are no native methods, and all of it is looked up for each read.
    for (base, class, names) in &learned[..if cfg!(Py_3_11) { 5 } else { 2 }] {
        for name in *names {
            let value = base.getattr(name)?;
            if !is_asyncios(&streams, name, &value)? {
                return Ok(None);
            }
            originals.push(((*class).clone().unbind(), objects::interned(py, name)?.unbind(), value.unbind()));
        }
    }
    // What somebody puts in the place of ours.
    for (class, names) in [(&reader, &native::READER_METHODS[..]), (&writer, &native::WRITER_METHODS[..])] {
        for name in names {
            let value = class.getattr(name)?;
            originals.push((class.clone().unbind(), objects::interned(py, name)?.unbind(), value.unbind()));
        }
    }
    let classes = Classes {
        feed_data: reader_base.getattr("feed_data")?.unbind(),
        wakeup_waiter: reader_base.getattr("_wakeup_waiter")?.unbind(),
        originals,
        verified: [const { AtomicU32::new(0) }; 3],
        protocol: protocol.unbind(),
        reader_base: reader_base.unbind(),
        writer_base: writer_base.unbind(),
        reader: reader.unbind(),
        writer: writer.unbind(),
    };
    Ok(classes.look(py)?.then_some(classes))
}

/// Whether a value is what every object has, or the module's own: a function that somebody has put in its place has other globals.
fn is_asyncios(module: &Bound<'_, PyModule>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Some(general) = module.py().get_type::<PyAny>().getattr_opt(name)? {
        return Ok(value.is(&general));
    }
    let function = value.getattr_opt("fget")?.unwrap_or_else(|| value.clone());
    Ok(function.getattr(name!(module.py(), "__globals__"))?.is(module.dict()))
}

impl Classes {
    /// The method that asyncio's class has by this name now, or what is in its place, bound to a reader or writer.
    ///
    /// # Errors
    /// `AttributeError` if there is none.
    pub fn method_of_asyncio<'py>(
        &self,
        stream: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = stream.py();
        let class = stream.get_type();
        if class.is(&self.reader) || class.is(&self.writer) {
            return PySuper::new(&class, stream)?.getattr(name);
        }
        // Its class has changed meanwhile.
        let is_reader = stream.is_instance(self.reader_base.bind(py))?;
        let function = if is_reader { &self.reader_base } else { &self.writer_base }.bind(py).getattr(name)?;
        function.call_method1(name!(py, "__get__"), (stream, class))
    }

    /// Whether the classes are as they were. Cheap as long as nobody changes them.
    #[inline]
    pub fn are_unchanged(&self, py: Python<'_>) -> PyResult<bool> {
        let states = self.states(py);
        let same = |(state, verified): (&u32, &AtomicU32)| *state != 0 && *state == verified.load(Ordering::Relaxed);
        if states.iter().zip(&self.verified).all(same) {
            return Ok(true);
        }
        self.verify(py)
    }

    #[cold]
    fn verify(&self, py: Python<'_>) -> PyResult<bool> {
        let unchanged = self.look(py)?;
        // The look-ups have given the classes numbers, where they had lost them.
        for (state, verified) in self.states(py).iter().zip(&self.verified) {
            verified.store(if unchanged { *state } else { 0 }, Ordering::Relaxed);
        }
        Ok(unchanged)
    }

    /// The states; 0: not known. Those of our classes change with their bases'.
    #[inline]
    fn states(&self, py: Python<'_>) -> [u32; 3] {
        [&self.protocol, &self.reader, &self.writer].map(|class| state_of(class.bind(py)).map_or(0, NonZeroU32::get))
    }

    fn look(&self, py: Python<'_>) -> PyResult<bool> {
        for (class, name, value) in &self.originals {
            if !class.bind(py).getattr_opt(name)?.is_some_and(|found| found.is(value)) {
                return Ok(false);
            }
        }
        for name in attributes::NAMES {
            if self.reader.bind(py).getattr_opt(objects::interned(py, name)?)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether `object.name` is the method of its class that it was, and not an attribute of the object's own.
pub fn has_method(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, function: &Py<PyAny>) -> PyResult<bool> {
    let method = object.getattr(name)?;
    Ok(is_method_of(&method, function))
}
