//! `StreamTransport`: a connected TCP or Unix stream socket and its protocol.
//!
//! Owned by the loop's thread. `Inner` is lent to short closures; every call of the protocol happens
//! outside of them, so the protocol may do anything to the transport.
//!
//! ```text
//!   made --connection_made--> reading <--pause/resume--> paused
//!     close: closing, what is queued is still sent --> lost        (connection_lost(None))
//!     abort, error:                                --> lost        (connection_lost(exception))
//! ```
//! This file holds the class and the index of its methods.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{ffi, Borrowed};

use super::description::{both_ways, Description};
use super::endpoint::{self, Endpoint, Registration};
use super::info::{self, Descriptor, Info};
use super::start::{addresses, Parts};
use super::write::Gather;
use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::protocol::ProtocolKind;
use crate::engine;
use crate::engine::stream::flow::FlowControl;
use crate::engine::stream::read_size::ReadSize;
use crate::engine::stream::write_queue::WriteQueue;
use crate::engine::stream::StreamCore;
use crate::py::buffer::SendChunk;
use crate::py::class::Finalize;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::names::name;

/// The state of a transport.
pub struct Inner {
    pub life: StreamCore,
    pub queue: WriteQueue<SendChunk>,
    pub flow: FlowControl,
    pub read_size: ReadSize,
    pub gather: Gather,
    pub registration: Registration,
    pub descriptor: Descriptor,
    pub protocol: Option<Py<PyAny>>,
    pub kind: ProtocolKind,
    /// Since Python 3.15 a transport has a context, and everything that it calls on its own account runs there.
    pub own_context: Option<Py<PyAny>>,
    /// The own one, or else that of whoever started (or resumed) reading; data is received in it.
    pub read_context: Option<Py<PyAny>>,
    /// The own one, or else that of the write that found the socket full; writing is resumed in it.
    pub write_context: Option<Py<PyAny>>,
    /// `connection_made` is over: events may be acted upon.
    pub started: bool,
    /// The kernel said that there is something to read, and not yet that there is no more.
    pub readable: bool,
    /// The kernel announced the end of the stream (or an error): read until it shows.
    pub end_announced: bool,
    /// What a read met behind the data that it brought: how the next one ends.
    pub read_error: Option<engine::Error>,
    pub is_tcp: bool,
    /// What is left behind a read is told by the next poll (`watching`).
    pub by_level: bool,
    /// An event of its own is queued, to read or write on in the next turn; the kernel's add no turn of theirs.
    pub reads_on: bool,
    pub writes_on: bool,
    /// The socket is full: what is queued waits for the kernel.
    pub blocked: bool,
    /// What is queued waits for the end of the callback.
    pub held: bool,
    /// Somebody else polls the descriptor.
    pub lent: bool,
    pub server: Option<Py<PyAny>>,
    /// A future that `sendfile` waits for: the queue is empty.
    pub empty_waiter: Option<Py<PyAny>>,
    pub info: Info,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, dict, module = "ironloop._native")]
pub struct StreamTransport {
    pub event_loop: Py<LoopCore>,
    pub inner: LoopOwned<Inner>,
}

impl StreamTransport {
    /// What a read begins with: where the protocol and the context are, or null.
    pub fn needed_for_reading(&self) -> [*const ffi::PyObject; 2] {
        let needed = self.inner.visit(|inner| {
            [&inner.protocol, &inner.read_context]
                .map(|object| object.as_ref().map_or(std::ptr::null(), |object| object.as_ptr().cast_const()))
        });
        needed.unwrap_or([std::ptr::null(); 2])
    }

    /// What is written from now on is dropped.
    pub fn is_lost(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_lost())
    }

    pub fn closing(slf: &Bound<'_, Self>) -> bool {
        slf.get().inner.with(slf.py(), |inner| inner.life.is_closing())
    }
}

impl Endpoint for StreamTransport {
    fn event_loop(&self) -> &Py<LoopCore> {
        &self.event_loop
    }

    fn protocol_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    fn own_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.own_context.as_ref().map(|context| context.clone_ref(py)))
    }

    fn registration<R>(&self, py: Python<'_>, body: impl FnOnce(&mut Registration) -> R) -> R {
        self.inner.with(py, |inner| body(&mut inner.registration))
    }

    fn source(slf: &Bound<'_, Self>) -> Source {
        Source::Stream(slf.clone().unbind())
    }

    fn take_descriptor(&self, py: Python<'_>) -> Descriptor {
        self.inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, Descriptor::Closed))
    }

    fn abandon(&self, py: Python<'_>) -> bool {
        let (schedule, _dropped) = self.inner.with(py, |inner| {
            let schedule = inner.life.abort();
            inner.blocked = false;
            inner.held = false;
            (schedule, schedule.then(|| std::mem::take(&mut inner.queue)))
        });
        schedule
    }
}

#[pymethods]
impl StreamTransport {
    /// `loop._make_socket_transport`: takes over a connected, non-blocking `socket.socket`.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, waiter=None, *, extra=None, server=None, context=None))]
    fn new<'py>(
        event_loop: &Bound<'py, LoopCore>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
        server: Option<&Bound<'py, PyAny>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let fd = info::fileno(sock)?;
        if fd < 0 {
            return Err(PyValueError::new_err("the socket is closed"));
        }
        LoopCore::ensure_no_transport(event_loop, sock, fd)?;
        let (local, peer) = addresses(py, fd, sock)?;
        let extra = extra.map(|extra| extra.copy().map(Bound::unbind)).transpose()?;
        let parts = Parts {
            fd,
            descriptor: Descriptor::Object(sock.clone().unbind()),
            protocol: protocol.clone().unbind(),
            server: server.map(|server| server.clone().unbind()),
            info: Info { local, peer, extra, ..Info::default() },
            context,
        };
        Self::start(event_loop, parts, waiter.filter(|waiter| !waiter.is_none()))
    }

    /// asyncio's own transport: an instance of it, as far as `isinstance` can tell. The fallback of `sendfile` asks for its
    /// base class with flow control.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.stream_transport.clone_ref(py))
    }

    /// Closes after everything that was written is sent; `connection_lost(None)` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_transport(slf)
    }

    /// Closes at once; what was not sent is lost. `connection_lost(None)` follows.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf)?;
        endpoint::force_close(slf, None)
    }

    /// Whether it is closing or closed.
    fn is_closing(slf: &Bound<'_, Self>) -> bool {
        Self::closing(slf)
    }

    /// Sends the buffers of an iterable, in order, as `write` of all of them together would.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_lines(slf, list_of_data)
    }

    /// Closes the write side once everything is sent; the peer sees the end of the stream (half-close).
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::half_close(slf)
    }

    /// True: streams have two ends.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Bytes that were written and not yet taken by the kernel.
    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Self::flush(slf)?;
        Ok(slf.get().inner.with(slf.py(), |inner| inner.queue.len_bytes()))
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
        Self::set_water_marks(slf, high, low)
    }

    /// Stops reading until `resume_reading()`. Does nothing if it is not reading.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause(slf)
    }

    /// Starts reading again. Does nothing unless it was paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume(slf).map(|()| slf.get().insist_on_context(slf.py()))
    }

    /// Whether data is received: neither paused nor closing.
    fn is_reading(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_reading())
    }

    /// From now on `protocol` gets the events.
    fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind = ProtocolKind::of(protocol)?;
        let _previous = self.inner.with(py, |inner| {
            inner.kind = kind;
            inner.protocol.replace(protocol.clone().unbind())
        });
        Ok(())
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol_object(py)
    }

    /// 'socket', 'sockname', 'peername', or what the creator of the transport added; else `default`.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        if name.cast::<PyString>().is_ok_and(|name| name == "socket") {
            // Who asks for it may be about to send by himself.
            Self::flush(slf)?;
        }
        this.inner.with(py, |inner| inner.info.answers(py)).get(py, name, default, || this.make_transport_socket(py))
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let description = self.inner.with(py, |inner| {
            let reads = inner.started && inner.life.is_reading();
            let work = both_ways(reads, inner.blocked, inner.queue.len_bytes());
            let closing = inner.life.is_closing();
            Description::new("StreamTransport", inner.registration.fd, &inner.descriptor, closing, work)
                .at(py, &inner.info)
        });
        description.text(py, self.event_loop.get(), "")
    }

    /// Starts reading, unless the transport was paused or closed since it was made.
    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::begin_reading(slf).map(|()| slf.get().insist_on_context(slf.py()))
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::connection_lost(slf, exception)
    }

    fn _force_close(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        endpoint::force_close(slf, exception)
    }

    /// A future that is done when the write queue is empty; writing is forbidden until `_reset_empty_waiter()`.
    fn _make_empty_waiter(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::make_empty_waiter(slf)
    }

    fn _reset_empty_waiter(&self, py: Python<'_>) {
        let _waiter = self.inner.with(py, |inner| inner.empty_waiter.take());
    }

    /// Lets somebody else poll the descriptor (`sendfile`); reading is paused meanwhile.
    ///
    /// Returns a future in place of the empty waiter: it fails when the connection is lost.
    fn _lend_descriptor(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        endpoint::deregister(self, py);
        let lost = self.event_loop.bind(py).call_method0(name!(py, "create_future"))?.unbind();
        let kept = lost.clone_ref(py);
        let _done = self.inner.with(py, |inner| {
            inner.lent = true;
            inner.empty_waiter.replace(kept)
        });
        Ok(lost)
    }

    /// The end of `_lend_descriptor()`.
    fn _take_descriptor_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().inner.with(slf.py(), |inner| inner.lent = false);
        if Self::closing(slf) {
            Ok(())
        } else {
            Self::ensure_registered(slf)
        }
    }

    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.sendfile_mode.clone_ref(py))
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_paused())
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.flow.is_paused())
    }

    #[getter]
    fn _sock(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.python_socket(py)
    }

    #[getter]
    fn _sock_fd(&self, py: Python<'_>) -> RawFd {
        self.inner.with(py, |inner| inner.registration.fd)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.event_loop.clone_ref(py)
    }

    /// None once the connection is lost, which is what others ask it for; a method before.
    #[getter]
    fn _read_ready_cb<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let lost = slf.get().inner.with(slf.py(), |inner| matches!(inner.descriptor, Descriptor::Closed));
        (!lost).then(|| slf.as_any().getattr(name!(slf.py(), "_start_reading"))).transpose()
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol_object(py)
    }

    #[getter]
    fn _server(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.server.as_ref().map(|server| server.clone_ref(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.inner
            .visit(|inner| {
                visit.call(&inner.protocol)?;
                visit.call(&inner.own_context)?;
                visit.call(&inner.read_context)?;
                visit.call(&inner.write_context)?;
                visit.call(&inner.server)?;
                visit.call(&inner.empty_waiter)?;
                inner.descriptor.visit(&visit)?;
                inner.info.visit(&visit)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _dropped = self.inner.visit(|inner| {
            (
                inner.protocol.take(),
                inner.own_context.take(),
                inner.read_context.take(),
                inner.write_context.take(),
                inner.server.take(),
                inner.empty_waiter.take(),
            )
        });
    }
}

/// `transport.write(data)`.
struct Write;

impl FastMethod<StreamTransport> for Write {
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write($self, /, data)\n--\n\n\
        Send data (bytes, bytearray or memoryview), or queue what the kernel does not take now.\n\n\
        Never blocks. Raises TypeError for other types, RuntimeError after write_eof(); after the connection\n\
        was lost data is dropped.";

    /// In a callback: the run of the loop has told PyO3 that the thread is attached.
    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, StreamTransport>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let ([data], None) = (arguments.positional(), arguments.keyword_names()) else { return None };
        let in_callback = slf.get().event_loop.get().runs_here();
        in_callback.then(|| StreamTransport::write_data(&slf, *data).map(|()| slf.py().None().into_bound(slf.py())))
    }

    #[inline]
    fn call<'py>(slf: Borrowed<'_, 'py, StreamTransport>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let data = arguments.single("write", "data")?;
        StreamTransport::write_data(&slf, data)?;
        Ok(slf.py().None())
    }
}

/// Adds the fast methods to the class.
pub fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<StreamTransport, Write>(class)
}

impl Finalize for StreamTransport {
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        let open = slf.get().inner.with(slf.py(), |inner| !matches!(inner.descriptor, Descriptor::Closed));
        endpoint::warn_unclosed(slf, open)
    }

    fn original_dealloc() -> &'static OnceLock<ffi::destructor> {
        static ORIGINAL: OnceLock<ffi::destructor> = OnceLock::new();
        &ORIGINAL
    }
}
