//! Ciphertext in, plaintext out: from the transport below to the protocol's callbacks.
//!
//! What one read of the transport below has brought is decrypted as a whole and handed over in one piece, as in
//! `asyncio.sslproto`. While the protocol does not read, ciphertext is kept as it is, and beyond the high mark the
//! transport below is paused.

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;

use super::buffers::PLAINTEXT_BYTES;
use super::connection::TlsConnection;
use crate::asyncio::event_loop::report::ends_the_run;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::protocol::ProtocolKind;
use crate::engine::tls::flow::FlowAction;
use crate::engine::tls::pump::{decrypt, Stop};
use crate::engine::tls::record_layer::RecordLayer;
use crate::engine::tls::{Drive, EofAction, State};
use crate::py::buffer::{bytes_filled_by, Data, WritableBuffer};
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

/// What `data_received` gets at once, in bytes; as asyncio's.
const LARGEST_DATA: usize = 256 * 1024;

/// What large `bytes` are made longer by than they can become. Plaintext is a little shorter than its records, and
/// malloc (glibc's tcache) keeps the little ends apart, up to 1032 bytes each, so that the blocks between them never become
/// one again: the heap grew by 20 KiB per MiB received. What is cut off now is never that little.
const CUT_OFF: usize = 2048;

impl TlsConnection {
    /// Ciphertext from the transport below.
    pub fn received(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        let py = slf.py();
        slf.get().records(py).with_ciphertext(ciphertext, || Self::drive(slf))?
    }

    /// Ciphertext that was read before TLS began; it waits for `connection_made`.
    pub fn feed(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        match Data::new(data.as_borrowed())? {
            Some(data) => slf.get().records(py).with_ciphertext(data.as_slice(), || ()),
            None => Ok(()),
        }
    }

    /// Does what the state asks for with the ciphertext that is there.
    pub fn drive(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().inner.with(slf.py(), |inner| inner.core.drive()) {
            Drive::Nothing => Ok(()),
            Drive::Handshake => Self::do_handshake(slf),
            Drive::Read => Self::do_read(slf),
            Drive::Flush => Self::do_flush(slf),
            Drive::Shutdown => Self::do_shutdown(slf),
        }
    }

    /// Decrypts for the protocol, then sends what that has brought about.
    pub fn do_read(slf: &Bound<'_, Self>) -> PyResult<()> {
        match Self::try_read(slf) {
            Err(error) if error.is_instance_of::<PyException>(slf.py()) => {
                Self::fatal_error(slf, error, "Fatal error on SSL protocol")
            }
            outcome => outcome,
        }
    }

    fn try_read(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if let Some(kind) = slf.get().wants_data(py) {
            match kind {
                ProtocolKind::Buffered => Self::read_into_buffer(slf)?,
                _ => Self::read_bytes(slf)?,
            }
        }
        Self::write_backlog(slf)?;
        Self::control_reading(slf)
    }

    /// How the protocol wants data, if it does; the read begins then.
    fn wants_data(&self, py: Python<'_>) -> Option<ProtocolKind> {
        self.inner.with(py, |inner| {
            let open = matches!(inner.core.state(), State::Wrapped | State::Flushing);
            let wanted = open && !inner.core.is_reading_paused();
            if wanted {
                inner.core.read_begins();
            }
            wanted.then_some(inner.kind)
        })
    }

    fn read_bytes(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        loop {
            let (data, stop) = this.decrypt_bytes(py)?;
            if let (Some(data), Some(protocol)) = (data, this.protocol_object(py)) {
                call::call_method1(py, &protocol, &imports(py)?.data_received, &data)?;
                this.event_loop.get().kept_bytes.keep(data);
            }
            match stop {
                Stop::Drained => return Ok(()),
                // The callback may have paused, closed, or set another protocol.
                Stop::Full => match this.wants_data(py) {
                    Some(ProtocolKind::Buffered) => return Self::read_into_buffer(slf),
                    Some(ProtocolKind::Streaming | ProtocolKind::Reader | ProtocolKind::Tls) => {}
                    None => {
                        this.inner.with(py, |inner| inner.core.read_stopped_early());
                        return Ok(());
                    }
                },
                Stop::Closed => return Self::closed_by_peer(slf),
                Stop::Failed(error) => return Err(error),
            }
        }
    }

    /// One `bytes` of what there is: large ones are decrypted into place, small ones copied.
    fn decrypt_bytes<'py>(&self, py: Python<'py>) -> PyResult<(Option<Bound<'py, PyAny>>, Stop<PyErr>)> {
        let records = self.records(py);
        let bound = records.plaintext_bound();
        let mut stop = Stop::Drained;
        if bound > PLAINTEXT_BYTES {
            let room = bound.min(LARGEST_DATA);
            let data = bytes_filled_by(py, room + CUT_OFF, |memory| {
                let (count, stopped) = decrypt(&records, &mut memory[..room]);
                stop = stopped;
                Ok::<_, PyErr>(count)
            })?;
            return Ok(((data.len()? > 0).then_some(data), stop));
        }
        let buffers = &self.event_loop.get().tls_buffers;
        let mut scratch = buffers.with(py, |buffers| buffers.take_plaintext());
        let plaintext = scratch.filled_by(|memory| {
            let (count, stopped) = decrypt(&records, memory);
            stop = stopped;
            count
        });
        let kept = &self.event_loop.get().kept_bytes;
        let data = (!plaintext.is_empty()).then(|| kept.bytes(py, plaintext)).transpose();
        buffers.with(py, |buffers| buffers.return_plaintext(scratch));
        Ok((data?, stop))
    }

    fn read_into_buffer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let imports = imports(py)?;
        let Some(protocol) = this.protocol_object(py) else { return Ok(()) };
        let hint = objects::count(py, this.records(py).unread() as u64)?;
        let buffer = call::call_method1(py, &protocol, &imports.get_buffer, &hint)?;
        if buffer.len()? == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        let mut memory = WritableBuffer::new(&buffer)?;
        let (count, stop) = decrypt(&this.records(py), memory.memory_uninit());
        memory.release(py);
        if matches!(stop, Stop::Full) {
            this.inner.with(py, |inner| inner.core.read_stopped_early());
            // The next buffer is asked for in the next turn: the protocol has to empty this one first.
            LoopCore::schedule(this.event_loop.bind(py), slf.getattr(name!(py, "_do_read"))?, None, None)?;
        }
        if count > 0 {
            let count = objects::count(py, count as u64)?;
            call::call_method1(py, &protocol, &imports.buffer_updated, &count)?;
        }
        match stop {
            Stop::Drained | Stop::Full => Ok(()),
            Stop::Closed => Self::closed_by_peer(slf),
            Stop::Failed(error) => Err(error),
        }
    }

    /// close_notify.
    fn closed_by_peer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::tell_eof(slf)?;
        Self::start_shutdown(slf)
    }

    /// `eof_received`, once.
    pub fn tell_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.inner.with(py, |inner| inner.core.tell_eof()) {
            return Ok(());
        }
        let Some(protocol) = this.protocol_object(py) else { return Ok(()) };
        let outcome = call::call_method0(py, &protocol, name!(py, "eof_received").as_unbound())
            .and_then(|answer| answer.is_truthy());
        match outcome {
            Ok(false) => Ok(()),
            Ok(true) => {
                let text = "returning true from eof_received() has no effect when using ssl";
                imports(py)?.logger.bind(py).call_method1(name!(py, "warning"), (text,)).map(drop)
            }
            Err(error) if ends_the_run(py, &error) => Err(error),
            Err(error) => Self::fatal_error(slf, error, "Error calling eof_received()"),
        }
    }

    /// The end of the stream below. True: the protocol has not seen everything, so nothing is closed yet.
    pub fn end_of_stream(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.event_loop.get().is_debug() {
            imports(py)?.logger.bind(py).call_method1(name!(py, "debug"), ("%r received EOF", slf))?;
        }
        let action = this.inner.with(py, |inner| inner.core.read_eof());
        let outcome = match action {
            EofAction::Nothing => Ok(()),
            EofAction::KeepOpen => return Ok(true),
            EofAction::FailHandshake => Self::handshake_cut_short(slf),
            EofAction::Flush => Self::do_flush(slf),
            EofAction::WriteAndShutdown => Self::write_and_shutdown(slf),
            EofAction::Shutdown => Self::do_shutdown(slf),
        };
        match outcome {
            Ok(()) => Ok(this.inner.with(py, |inner| inner.core.flush_waits())),
            Err(error) => {
                if let Some(lower) = this.lower(py) {
                    lower.bind(py).call_method0(name!(py, "close"))?;
                }
                Err(error)
            }
        }
    }

    pub fn pause_reading(&self, py: Python<'_>) {
        self.inner.with(py, |inner| inner.core.pause_reading());
    }

    pub fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.inner.with(py, |inner| inner.core.resume_reading()) {
            LoopCore::schedule(this.event_loop.bind(py), slf.getattr(name!(py, "_do_read"))?, None, None)?;
        }
        Ok(())
    }

    /// Pauses or resumes the transport below by what waits to be decrypted.
    pub fn control_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let unread = this.records(py).unread();
        let action = this.inner.with(py, |inner| inner.read_marks.note(unread));
        let name = match action {
            FlowAction::Nothing => return Ok(()),
            FlowAction::Pause => name!(py, "pause_reading"),
            FlowAction::Resume => name!(py, "resume_reading"),
        };
        match this.lower(py) {
            Some(lower) => lower.bind(py).call_method0(name).map(drop),
            None => Ok(()),
        }
    }
}
