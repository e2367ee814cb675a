//! Plaintext in, records out: from the program's `write` to the transport below.
//!
//! ```text
//!   write --encrypted at once--> outgoing --> transport below
//!         --before the handshake is over, or while the transport below has enough--> backlog --> outgoing
//! ```
//!
//! What is written leaves as it would leave a plain transport: at once, or, from a callback that has learned to write in
//! pieces, at its end. What is held are records in the channel, one behind the other, so that they leave with one system
//! call. Large data is encrypted and sent in portions; what the transport below has no room for stays plaintext, which
//! costs no memory if it is a `bytes` object.

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::Borrowed;

use super::connection::{Inner, Lower, TlsConnection};
use super::layer::Records;
use crate::asyncio::event_loop::Writing;
use crate::asyncio::protocol::call_flow_control;
use crate::asyncio::transport::endpoint::{warn_of_write_after_loss, with_pieces};
use crate::asyncio::transport::stream::StreamTransport;
use crate::engine::tls::flow::FlowAction;
use crate::engine::tls::pump::{encrypt, encrypt_queue};
use crate::engine::tls::record_layer::RecordLayer;
use crate::engine::tls::State;
use crate::py::buffer::Data;
use crate::py::names::name;
use crate::py::objects;

/// Pieces of `writelines` that together fit into one record become one.
const LARGEST_RECORD: usize = 16 * 1024;
/// Plaintext that is encrypted at once, in bytes.
const PORTION: usize = 128 * 1024;
/// Bytes of records that leave before the others of the same write, or callback, are made. 64 KiB in records are a little more
/// than the kernel hands on in one packet, and the rest would be a packet of its own: sent in 256 KiB, a stream that is
/// written in pieces of 64 KiB takes four fifths of the processor's time (loopback, CPython 3.11).
const LARGEST_HOLD: usize = 256 * 1024;

/// Where a write goes.
enum Route {
    /// `hold`: and leave the records for the end of the callback.
    Encrypt {
        hold: bool,
    },
    /// `open`: behind a handshake that is over, so its size counts.
    Queued {
        open: bool,
    },
    Refused {
        warn: bool,
    },
}

impl Inner {
    fn push(&mut self, data: &Data<'_, '_>, offset: usize) {
        let (chunk, start) = data.chunk_from(offset);
        // Only the first chunk of a queue may be half gone.
        if start > 0 && !self.backlog.is_empty() {
            let (rest, _) = Data::Copied(data.as_slice().get(offset..).unwrap_or_default().to_vec()).chunk_from(0);
            self.backlog.push(rest);
        } else {
            self.backlog.push_from(chunk, start);
        }
    }

    fn route(&mut self, pieces: &[Data<'_, '_>], writing: Option<Writing>) -> Route {
        if !self.core.takes_writes() {
            return Route::Refused { warn: self.core.refuse_write() };
        }
        let open = self.core.state() == State::Wrapped;
        if open && self.backlog.is_empty() && !self.lower_full {
            let length = pieces.iter().map(|piece| piece.as_slice().len()).sum();
            return Route::Encrypt { hold: writing.is_some_and(|writing| self.gather.holds(writing, length)) };
        }
        for piece in pieces {
            self.push(piece, 0);
        }
        Route::Queued { open }
    }
}

impl TlsConnection {
    pub fn write(slf: &Bound<'_, Self>, object: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let Some(data) = Data::new(object)? else {
            let class = object.get_type();
            let text = format!("data: expecting a bytes-like instance, got {}", class.name()?);
            return Err(PyTypeError::new_err(text));
        };
        if data.as_slice().is_empty() {
            return Ok(());
        }
        Self::write_pieces(slf, &[data])
    }

    pub fn write_lines(slf: &Bound<'_, Self>, list: &Bound<'_, PyAny>) -> PyResult<()> {
        with_pieces(list, |pieces| {
            let total: usize = pieces.iter().map(|piece| piece.as_slice().len()).sum();
            if pieces.len() > 1 && total <= LARGEST_RECORD {
                let mut joined = Vec::with_capacity(total);
                pieces.iter().for_each(|piece| joined.extend_from_slice(piece.as_slice()));
                return Self::write_pieces(slf, &[Data::Copied(joined)]);
            }
            Self::write_pieces(slf, &pieces)
        })
    }

    fn write_pieces(slf: &Bound<'_, Self>, pieces: &[Data<'_, '_>]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.event_loop.get();
        let writing = event_loop.note_write();
        match this.inner.with(py, |inner| inner.route(pieces, writing)) {
            Route::Refused { warn } => warn_of_write_after_loss(py, warn, "SSL connection is closed"),
            Route::Queued { open: true } => Self::control_writing(slf),
            Route::Queued { open: false } => Ok(()),
            Route::Encrypt { hold } => Self::guarded(slf, Self::encrypt_pieces(slf, pieces, hold)),
        }
    }

    /// Queues data for the next time that the backlog is encrypted.
    pub fn append_to_backlog(&self, data: &Bound<'_, PyBytes>) {
        self.inner.with(data.py(), |inner| inner.push(&Data::Bytes(data.as_borrowed()), 0));
    }

    fn encrypt_pieces(slf: &Bound<'_, Self>, pieces: &[Data<'_, '_>], hold: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let records = this.records(py);
        let mut waiting = false;
        for piece in pieces {
            let bytes = piece.as_slice();
            let mut taken = 0;
            while !waiting && taken < bytes.len() {
                if records.outgoing() >= LARGEST_HOLD {
                    Self::send_records(slf, true)?;
                    if !this.takes_more(py) {
                        waiting = true;
                        break;
                    }
                }
                let portion = &bytes[taken..bytes.len().min(taken + PORTION)];
                this.lend_output(py);
                let count = encrypt(&records, portion)?;
                taken += count;
                waiting = count < portion.len();
            }
            if taken < bytes.len() {
                this.inner.with(py, |inner| inner.push(piece, taken));
            }
        }
        if hold && !waiting && this.flush_later(py) {
            return Ok(());
        }
        Self::process_outgoing(slf)
    }

    /// Leaves the records for the end of the callback. False: they are to be sent now.
    fn flush_later(&self, py: Python<'_>) -> bool {
        match self.lower(py) {
            Some(Lower::Native(transport)) => StreamTransport::flush_records_later(transport.bind(py)),
            _ => false,
        }
    }

    /// Sends what was left for the end of the callback, if anything was.
    pub fn flush_records(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::guarded(slf, Self::send_records(slf, false))
    }

    /// As `flush_records`, for whoever could tell the difference.
    pub fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().lower(slf.py()) {
            Some(Lower::Native(transport)) => StreamTransport::flush(transport.bind(slf.py())),
            _ => Ok(()),
        }
    }

    /// Forgets what was left: in a forked child, where it is the parent's to send.
    pub fn drop_records(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().records(slf.py()).take_records().map(drop)
    }

    /// Memory of the loop's for the next records: an idle connection keeps none.
    fn lend_output(&self, py: Python<'_>) {
        let buffers = &self.event_loop.get().tls_buffers;
        self.records(py).lend_memory(|| buffers.with(py, |buffers| buffers.take_output()));
    }

    /// Whether it makes sense to encrypt more now. Before a shutdown everything is.
    fn takes_more(&self, py: Python<'_>) -> bool {
        let lost = matches!(self.lower(py), Some(Lower::Native(transport)) if transport.get().is_lost(py));
        !lost
            && self.inner.with(py, |inner| match inner.core.state() {
                State::Unwrapped | State::Handshake => false,
                State::Wrapped => !inner.lower_full,
                State::Flushing | State::Shutdown => true,
            })
    }

    /// An error of the record layer, or of the transport below, ends the connection.
    fn guarded(slf: &Bound<'_, Self>, outcome: PyResult<()>) -> PyResult<()> {
        match outcome {
            Err(error) if error.is_instance_of::<PyException>(slf.py()) => {
                Self::fatal_error(slf, error, "Fatal error on SSL protocol")
            }
            outcome => outcome,
        }
    }

    /// Encrypts what waits for it and sends that, as far as the transport below takes it; all of it before a shutdown.
    pub fn write_backlog(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        while !this.inner.with(py, |inner| inner.backlog.is_empty()) && this.takes_more(py) {
            this.lend_output(py);
            let mut backlog = this.inner.with(py, |inner| std::mem::take(&mut inner.backlog));
            let outcome = encrypt_queue(&this.records(py), &mut backlog, PORTION);
            // Written meanwhile, from a callback of OpenSSL's.
            let later = this.inner.with(py, |inner| std::mem::replace(&mut inner.backlog, backlog));
            this.inner.with(py, |inner| inner.backlog.append(later));
            if outcome? == 0 {
                break;
            }
            let more = this.inner.with(py, |inner| !inner.backlog.is_empty());
            Self::send_records(slf, more)?;
        }
        Self::process_outgoing(slf)
    }

    /// The transport below wants more.
    pub fn lower_drained(slf: &Bound<'_, Self>) -> PyResult<()> {
        let wrapped = slf.get().inner.with(slf.py(), |inner| {
            inner.lower_full = false;
            inner.core.state() == State::Wrapped
        });
        if wrapped {
            Self::guarded(slf, Self::write_backlog(slf))
        } else {
            Self::process_outgoing(slf)
        }
    }

    /// Sends what is encrypted, and tells the protocol if that changes anything for it.
    pub fn process_outgoing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::send_records(slf, false)?;
        Self::control_writing(slf)
    }

    /// Hands the records to the transport below, unless that has enough; `portion`: more follow at once.
    pub fn send_records(slf: &Bound<'_, Self>, portion: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let records = this.records(py);
        if records.outgoing() == 0 || this.inner.with(py, |inner| inner.lower_full) {
            return Ok(());
        }
        let Some(lower) = this.lower(py) else { return Ok(()) };
        match (lower, records.take_records()?) {
            (Lower::Native(transport), Records::Built(data)) => {
                let mut data = Some(data);
                StreamTransport::write_records(transport.bind(py), &mut data, portion)?;
                if let Some(sent) = data {
                    this.event_loop.get().tls_buffers.with(py, |buffers| buffers.return_output(sent));
                }
                Ok(())
            }
            (Lower::Native(transport), Records::Bytes(data)) => {
                StreamTransport::write_records(transport.bind(py), &mut Data::Bytes(data.as_borrowed()), portion)
            }
            (Lower::Foreign(transport), data) => {
                let data = match data {
                    Records::Built(data) => objects::bytes(py, &data)?,
                    Records::Bytes(data) => data.into_any(),
                };
                transport.bind(py).call_method1(name!(py, "write"), (data,)).map(drop)
            }
        }
    }

    /// Bytes that were written and not yet given to the transport below.
    pub fn write_buffer_size(&self, py: Python<'_>) -> usize {
        self.records(py).outgoing() + self.inner.with(py, |inner| inner.backlog.len_bytes())
    }

    /// Tells the protocol to pause or to resume.
    pub fn control_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let outgoing = this.records(py).outgoing();
        let action = this.inner.with(py, |inner| inner.write_marks.note(outgoing + inner.backlog.len_bytes()));
        if action == FlowAction::Nothing {
            return Ok(());
        }
        let (Some(protocol), Some(transport)) = (this.protocol_object(py), this.transport_object(py)) else {
            return Ok(());
        };
        let pause = action == FlowAction::Pause;
        call_flow_control(this.event_loop.bind(py), transport.bind(py).as_any(), protocol.bind(py), pause)
    }
}
