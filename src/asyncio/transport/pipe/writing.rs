//! `WritePipeTransport`: the writing end of a pipe and its protocol.
//!
//! Owned by the loop's thread; the protocol is called while nothing is lent.
//!
//! ```text
//!   made --connection_made--> open
//!     close, write_eof: closing, what is queued is still written --> lost (connection_lost(None))
//!     the reader goes away:                        --> lost (BrokenPipeError if something was queued)
//!     abort, error:                                --> lost (connection_lost(exception))
//! ```
//!
//! The writing end of a pipe never becomes readable, but its registration for reading reports when the last reader has
//! gone, also while nobody writes. A socket that becomes readable counts as closed by its peer, as in asyncio.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{ffi, Borrowed};

use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::transport::description::{polling, Description};
use crate::asyncio::transport::endpoint::{self, Endpoint, Registration};
use crate::asyncio::transport::info::{self, Descriptor};
use crate::engine::stream::flow::FlowControl;
use crate::engine::stream::write_queue::WriteQueue;
use crate::engine::stream::{CloseAction, StreamCore};
use crate::engine::sys::file::{self, FileKind};
use crate::py::buffer::SendChunk;
use crate::py::call;
use crate::py::class::{new_with_dict, Finalize};
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::method::{add_fast_method, Arguments, FastMethod};

/// The state of a transport.
pub struct Inner {
    pub life: StreamCore,
    pub queue: WriteQueue<SendChunk>,
    pub flow: FlowControl,
    pub registration: Registration,
    pub descriptor: Descriptor,
    pub protocol: Option<Py<PyAny>>,
    /// The context of the creator: that the reader has gone is noticed in it.
    pub watch_context: Option<Py<PyAny>>,
    /// The context of the write that found the pipe full.
    pub write_context: Option<Py<PyAny>>,
    pub started: bool,
    /// The pipe is full: what is queued waits for the kernel.
    pub blocked: bool,
    /// A pipe that has not been made larger yet.
    pub growable: bool,
    /// Writes that were dropped, the one that failed among them.
    pub dropped_writes: u32,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, dict, module = "ironloop._native")]
pub struct WritePipeTransport {
    pub event_loop: Py<LoopCore>,
    pub extra: Py<PyDict>,
    /// A registration for reading tells that the reader has gone; character devices have no such thing.
    pub watches_reader: bool,
    pub inner: LoopOwned<Inner>,
}

impl Endpoint for WritePipeTransport {
    fn event_loop(&self) -> &Py<LoopCore> {
        &self.event_loop
    }

    fn protocol_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    fn registration<R>(&self, py: Python<'_>, body: impl FnOnce(&mut Registration) -> R) -> R {
        self.inner.with(py, |inner| body(&mut inner.registration))
    }

    fn source(slf: &Bound<'_, Self>) -> Source {
        Source::WritePipe(slf.clone().unbind())
    }

    fn take_descriptor(&self, py: Python<'_>) -> Descriptor {
        self.inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, Descriptor::Closed))
    }

    fn abandon(&self, py: Python<'_>) -> bool {
        let (schedule, _dropped) = self.inner.with(py, |inner| {
            inner.blocked = false;
            (inner.life.abort(), std::mem::take(&mut inner.queue))
        });
        schedule
    }
}

#[pymethods]
impl WritePipeTransport {
    /// `loop._make_write_pipe_transport`: takes over a file object, whose `close()` it calls in the end.
    ///
    /// Raises ValueError for a regular file.
    #[new]
    #[pyo3(signature = (event_loop, pipe, protocol, waiter=None, extra=None))]
    fn new<'py>(
        event_loop: &Bound<'py, LoopCore>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let fd = info::fileno(pipe)?;
        let kind = file::kind(fd).map_err(|error| os_error(py, &error))?;
        if kind == FileKind::Other {
            let message = "Pipe transport is only for pipes, sockets and character devices";
            return Err(PyValueError::new_err(message));
        }
        file::set_nonblocking(fd).map_err(|error| os_error(py, &error))?;
        let inner = Inner {
            life: StreamCore::new(),
            queue: WriteQueue::new(),
            flow: FlowControl::new(),
            registration: Registration::new(fd),
            descriptor: Descriptor::Object(pipe.clone().unbind()),
            protocol: Some(protocol.clone().unbind()),
            watch_context: None,
            write_context: None,
            started: false,
            blocked: false,
            growable: kind == FileKind::Pipe,
            dropped_writes: 0,
        };
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            extra: info::with_pipe(extra, pipe)?,
            watches_reader: kind != FileKind::Character,
            inner: LoopOwned::new(inner),
        };
        let transport = new_with_dict(py, this)?;
        endpoint::schedule_start(&transport, protocol, waiter.filter(|waiter| !waiter.is_none()))?;
        Ok(transport)
    }

    /// `asyncio.Transport`: asyncio's own pipe transport is an instance of it, too.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.write_pipe_transport.clone_ref(py))
    }

    /// Writes the buffers of an iterable, in order, as `write` of all of them together would.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_lines(slf, list_of_data)
    }

    /// Closes after everything that was written has left; `connection_lost(None)` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let action = slf.get().inner.with(slf.py(), |inner| {
            let empty = inner.queue.is_empty();
            inner.life.close(empty)
        });
        match action {
            CloseAction::LoseNow => endpoint::lose_soon(slf, None),
            CloseAction::Nothing | CloseAction::DrainThenLose => Ok(()),
        }
    }

    /// As `close()`: a pipe has but one end here.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf)
    }

    /// True.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes at once; what was not written is lost. `connection_lost(None)` follows.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::force_close(slf, None)
    }

    /// Whether it is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_closing())
    }

    /// Bytes that were written and not yet taken by the kernel.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.inner.with(py, |inner| inner.queue.len_bytes())
    }

    /// (low, high) water marks, in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.inner.with(py, |inner| inner.flow.limits())
    }

    /// Sets the water marks, in bytes: above `high` the protocol's `pause_writing` is called, at `low` or
    /// below its `resume_writing`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(slf: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let pause = slf
            .get()
            .inner
            .with(slf.py(), |inner| endpoint::set_water_marks(&mut inner.flow, inner.queue.len_bytes(), high, low))?;
        if pause {
            endpoint::call_flow(slf, true)
        } else {
            Ok(())
        }
    }

    /// From now on `protocol` gets the events.
    fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) {
        let _previous = self.inner.with(py, |inner| inner.protocol.replace(protocol.clone().unbind()));
    }

    /// The protocol; None once the pipe is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol_object(py)
    }

    /// 'pipe', the file object, or what the creator of the transport added; else `default`.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.extra.bind(py).get_item(name)?.map(Bound::unbind).or(default))
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let description = self.inner.with(py, |inner| {
            let work = format!("{} bufsize={}", polling(inner.blocked), inner.queue.len_bytes());
            let closing = inner.life.is_closing();
            Description::new("WritePipeTransport", inner.registration.fd, &inner.descriptor, closing, work)
        });
        description.text(py, self.event_loop.get(), "open")
    }

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let context = call::copy_context(py)?;
        let _previous = slf.get().inner.with(py, |inner| {
            inner.started = true;
            inner.watch_context.replace(context)
        });
        Self::update_interest(slf)
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::lose(slf, exception)
    }

    #[getter]
    fn _pipe(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.descriptor.object(py))
    }

    /// None: the file object is let go of, and stays open. Anything else is not for others to set.
    #[setter(_pipe)]
    fn release_pipe(&self, py: Python<'_>, pipe: Option<Py<PyAny>>) -> PyResult<()> {
        endpoint::release_descriptor(self, py, pipe)
    }

    #[getter]
    fn _fileno(&self, py: Python<'_>) -> RawFd {
        self.inner.with(py, |inner| inner.registration.fd)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.flow.is_paused())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        self.inner
            .visit(|inner| {
                visit.call(&inner.protocol)?;
                visit.call(&inner.watch_context)?;
                visit.call(&inner.write_context)?;
                inner.descriptor.visit(&visit)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _dropped =
            self.inner.visit(|inner| (inner.protocol.take(), inner.watch_context.take(), inner.write_context.take()));
    }
}

/// `transport.write(data)`.
struct Write;

impl FastMethod<WritePipeTransport> for Write {
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write($self, /, data)\n--\n\n\
        Write data (bytes, bytearray or memoryview), or queue what the pipe does not take now. Never blocks.";

    fn call<'py>(slf: Borrowed<'_, 'py, WritePipeTransport>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let data = arguments.single("write", "data")?;
        WritePipeTransport::write_data(&slf, data)?;
        Ok(slf.py().None())
    }
}

/// Adds the fast methods to the class.
pub fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<WritePipeTransport, Write>(class)
}

impl Finalize for WritePipeTransport {
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::warn_unclosed(slf, slf.get().is_open(slf.py()))
    }

    fn original_dealloc() -> &'static OnceLock<ffi::destructor> {
        static ORIGINAL: OnceLock<ffi::destructor> = OnceLock::new();
        &ORIGINAL
    }
}
