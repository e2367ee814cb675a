//! `TlsTransport`: what a program gets for a TLS connection: an `asyncio.Transport` of plaintext.
//!
//! It has no state of its own but whether it was closed; everything else is the connection's. Its methods, their
//! errors and their limits are those of `asyncio.sslproto._SSLProtocolTransport`. Half-close does not exist in TLS.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

use pyo3::exceptions::{PyNotImplementedError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyType};
use pyo3::{ffi, Borrowed};

use super::connection::TlsConnection;
use super::layer::names;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::engine::tls::flow::Marks;
use crate::engine::tls::record_layer::RecordLayer;
use crate::engine::tls::State;
use crate::py::class::{new_with_dict, Finalize};
use crate::py::imports::imports;
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::names::name;
use crate::py::objects;

/// See the module's documentation.
#[pyclass(frozen, weakref, dict, module = "ironloop._native")]
pub struct TlsTransport {
    connection: Py<TlsConnection>,
    closed: AtomicBool,
}

impl TlsTransport {
    pub fn create<'py>(connection: &Bound<'py, TlsConnection>) -> PyResult<Bound<'py, Self>> {
        let this = Self { connection: connection.clone().unbind(), closed: AtomicBool::new(false) };
        new_with_dict(connection.py(), this)
    }

    pub fn mark_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn set_marks(
        slf: &Bound<'_, Self>,
        marks: fn(&mut super::connection::Inner) -> &mut Marks,
        high: Option<i64>,
        low: Option<i64>,
    ) -> PyResult<()> {
        let py = slf.py();
        let outcome = slf.get().connection.get().inner.with(py, |inner| marks(inner).set_limits(high, low));
        outcome
            .map_err(|(high, low)| PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0")))
    }
}

#[pymethods]
impl TlsTransport {
    /// `asyncio.sslproto._SSLProtocolTransport`: an instance of it, as far as `isinstance` can tell. `sendfile` looks for the
    /// mix-in that this has, frameworks for the class itself.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(names(py)?.transport.clone_ref(py))
    }

    /// 'ssl_object', 'sslcontext', 'peercert', 'cipher', 'compression', 'ktls', or what the transport below knows.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let connection = self.connection.get();
        let (extra, lower) = connection.inner.with(py, |inner| {
            let extra = inner.extra.as_ref().map(|extra| extra.clone_ref(py));
            (extra, inner.lower.as_ref().map(|lower| lower.clone_ref(py)))
        });
        if let Some(extra) = extra {
            if let Some(value) = extra.bind(py).get_item(name)? {
                return Ok(value);
            }
        }
        if name.eq(name!(py, "sslcontext"))? {
            return Ok(connection.context.bind(py).clone());
        }
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        match lower {
            Some(lower) => lower.bind(py).call_method1(name!(py, "get_extra_info"), (name, default)),
            None => Ok(default),
        }
    }

    /// From now on `protocol` gets the data.
    fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.connection.get().set_protocol(py, protocol)
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.connection.get().protocol_object(py)
    }

    /// Whether it is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        match self.connection.get().lower(py) {
            Some(lower) => lower.bind(py).call_method0(name!(py, "is_closing"))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// Closes: what was written is sent, close_notify is exchanged, then `connection_lost(None)` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        TlsConnection::start_shutdown(slf.get().connection.bind(slf.py()))
    }

    /// Closes at once, without a word to the peer. `connection_lost(None)` follows.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().mark_closed();
        TlsConnection::abort(slf.get().connection.bind(slf.py()), None)
    }

    /// Sends the buffers of an iterable, in order.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        TlsConnection::write_lines(slf.get().connection.bind(slf.py()), list_of_data)
    }

    /// Not possible with TLS. Raises NotImplementedError.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// False: a TLS connection has no end of its own for each direction.
    fn can_write_eof(&self) -> bool {
        false
    }

    /// Stops `data_received` until `resume_reading()`.
    fn pause_reading(&self, py: Python<'_>) {
        self.connection.get().pause_reading(py);
    }

    /// Starts reading again. Does nothing unless it was paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        TlsConnection::resume_reading(slf.get().connection.bind(slf.py()))
    }

    /// Whether data is received.
    fn is_reading(&self, py: Python<'_>) -> bool {
        self.connection.get().inner.with(py, |inner| !inner.core.is_reading_paused())
    }

    /// Bytes that were written and not yet given to the transport below.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        TlsConnection::flush(self.connection.bind(py))?;
        Ok(self.connection.get().write_buffer_size(py))
    }

    /// (low, high) water marks, in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.connection.get().inner.with(py, |inner| inner.write_marks.limits())
    }

    /// Sets the water marks, in bytes: at `high` or above the protocol's `pause_writing` is called, at `low` or
    /// below its `resume_writing`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(slf: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        TlsConnection::flush(slf.get().connection.bind(slf.py()))?;
        Self::set_marks(slf, |inner| &mut inner.write_marks, high, low)?;
        TlsConnection::control_writing(slf.get().connection.bind(slf.py()))
    }

    /// Bytes of ciphertext that were received and not yet decrypted.
    fn get_read_buffer_size(&self, py: Python<'_>) -> usize {
        self.connection.get().records(py).unread()
    }

    /// (low, high) water marks of received ciphertext, in bytes.
    fn get_read_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.connection.get().inner.with(py, |inner| inner.read_marks.limits())
    }

    /// Sets the marks, in bytes, at which the transport below is paused and resumed while the program does not read.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_read_buffer_limits(slf: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        Self::set_marks(slf, |inner| &mut inner.read_marks, high, low)?;
        TlsConnection::control_reading(slf.get().connection.bind(slf.py()))
    }

    fn _force_close(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        slf.get().mark_closed();
        TlsConnection::abort(slf.get().connection.bind(slf.py()), exception.as_ref())
    }

    /// Queues data as if it could not be encrypted yet: the hook by which asyncio's tests fill the buffer.
    #[pyo3(name = "_test__append_write_backlog")]
    fn append_write_backlog(&self, data: &Bound<'_, PyBytes>) {
        self.connection.get().append_to_backlog(data);
    }

    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.sendfile_fallback.clone_ref(py))
    }

    /// Whether the protocol is paused; `sendfile`'s fallback asks.
    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.connection.get().inner.with(py, |inner| inner.write_marks.is_paused())
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> Py<TlsConnection> {
        self.connection.clone_ref(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.connection.get().event_loop.clone_ref(py)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let connection = self.connection.get();
        let (state, lost, paused, extra, lower) = connection.inner.with(py, |inner| {
            let extra = inner.extra.as_ref().map(|extra| extra.clone_ref(py));
            let lower = inner.lower.as_ref().map(|lower| lower.clone_ref(py));
            (inner.core.state(), inner.lost, inner.core.is_reading_paused(), extra, lower)
        });
        let cipher = extra.map(|extra| extra.bind(py).get_item(name!(py, "cipher"))).transpose()?.flatten();
        // (name, version of the protocol, bits)
        let version = match cipher.filter(|cipher| !cipher.is_none()) {
            Some(cipher) => format!(" {}", cipher.get_item(1)?),
            None => String::new(),
        };
        let state = match state {
            _ if lost => " closed",
            State::Unwrapped if lower.is_none() => " not connected",
            State::Handshake => " handshake",
            State::Wrapped if !self.closed.load(Ordering::Relaxed) => "",
            State::Unwrapped | State::Wrapped | State::Flushing | State::Shutdown => " closing",
        };
        let (unread, unsent) = (connection.records(py).unread(), connection.write_buffer_size(py));
        let reading = if paused { "paused" } else { "reading" };
        let over = lower.map(|lower| lower.bind(py).repr()).transpose()?;
        let over = over.map_or_else(String::new, |lower| format!(" over {lower}"));
        let work = format!("read=<{reading}, bufsize={unread}> write=<bufsize={unsent}>");
        objects::text(py, &format!("<TlsTransport{state}{version} {work}{over}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)
    }
}

/// `transport.write(data)`.
struct Write;

impl FastMethod<TlsTransport> for Write {
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write($self, /, data)\n--\n\n\
        Encrypt and send data (bytes, bytearray or memoryview), or queue it.\n\n\
        Never blocks. Raises TypeError for other types; after close() data is dropped.";

    #[inline]
    fn call<'py>(slf: Borrowed<'_, 'py, TlsTransport>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let data = arguments.single("write", "data")?;
        TlsConnection::write(slf.get().connection.bind(slf.py()), data)?;
        Ok(slf.py().None())
    }
}

/// Adds the fast methods to the class.
pub fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<TlsTransport, Write>(class)
}

impl Finalize for TlsTransport {
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        report::unclosed(slf.as_any())
    }

    fn original_dealloc() -> &'static OnceLock<ffi::destructor> {
        static ORIGINAL: OnceLock<ffi::destructor> = OnceLock::new();
        &ORIGINAL
    }
}
