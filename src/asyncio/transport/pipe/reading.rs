//! `ReadPipeTransport`: the reading end of a pipe and its protocol.
//!
//! Owned by the loop's thread; the protocol is called while nothing is lent. What the protocol raises is reported and
//! changes nothing, as in asyncio (a stream's connection would end).
//!
//! ```text
//!   made --connection_made--> reading <--pause/resume--> paused
//!     end of the pipe: eof_received, then --> lost (connection_lost(None))
//!     close:                              --> lost (connection_lost(None))
//!     error:                              --> lost (connection_lost(exception))
//! ```

use std::os::fd::RawFd;
use std::sync::OnceLock;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::GROWN_PIPE;
use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::streams;
use crate::asyncio::transport::description::{polling, Description};
use crate::asyncio::transport::endpoint::{self, Endpoint, Registration};
use crate::asyncio::transport::info::{self, Descriptor};
use crate::asyncio::transport::input::{self, Received};
use crate::engine::reactor::{Interest, Readiness};
use crate::engine::stream::read_size::{ReadPlan, ReadSize};
use crate::engine::stream::{CloseAction, StreamCore};
use crate::engine::sys::file::{self, FileKind};
use crate::engine::sys::socket::StreamSource;
use crate::py::call;
use crate::py::class::{new_with_dict, Finalize};
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::names::name;

/// Bytes per read, as much as a new pipe holds. Larger blocks at the top of glibc's heap are given back to the system
/// each time that they are freed.
const LARGEST_READ: usize = 64 * 1024;
/// Reads per turn; together as much as asyncio's one.
const READS_PER_TURN: usize = 4;

const READ_ERROR: &str = "Fatal read error on pipe transport";

/// The state of a transport.
struct Inner {
    life: StreamCore,
    registration: Registration,
    descriptor: Descriptor,
    protocol: Option<Py<PyAny>>,
    /// The context of whoever started or resumed reading.
    context: Option<Py<PyAny>>,
    read_size: ReadSize,
    /// `connection_made` is over.
    started: bool,
    /// A pipe that has not been made larger yet.
    growable: bool,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, dict, module = "ironloop._native")]
pub struct ReadPipeTransport {
    event_loop: Py<LoopCore>,
    /// What `get_extra_info` knows, the file object as 'pipe' among it.
    extra: Py<PyDict>,
    inner: LoopOwned<Inner>,
}

impl Inner {
    fn note_read(&mut self, count: usize) {
        self.read_size.record(count, LARGEST_READ);
        if count == LARGEST_READ && std::mem::replace(&mut self.growable, false) {
            // Refused by the kernel: it stays as it is.
            let _ = file::set_pipe_size(self.registration.fd, GROWN_PIPE);
        }
    }
}

impl Endpoint for ReadPipeTransport {
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
        Source::ReadPipe(slf.clone().unbind())
    }

    fn take_descriptor(&self, py: Python<'_>) -> Descriptor {
        self.inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, Descriptor::Closed))
    }

    fn abandon(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.abort())
    }
}

impl ReadPipeTransport {
    /// There is something to read, or the end.
    pub fn on_event(slf: &Bound<'_, Self>, _readiness: Readiness) -> PyResult<()> {
        let paused = slf.get().inner.with(slf.py(), |inner| inner.started && inner.life.is_paused());
        if paused {
            // Not before: most are resumed before there is an event, and are then still registered.
            return endpoint::watch(slf, Interest::NONE);
        }
        let mut left = 0;
        for _ in 0..READS_PER_TURN {
            match Self::read(slf, left)? {
                Some(more) => left = more,
                None => break,
            }
        }
        Ok(())
    }

    /// Reads once and tells the protocol. `left`, and what it returns: what the kernel said to be there; 0: not asked.
    /// None: there is no more.
    fn read(slf: &Bound<'_, Self>, left: usize) -> PyResult<Option<usize>> {
        let py = slf.py();
        let this = slf.get();
        let plan = this.inner.with(py, |inner| {
            if !inner.started || !inner.life.is_reading() {
                return None;
            }
            let context = inner.context.as_ref()?.clone_ref(py);
            let size = if left > 0 { ReadPlan::Known(left) } else { inner.read_size.plan() };
            Some((inner.registration.fd, size, context, inner.protocol.as_ref()?.clone_ref(py)))
        });
        let Some((fd, size, context, protocol)) = plan else { return Ok(None) };
        let (received, offer) =
            match input::receive(py, this.event_loop.get(), StreamSource::plain(fd), size, LARGEST_READ) {
                Ok(received) => received,
                Err(error) => return endpoint::fatal_error(slf, error, false, READ_ERROR).map(|()| None),
            };
        call::in_context(py, &context, || match received {
            Received::Nothing => Ok(None),
            Received::Data(data) => {
                let count = data.len().unwrap_or_default();
                this.inner.with(py, |inner| inner.note_read(count));
                let outcome = call::call_method1(py, &protocol, &imports(py)?.data_received, &data).map(drop);
                this.event_loop.get().kept_bytes.keep(data);
                endpoint::callback_outcome(slf, outcome, "data_received")?;
                Ok(offer.leaves_more(count).then(|| offer.known_left(count)))
            }
            Received::EndOfStream => Self::end_of_pipe(slf, protocol.bind(py)).map(|()| None),
            Received::Failed(error) => {
                // EIO: the other end of a terminal was closed.
                let everyday = error.errno == libc::EIO;
                let message = "Fatal read error on pipe transport";
                endpoint::fatal_error(slf, os_error(py, &error), everyday, message).map(|()| None)
            }
        })
    }

    fn end_of_pipe(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        endpoint::log_debug(slf, "info", "%r was closed by peer")?;
        if slf.get().inner.with(py, |inner| inner.life.close(true)) == CloseAction::LoseNow {
            endpoint::deregister(slf.get(), py);
            let eof_received = protocol.getattr(name!(py, "eof_received"))?;
            LoopCore::schedule(slf.get().event_loop.bind(py), eof_received, None, None)?;
            endpoint::lose_soon(slf, None)?;
        }
        Ok(())
    }

    /// Reads from now on, in the context of the caller, unless the transport is paused or closing.
    fn read_from_now_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let context = call::copy_context(py)?;
        let (reading, _previous) = slf
            .get()
            .inner
            .with(py, |inner| (inner.started && inner.life.is_reading(), inner.context.replace(context)));
        if reading {
            endpoint::watch(slf, Interest::READ)
        } else {
            Ok(())
        }
    }

    fn is_open(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| !matches!(inner.descriptor, Descriptor::Closed))
    }
}

#[pymethods]
impl ReadPipeTransport {
    /// `loop._make_read_pipe_transport`: takes over a file object, whose `close()` it calls in the end.
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
            return Err(PyValueError::new_err("Pipe transport is for pipes/sockets only."));
        }
        file::set_nonblocking(fd).map_err(|error| os_error(py, &error))?;
        let inner = Inner {
            life: StreamCore::new(),
            registration: Registration::new(fd),
            descriptor: Descriptor::Object(pipe.clone().unbind()),
            protocol: Some(protocol.clone().unbind()),
            context: None,
            read_size: ReadSize::new(),
            started: false,
            growable: kind == FileKind::Pipe,
        };
        streams::adopt(protocol, event_loop.get().is_debug())?;
        let extra = info::with_pipe(extra, pipe)?;
        let this = Self { event_loop: event_loop.clone().unbind(), extra, inner: LoopOwned::new(inner) };
        let transport = new_with_dict(py, this)?;
        endpoint::schedule_start(&transport, protocol, waiter.filter(|waiter| !waiter.is_none()))?;
        Ok(transport)
    }

    /// `asyncio.ReadTransport`: an instance of it, as far as `isinstance` can tell.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.read_pipe_transport.clone_ref(py))
    }

    /// Closes the pipe; `connection_lost(None)` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().inner.with(slf.py(), |inner| inner.life.close(true)) {
            CloseAction::LoseNow => endpoint::lose_soon(slf, None),
            CloseAction::Nothing | CloseAction::DrainThenLose => Ok(()),
        }
    }

    /// Whether it is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_closing())
    }

    /// Stops reading until `resume_reading()`. Does nothing if it is not reading.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().inner.with(slf.py(), |inner| inner.life.pause_reading()) {
            endpoint::log_debug(slf, "debug", "%r pauses reading")?;
        }
        Ok(())
    }

    /// Starts reading again. Does nothing unless it was paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().inner.with(slf.py(), |inner| inner.life.resume_reading()) {
            Self::read_from_now_on(slf)?;
            endpoint::log_debug(slf, "debug", "%r resumes reading")?;
        }
        Ok(())
    }

    /// Whether data is received: neither paused nor closing.
    fn is_reading(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_reading())
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
            let work = polling(inner.started && inner.life.is_reading()).to_owned();
            let closing = inner.life.is_closing();
            Description::new("ReadPipeTransport", inner.registration.fd, &inner.descriptor, closing, work)
        });
        description.text(py, self.event_loop.get(), "open")
    }

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().inner.with(slf.py(), |inner| inner.started = true);
        Self::read_from_now_on(slf)
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let outcome = endpoint::tell_lost(slf, exception);
        let this = slf.get();
        let (descriptor, _dropped) = this.inner.with(py, |inner| {
            let descriptor = std::mem::replace(&mut inner.descriptor, Descriptor::Closed);
            (descriptor, (inner.protocol.take(), inner.context.take()))
        });
        let closed = descriptor.close(py);
        LoopCore::descriptor_freed(this.event_loop.bind(py))?;
        outcome.and(closed)
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

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        self.inner
            .visit(|inner| {
                visit.call(&inner.protocol)?;
                visit.call(&inner.context)?;
                inner.descriptor.visit(&visit)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _dropped = self.inner.visit(|inner| (inner.protocol.take(), inner.context.take()));
    }
}

impl Finalize for ReadPipeTransport {
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::warn_unclosed(slf, slf.get().is_open(slf.py()))
    }

    fn original_dealloc() -> &'static OnceLock<ffi::destructor> {
        static ORIGINAL: OnceLock<ffi::destructor> = OnceLock::new();
        &ORIGINAL
    }
}
