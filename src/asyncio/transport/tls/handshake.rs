//! From `connection_made` below to `connection_made` above: the handshake, its timeout, and what is known after it.
//!
//! Callbacks of the user's context (SNI, PSK, key log, verification) run in here; what they raise comes out of the record
//! layer. It ends in one of three ways: done, failed, or cut short by the end of the stream.

use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::connection::{Lower, TlsConnection};
use super::layer::names;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::asyncio::transport::stream::StreamTransport;
use crate::engine::tls::record_layer::{RecordLayer, Step};
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

impl TlsConnection {
    pub fn start_handshake(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lower = match transport.cast::<StreamTransport>() {
            Ok(native) => Lower::Native(native.clone().unbind()),
            Err(_) => Lower::Foreign(transport.clone().unbind()),
        };
        let started = this.inner.with(py, |inner| {
            inner.lower = Some(lower);
            inner.core.start()
        });
        if !started {
            return Ok(());
        }
        let event_loop = this.event_loop.bind(py);
        if event_loop.get().is_debug() {
            this.inner.with(py, |inner| inner.handshake_started = Some(LoopCore::now()));
            imports(py)?.logger.bind(py).call_method1(name!(py, "debug"), ("%r starts SSL handshake", slf))?;
        }
        let check = slf.getattr(name!(py, "_check_handshake_timeout"))?;
        let timer = event_loop.call_method1(name!(py, "call_later"), (&this.handshake_timeout, check))?.unbind();
        this.inner.with(py, |inner| inner.handshake_timer = Some(timer));
        Self::do_handshake(slf)
    }

    pub fn check_handshake_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !slf.get().inner.with(py, |inner| inner.core.handshake_overdue()) {
            return Ok(());
        }
        let timeout = slf.get().handshake_timeout.bind(py);
        let text = format!("SSL handshake is taking longer than {timeout} seconds: aborting the connection");
        Self::fatal_error(slf, PyConnectionAbortedError::new_err(text), "Fatal error on transport")
    }

    pub fn do_handshake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().records(py).handshake() {
            Ok(Step::WantsMore) => Self::process_outgoing(slf),
            Ok(Step::Done) => Self::handshake_done(slf),
            Err(error) if error.is_instance(py, names(py)?.error.bind(py)) => Self::handshake_failed(slf, error),
            // Of a callback of the user's.
            Err(error) => Err(error),
        }
    }

    fn handshake_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.cancel_timer(py, |inner| &mut inner.handshake_timer)?;
        let (expected, started) =
            this.inner.with(py, |inner| (inner.core.handshake_done(), inner.handshake_started.take()));
        if !expected {
            return Ok(());
        }
        this.event_loop.get().metrics.tls_handshakes.add(1);
        let extra = match Self::describe(slf) {
            Ok(extra) => extra,
            Err(error) => return Self::handshake_failed(slf, error),
        };
        if let Some(started) = started {
            let duration_ms = (LoopCore::now() - started) * 1e3;
            let arguments = ("%r: SSL handshake took %.1f ms", slf, duration_ms);
            imports(py)?.logger.bind(py).call_method1(name!(py, "debug"), arguments)?;
        }
        let _previous = this.inner.with(py, |inner| inner.extra.replace(extra.unbind()));
        let told = this.inner.with(py, |inner| !inner.core.tell_connected());
        if !told {
            if let (Some(protocol), Some(transport)) = (this.protocol_object(py), this.transport_object(py)) {
                let transport = transport.bind(py).as_any();
                call::call_method1(py, &protocol, name!(py, "connection_made").as_unbound(), transport)?;
            }
        }
        this.wake_waiter(py, None)?;
        Self::do_read(slf)
    }

    /// What `get_extra_info` knows from now on.
    fn describe<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let object = slf.get().layer.object().bind(py);
        let extra = objects::dict(py)?;
        for (key, method) in [
            (name!(py, "peercert"), name!(py, "getpeercert")),
            (name!(py, "cipher"), name!(py, "cipher")),
            (name!(py, "compression"), name!(py, "compression")),
        ] {
            extra.set_item(key, object.call_method0(method)?)?;
        }
        extra.set_item(name!(py, "ssl_object"), object)?;
        // The kernel has no part in it: records are made here.
        extra.set_item(name!(py, "ktls"), false)?;
        Ok(extra)
    }

    /// The peer's stream ended in the middle.
    pub fn handshake_cut_short(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::handshake_failed(slf, PyConnectionResetError::new_err(()))
    }

    fn handshake_failed(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.cancel_timer(py, |inner| &mut inner.handshake_timer)?;
        this.inner.with(py, |inner| inner.core.abort());
        let message = if error.is_instance(py, names(py)?.certificate_error.bind(py)) {
            "SSL handshake failed on verifying the certificate"
        } else {
            "SSL handshake failed"
        };
        Self::fatal_error(slf, error.clone_ref(py), message)?;
        this.wake_waiter(py, Some(error.into_value(py).into_bound(py).into_any()))
    }

    /// Tells whoever waits for the handshake how it ended; for accepted connections nobody waits, and failures are for
    /// debug mode's eyes only.
    pub fn wake_waiter(&self, py: Python<'_>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if let (true, Some(exception)) = (self.accepted && self.event_loop.get().is_debug(), &exception) {
            let (protocol, transport) = (self.protocol_object(py), self.transport_object(py));
            let protocol = protocol.as_ref().map(|it| it.bind(py));
            let transport = transport.as_ref().map(|it| it.bind(py).as_any());
            let details = [("protocol", protocol), ("transport", transport)];
            let message = "Error on transport creation for incoming connection";
            report::failed(self.event_loop.bind(py).as_any(), message, exception, &details)?;
        }
        let Some(waiter) = self.inner.with(py, |inner| inner.waiter.take()) else { return Ok(()) };
        let waiter = waiter.bind(py);
        if waiter.call_method0(name!(py, "cancelled"))?.is_truthy()? {
            return Ok(());
        }
        match exception {
            Some(exception) => waiter.call_method1(name!(py, "set_exception"), (exception,)),
            None => waiter.call_method1(name!(py, "set_result"), (py.None(),)),
        }
        .map(drop)
    }
}
