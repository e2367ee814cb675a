//! The end of a connection: close_notify both ways, aborts, errors, the loss of the transport below.
//!
//! The transport below is closed last, and its `connection_lost` is what ends the connection in every case: the protocol
//! is told, once, timers end and references go. What the states allow is in `engine::tls`.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::connection::{Inner, TlsConnection};
use super::layer::names;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::engine::sys::process;
use crate::engine::tls::record_layer::{RecordLayer, Step};
use crate::engine::tls::CloseAction;
use crate::py::names::name;

impl TlsConnection {
    /// The program closes, or the peer has.
    pub fn start_shutdown(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.made_in != process::current() {
            // The parent goes on with the connection; a close_notify would end it there.
            this.mark_closed(py);
            return Self::abort(slf, None);
        }
        let action = this.inner.with(py, |inner| inner.core.close());
        if action != CloseAction::Nothing {
            this.mark_closed(py);
        }
        match action {
            CloseAction::Nothing => Ok(()),
            CloseAction::Abort => Self::abort(slf, None),
            CloseAction::Flush => {
                Self::start_shutdown_timer(slf)?;
                Self::do_flush(slf)
            }
            CloseAction::Shutdown => Self::write_and_shutdown(slf),
        }
    }

    /// The transport needs no warning when it is dropped.
    fn mark_closed(&self, py: Python<'_>) {
        if let Some(transport) = self.transport_object(py) {
            transport.get().mark_closed();
        }
    }

    fn start_shutdown_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.inner.with(py, |inner| inner.shutdown_timer.is_some()) {
            return Ok(());
        }
        let check = slf.getattr(name!(py, "_check_shutdown_timeout"))?;
        let event_loop = this.event_loop.bind(py);
        let timer = event_loop.call_method1(name!(py, "call_later"), (&this.shutdown_timeout, check))?.unbind();
        let _previous = this.inner.with(py, |inner| inner.shutdown_timer.replace(timer));
        Ok(())
    }

    pub fn check_shutdown_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.inner.with(py, |inner| inner.core.shutdown_overdue()) {
            return Ok(());
        }
        let class = py.import(name!(py, "asyncio"))?.getattr(name!(py, "TimeoutError"))?;
        let exception = class.call1(("SSL shutdown timed out",))?;
        this.force_close_lower(py, Some(&exception))
    }

    /// Reads what the peer sent before the end, then says goodbye.
    pub fn do_flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::do_read(slf)?;
        if slf.get().inner.with(slf.py(), |inner| !inner.core.flush_waits() && inner.core.flushed()) {
            Self::do_shutdown(slf)
        } else {
            // The next read comes back here; or a callback has aborted the connection, or shut it down already.
            Ok(())
        }
    }

    /// The stream has ended, or the program closes, while the connection was being flushed.
    pub fn write_and_shutdown(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::write_backlog(slf)?;
        slf.get().inner.with(slf.py(), |inner| inner.core.flushed());
        Self::do_shutdown(slf)
    }

    pub fn do_shutdown(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // After the end of the stream nobody is there to answer.
        if !this.inner.with(py, |inner| inner.core.is_at_end()) {
            match this.records(py).shutdown() {
                Ok(Step::Done) => {}
                Ok(Step::WantsMore) => return Self::process_outgoing(slf),
                Err(error) if error.is_instance(py, names(py)?.error.bind(py)) => {
                    this.cancel_timer(py, |inner| &mut inner.shutdown_timer)?;
                    return Self::fatal_error(slf, error, "Fatal error on transport");
                }
                Err(error) => return Err(error),
            }
        }
        Self::process_outgoing(slf)?;
        Self::tell_eof(slf)?;
        // The transport below sends what it has first, which a peer that does not read can delay for ever: the timeout
        // stays until the connection is lost, and begins now if the peer has closed first (as in CPython 3.14).
        Self::start_shutdown_timer(slf)?;
        match this.lower(py) {
            Some(lower) => {
                let close = lower.bind(py).getattr(name!(py, "close"))?;
                LoopCore::schedule(this.event_loop.bind(py), close, None, None)
            }
            None => Ok(()),
        }
    }

    pub fn abort(slf: &Bound<'_, Self>, exception: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        slf.get().inner.with(py, |inner| inner.core.abort());
        slf.get().force_close_lower(py, exception)
    }

    fn force_close_lower(&self, py: Python<'_>, exception: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(lower) = self.lower(py) else { return Ok(()) };
        let lower = lower.bind(py);
        match exception {
            None => lower.call_method0(name!(py, "abort")),
            Some(exception) => lower.call_method1(name!(py, "_force_close"), (exception,)),
        }
        .map(drop)
    }

    /// An error that the connection does not survive. Those of the network and of TLS are everyday; others are reported.
    pub fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let everyday = error.is_instance_of::<PyOSError>(py);
        let exception = error.into_value(py).into_bound(py).into_any();
        let lower = this.lower(py);
        if exception.is_instance(names(py)?.error.bind(py))? {
            Self::send_last_words(slf)?;
        }
        this.force_close_lower(py, Some(&exception))?;
        let event_loop = this.event_loop.bind(py);
        if !everyday {
            let lower = lower.map(|lower| lower.bind(py));
            let details = [("transport", lower.as_ref()), ("protocol", Some(slf.as_any()))];
            return report::failed(event_loop.as_any(), message, &exception, &details);
        }
        report::everyday_error(event_loop, slf.as_any(), message, &exception)
    }

    /// The alert that says why the connection ends. CPython makes it and drops it, so its peers see a reset.
    fn send_last_words(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::send_records(slf, false)?;
        Self::flush(slf)
    }

    /// The transport below is lost, for whatever reason.
    pub fn lower_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Whatever that gives: nobody is there to send it to.
        drop(this.records(py).take_records());
        this.mark_closed(py);
        let (tell, protocol, _dropped) = this.inner.with(py, |inner| {
            inner.lost = true;
            let dropped = (std::mem::take(&mut inner.backlog), inner.transport.take());
            (inner.core.connection_lost(), inner.protocol.take(), dropped)
        });
        let exception = exception.filter(|exception| !exception.is_none());
        if let (true, Some(protocol)) = (tell, protocol) {
            let callback = protocol.bind(py).getattr(name!(py, "connection_lost"))?;
            let argument = exception.clone().unwrap_or_else(|| py.None().into_bound(py));
            LoopCore::schedule(this.event_loop.bind(py), callback, Some(argument), None)?;
        }
        this.wake_waiter(py, exception)?;
        this.cancel_timer(py, |inner| &mut inner.shutdown_timer)?;
        this.cancel_timer(py, |inner| &mut inner.handshake_timer)
    }

    pub fn cancel_timer(&self, py: Python<'_>, which: fn(&mut Inner) -> &mut Option<Py<PyAny>>) -> PyResult<()> {
        match self.inner.with(py, |inner| which(inner).take()) {
            Some(timer) => timer.bind(py).call_method0(name!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }
}
