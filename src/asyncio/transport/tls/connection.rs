//! `TlsConnection`: a TLS connection, the protocol of the transport below it.
//!
//! Over a native `StreamTransport` ciphertext comes by `received` and goes by `StreamTransport::write_records`, without a
//! Python object; any other transport (TLS in TLS, one of the user's) calls the methods of an `asyncio.Protocol`.
//!
//! Owned by the loop's thread. `Inner` is lent to short closures; the record layer is not part of it, because what it
//! calls may call Python. This file holds the class and the index of its methods.

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::layer::{Attached, Layer};
use super::transport::TlsTransport;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::protocol::ProtocolKind;
use crate::asyncio::streams;
use crate::asyncio::transport::stream::StreamTransport;
use crate::asyncio::transport::write::Gather;
use crate::engine::stream::write_queue::WriteQueue;
use crate::engine::sys::process;
use crate::engine::tls::flow::{Marks, READ_HIGH, WRITE_HIGH};
use crate::engine::tls::TlsCore;
use crate::py::buffer::SendChunk;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::names::name;
use crate::py::objects;

/// Seconds, as in asyncio (`constants.SSL_HANDSHAKE_TIMEOUT`, `constants.SSL_SHUTDOWN_TIMEOUT`).
const HANDSHAKE_TIMEOUT: f64 = 60.0;
const SHUTDOWN_TIMEOUT: f64 = 30.0;

/// The transport of the ciphertext.
pub enum Lower {
    Native(Py<StreamTransport>),
    Foreign(Py<PyAny>),
}

impl Lower {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Native(transport) => Self::Native(transport.clone_ref(py)),
            Self::Foreign(transport) => Self::Foreign(transport.clone_ref(py)),
        }
    }

    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Self::Native(transport) => transport.bind(py).clone().into_any(),
            Self::Foreign(transport) => transport.bind(py).clone(),
        }
    }
}

/// The state of a connection.
pub struct Inner {
    pub core: TlsCore,
    /// The transport below, from `connection_made` on; kept after the loss, for its addresses.
    pub lower: Option<Lower>,
    /// `connection_lost` was called.
    pub lost: bool,
    pub protocol: Option<Py<PyAny>>,
    pub kind: ProtocolKind,
    /// What the program has; until the connection is lost.
    pub transport: Option<Py<TlsTransport>>,
    pub waiter: Option<Py<PyAny>>,
    /// Plaintext that cannot be encrypted yet.
    pub backlog: WriteQueue<SendChunk>,
    pub gather: Gather,
    /// Told to the protocol: `pause_writing`, by what is encrypted or queued and not yet given to the transport below.
    pub write_marks: Marks,
    /// Told to the transport below: `pause_reading`, by the ciphertext that nobody wants yet.
    pub read_marks: Marks,
    /// The transport below has paused us.
    pub lower_full: bool,
    pub handshake_timer: Option<Py<PyAny>>,
    pub shutdown_timer: Option<Py<PyAny>>,
    /// Debug mode: `loop.time()` when the handshake began.
    pub handshake_started: Option<f64>,
    /// What became known with the handshake.
    pub extra: Option<Py<PyDict>>,
}

/// What a connection is made from.
pub struct Settings<'py> {
    pub protocol: Bound<'py, PyAny>,
    pub context: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub server_side: bool,
    pub server_hostname: Option<Bound<'py, PyAny>>,
    /// The protocol was connected before (`start_tls`).
    pub connected: bool,
    /// A listener has accepted it: nobody waits for the handshake.
    pub accepted: bool,
    pub handshake_timeout: Option<Bound<'py, PyAny>>,
    pub shutdown_timeout: Option<Bound<'py, PyAny>>,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct TlsConnection {
    pub event_loop: Py<LoopCore>,
    pub layer: Layer,
    pub context: Py<PyAny>,
    pub accepted: bool,
    /// Numbers of seconds, as they were given.
    pub handshake_timeout: Py<PyAny>,
    pub shutdown_timeout: Py<PyAny>,
    /// The process that has made it: two that send with the same keys make what no peer understands.
    pub made_in: u32,
    pub inner: LoopOwned<Inner>,
}

/// A timeout of the user's, or asyncio's default.
fn timeout(given: Option<Bound<'_, PyAny>>, default: f64, name: &str, py: Python<'_>) -> PyResult<Py<PyAny>> {
    match given.filter(|given| !given.is_none()) {
        None => Ok(objects::float(py, default)?.unbind()),
        Some(given) if given.le(0)? => {
            Err(PyValueError::new_err(format!("{name} should be a positive number, got {given}")))
        }
        Some(given) => Ok(given.unbind()),
    }
}

impl TlsConnection {
    /// # Errors
    /// `ValueError` for a timeout that is not positive, or what the context's `wrap_bio` raises.
    pub fn create<'py>(event_loop: &Bound<'py, LoopCore>, settings: Settings<'py>) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let server_side = settings.server_side;
        let hostname = settings.server_hostname.filter(|_| !server_side);
        let hostname = match hostname {
            Some(hostname) if hostname.is_truthy()? => Some(hostname),
            _ => None,
        };
        let handshake_timeout = timeout(settings.handshake_timeout, HANDSHAKE_TIMEOUT, "ssl_handshake_timeout", py)?;
        let shutdown_timeout = timeout(settings.shutdown_timeout, SHUTDOWN_TIMEOUT, "ssl_shutdown_timeout", py)?;
        let context = if settings.context.is_truthy()? {
            settings.context
        } else {
            let sslproto = py.import(name!(py, "asyncio.sslproto"))?;
            sslproto.call_method1(name!(py, "_create_transport_context"), (server_side, &hostname))?
        };
        streams::adopt(&settings.protocol, event_loop.get().is_debug())?;
        let inner = Inner {
            core: TlsCore::new(settings.connected),
            lower: None,
            lost: false,
            kind: ProtocolKind::of(&settings.protocol)?,
            protocol: Some(settings.protocol.unbind()),
            transport: None,
            waiter: settings.waiter.filter(|waiter| !waiter.is_none()).map(Bound::unbind),
            backlog: WriteQueue::new(),
            gather: Gather::default(),
            write_marks: Marks::new(WRITE_HIGH),
            read_marks: Marks::new(READ_HIGH),
            lower_full: false,
            handshake_timer: None,
            shutdown_timer: None,
            handshake_started: None,
            extra: None,
        };
        let connection = Bound::new(
            py,
            Self {
                event_loop: event_loop.clone().unbind(),
                layer: Layer::new(&context, server_side, hostname.as_ref())?,
                context: context.unbind(),
                accepted: settings.accepted,
                handshake_timeout,
                shutdown_timeout,
                made_in: process::current(),
                inner: LoopOwned::new(inner),
            },
        )?;
        let transport = TlsTransport::create(&connection)?;
        connection.get().inner.with(py, |inner| inner.transport = Some(transport.unbind()));
        Ok(connection)
    }

    /// The record layer, for calls while nothing is lent.
    #[inline]
    pub fn records<'py>(&self, py: Python<'py>) -> Attached<'_, 'py> {
        self.layer.attached(py)
    }

    /// The transport below, unless it is not there yet or lost.
    pub fn lower(&self, py: Python<'_>) -> Option<Lower> {
        self.inner.with(py, |inner| match &inner.lower {
            Some(lower) if !inner.lost => Some(lower.clone_ref(py)),
            _ => None,
        })
    }

    /// The program's protocol, until the connection is lost.
    pub fn protocol_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    pub fn transport_object(&self, py: Python<'_>) -> Option<Py<TlsTransport>> {
        self.inner.with(py, |inner| inner.transport.as_ref().map(|transport| transport.clone_ref(py)))
    }

    pub fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind = ProtocolKind::of(protocol)?;
        let _previous = self.inner.with(py, |inner| {
            inner.kind = kind;
            inner.protocol.replace(protocol.clone().unbind())
        });
        Ok(())
    }
}

#[pymethods]
impl TlsConnection {
    /// What `asyncio.sslproto.SSLProtocol` is for asyncio's loops; `_app_transport` is the transport of plaintext.
    #[new]
    #[pyo3(signature = (event_loop, protocol, sslcontext, waiter=None, server_side=false, server_hostname=None,
                        call_connection_made=true, ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    #[expect(clippy::too_many_arguments, reason = "the signature of asyncio.sslproto.SSLProtocol")]
    fn new<'py>(
        event_loop: &Bound<'py, LoopCore>,
        protocol: Bound<'py, PyAny>,
        sslcontext: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        server_side: bool,
        server_hostname: Option<Bound<'py, PyAny>>,
        call_connection_made: bool,
        ssl_handshake_timeout: Option<Bound<'py, PyAny>>,
        ssl_shutdown_timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let settings = Settings {
            protocol,
            context: sslcontext,
            waiter,
            server_side,
            server_hostname,
            connected: !call_connection_made,
            accepted: false,
            handshake_timeout: ssl_handshake_timeout,
            shutdown_timeout: ssl_shutdown_timeout,
        };
        Self::create(event_loop, settings)
    }

    /// `asyncio.Protocol`: an instance of it, as far as `isinstance` can tell.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.protocol.clone_ref(py))
    }

    /// The transport below is connected: the handshake begins.
    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::start_handshake(slf, transport)
    }

    /// The transport below has received ciphertext.
    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        Self::received(slf, data.as_bytes())
    }

    /// The transport below has received the end of the stream; true: it is not to close yet.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::end_of_stream(slf)
    }

    /// The transport below is lost.
    fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::lower_lost(slf, exception)
    }

    /// The transport below has enough to send.
    fn pause_writing(&self, py: Python<'_>) {
        self.inner.with(py, |inner| inner.lower_full = true);
    }

    /// The transport below wants more to send.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::lower_drained(slf)
    }

    /// Ciphertext that somebody has read before TLS began (`start_tls`).
    fn _feed(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::feed(slf, data)
    }

    /// The protocol was told to pause writing by the transport that is the one below now.
    fn _inherit_pause(&self, py: Python<'_>) {
        self.inner.with(py, |inner| {
            inner.lower_full = true;
            inner.write_marks.set_paused();
        });
    }

    fn _do_read(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::drive(slf)
    }

    fn _check_handshake_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_handshake_timeout(slf)
    }

    fn _check_shutdown_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_shutdown_timeout(slf)
    }

    #[getter]
    fn _app_transport(&self, py: Python<'_>) -> Option<Py<TlsTransport>> {
        self.transport_object(py)
    }

    #[getter]
    fn _app_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol_object(py)
    }

    #[getter]
    fn _app_reading_paused(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.core.is_reading_paused())
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lower(py).map(|lower| lower.bind(py).unbind())
    }

    #[getter]
    fn _sslcontext(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        visit.call(&self.handshake_timeout)?;
        visit.call(&self.shutdown_timeout)?;
        self.layer.visit(&visit)?;
        self.inner
            .visit(|inner| {
                match &inner.lower {
                    Some(Lower::Native(transport)) => visit.call(transport)?,
                    Some(Lower::Foreign(transport)) => visit.call(transport)?,
                    None => {}
                }
                visit.call(&inner.protocol)?;
                visit.call(&inner.transport)?;
                visit.call(&inner.waiter)?;
                visit.call(&inner.handshake_timer)?;
                visit.call(&inner.shutdown_timer)?;
                visit.call(&inner.extra)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _dropped = self.inner.visit(|inner| {
            (
                (inner.lower.take(), inner.protocol.take(), inner.transport.take(), inner.waiter.take()),
                (inner.handshake_timer.take(), inner.shutdown_timer.take(), inner.extra.take()),
            )
        });
    }
}
