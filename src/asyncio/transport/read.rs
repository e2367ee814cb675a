//! Receiving: from the reactor's event to the protocol's callback.
//!
//! One read per turn and transport, as asyncio does it: a peer that floods waits for its next turn
//! like everybody else. Where the registration is edge-triggered (`watching`), `readable` remembers what the
//! kernel will not say again: after a full read, or an event that announced the end of the stream, the
//! transport queues the next read itself.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::endpoint::{log_debug, queue_event};
use super::input::{self, Offer, ReceiveError, Received};
use super::stream::{Inner, StreamTransport};
use super::tls::connection::TlsConnection;
use crate::asyncio::event_loop::report::ends_the_run;
use crate::asyncio::protocol::ProtocolKind;
use crate::asyncio::streams::Feed;
use crate::engine;
use crate::engine::reactor::Readiness;
use crate::engine::stream::read_size::{ReadPlan, MOST_ROOM};
use crate::engine::sys::socket::StreamSource;
use crate::py::buffer::WritableBuffer;
use crate::py::byte_array::extended_by;
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

const READ_ERROR: &str = "Fatal read error on socket transport";

/// What a read needs to know.
struct Plan {
    source: StreamSource,
    size: ReadPlan,
    room: usize,
    /// How it ends, if that is known: nothing is read then.
    failed: Option<engine::Error>,
    kind: ProtocolKind,
    protocol: Py<PyAny>,
    context: Py<PyAny>,
}

impl StreamTransport {
    /// After `connection_made`.
    pub fn begin_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let context = call::copy_context(py)?;
        let (reading, _previous) = slf.get().inner.with(py, |inner| {
            inner.started = true;
            (inner.life.is_reading(), inner.read_context.replace(context))
        });
        if reading {
            Self::ensure_registered(slf)
        } else {
            Ok(())
        }
    }

    pub fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        let changed = slf.get().inner.with(slf.py(), |inner| inner.life.pause_reading());
        if changed {
            log_debug(slf, "debug", "%r pauses reading")
        } else {
            Ok(())
        }
    }

    pub fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !slf.get().inner.with(py, |inner| inner.life.resume_reading()) {
            return Ok(());
        }
        let context = call::copy_context(py)?;
        let (started, _previous) =
            slf.get().inner.with(py, |inner| (inner.started, inner.read_context.replace(context)));
        if started {
            Self::ensure_registered(slf)?;
            Self::read_again(slf);
        }
        log_debug(slf, "debug", "%r resumes reading")
    }

    /// Queues a read if there may be something to read and somebody who wants it.
    fn read_again(slf: &Bound<'_, Self>) {
        let queue = slf.get().inner.with(slf.py(), |inner| {
            let wanted = inner.readable && inner.life.is_reading() && inner.registration.token.is_some();
            wanted && !std::mem::replace(&mut inner.reads_on, true)
        });
        if queue {
            queue_event(slf, Readiness::READ_ON);
        }
    }

    /// There is something to read.
    pub fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(plan) = slf.get().inner.with(py, |inner| inner.plan_read(py)) else {
            return Self::watch_edges(slf);
        };
        if let Some(error) = &plan.failed {
            return Self::no_data(slf, &plan, &Received::<()>::Failed(error.clone()));
        }
        match plan.kind {
            ProtocolKind::Streaming => Self::receive_bytes(slf, &plan),
            ProtocolKind::Reader => Self::receive_into_reader(slf, &plan),
            ProtocolKind::Buffered => Self::receive_into_buffer(slf, &plan),
            ProtocolKind::Tls => Self::receive_ciphertext(slf, &plan),
        }
    }

    fn receive_bytes(slf: &Bound<'_, Self>, plan: &Plan) -> PyResult<()> {
        let py = slf.py();
        let outcome = input::receive(py, slf.get().event_loop.get(), plan.source, plan.size, MOST_ROOM);
        let (received, offer) = match outcome {
            Ok(received) => received,
            Err(error) => return Self::fatal_error(slf, error, READ_ERROR),
        };
        match received {
            Received::Data(data) => {
                let count = data.len().unwrap_or_default();
                Self::after_read(slf, count, offer);
                let name = &imports(py)?.data_received;
                let outcome = call::in_context(py, &plan.context, || {
                    call::call_method1(py, &plan.protocol, name, &data).map(drop)
                });
                slf.get().event_loop.get().kept_bytes.keep(data);
                Self::protocol_outcome(slf, outcome, "Fatal error: protocol.data_received() call failed.")
            }
            other => Self::no_data(slf, plan, &other),
        }
    }

    /// asyncio's streams: into the reader's own memory.
    fn receive_into_reader(slf: &Bound<'_, Self>, plan: &Plan) -> PyResult<()> {
        let py = slf.py();
        let Some(feed) = Feed::of(plan.protocol.bind(py)) else { return Self::receive_bytes(slf, plan) };
        let mut stopped = false;
        let outcome = extended_by(&feed.buffer, plan.room, |memory| {
            let count;
            (count, stopped) = plan.source.read_uninit(memory).map_err(ReceiveError::Kernel)?;
            Ok(count)
        });
        match outcome {
            Ok(Some(0)) => Self::no_data(slf, plan, &Received::<()>::EndOfStream),
            Ok(Some(count)) => {
                Self::after_read(slf, count, Offer::of(plan.room, stopped));
                let outcome = call::in_context(py, &plan.context, || feed.fed());
                Self::protocol_outcome(slf, outcome, "Fatal error: protocol.data_received() call failed.")
            }
            Ok(None) => Self::receive_bytes(slf, plan),
            Err(ReceiveError::Kernel(error)) if error.would_block() => {
                Self::no_data(slf, plan, &Received::<()>::Nothing)
            }
            Err(ReceiveError::Kernel(error)) => Self::no_data(slf, plan, &Received::<()>::Failed(error)),
            Err(ReceiveError::Python(error)) => Self::fatal_error(slf, error, READ_ERROR),
        }
    }

    fn receive_into_buffer(slf: &Bound<'_, Self>, plan: &Plan) -> PyResult<()> {
        let py = slf.py();
        let imports = imports(py)?;
        let lent = call::in_context(py, &plan.context, || {
            let buffer = call::call_method1(py, &plan.protocol, &imports.get_buffer, imports.minus_one.bind(py))?;
            if buffer.len()? == 0 {
                return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
            }
            Ok(buffer)
        });
        const GET_BUFFER_FAILED: &str = "Fatal error: protocol.get_buffer() call failed.";
        let buffer = match lent {
            Ok(buffer) => buffer,
            Err(error) => return Self::protocol_outcome(slf, Err(error), GET_BUFFER_FAILED),
        };
        let mut memory = match WritableBuffer::new(&buffer) {
            Ok(memory) => memory,
            Err(error) => return Self::protocol_outcome(slf, Err(error), READ_ERROR),
        };
        let capacity = memory.memory().len();
        let outcome = plan.source.read(memory.memory());
        memory.release(py);
        match outcome {
            Ok((0, _)) => Self::no_data(slf, plan, &Received::<()>::EndOfStream),
            Ok((count, stopped)) => {
                Self::after_read(slf, count, Offer::of(capacity, stopped));
                let count = objects::count(py, count as u64)?;
                let outcome = call::in_context(py, &plan.context, || {
                    call::call_method1(py, &plan.protocol, &imports.buffer_updated, &count).map(drop)
                });
                Self::protocol_outcome(slf, outcome, "Fatal error: protocol.buffer_updated() call failed.")
            }
            Err(error) if error.would_block() => Self::no_data(slf, plan, &Received::<()>::Nothing),
            Err(error) => Self::no_data(slf, plan, &Received::<()>::Failed(error)),
        }
    }

    /// TLS: into memory of the loop's, from where the connection takes it. That memory is not lent but taken, as
    /// the connection runs Python code while it reads.
    fn receive_ciphertext(slf: &Bound<'_, Self>, plan: &Plan) -> PyResult<()> {
        let py = slf.py();
        let buffers = &slf.get().event_loop.get().tls_buffers;
        let mut ciphertext = buffers.with(py, |buffers| buffers.take_ciphertext());
        let capacity = ciphertext.len();
        let outcome = match plan.source.read(&mut ciphertext) {
            Ok((0, _)) => Self::no_data(slf, plan, &Received::<()>::EndOfStream),
            Ok((count, stopped)) => {
                Self::after_read(slf, count, Offer::of(capacity, stopped));
                let outcome = call::in_context(py, &plan.context, || {
                    TlsConnection::received(plan.protocol.bind(py).cast()?, &ciphertext[..count])
                });
                Self::protocol_outcome(slf, outcome, "Fatal error: protocol.buffer_updated() call failed.")
            }
            Err(error) if error.would_block() => Self::no_data(slf, plan, &Received::<()>::Nothing),
            Err(error) => Self::no_data(slf, plan, &Received::<()>::Failed(error)),
        };
        buffers.with(py, |buffers| buffers.return_ciphertext(ciphertext));
        outcome
    }

    /// A read that left something, as far as is known, or came before an announced end, is followed by another one in
    /// the next turn.
    fn after_read(slf: &Bound<'_, Self>, count: usize, offer: Offer) {
        slf.get().event_loop.get().metrics.bytes_received.add(count as u64);
        let more = slf.get().inner.with(slf.py(), |inner| {
            inner.read_size.record(count, offer.capacity);
            inner.readable = offer.leaves_more(count) || inner.end_announced;
            inner.read_error = offer.failed;
            inner.readable && !inner.by_level
        });
        if more {
            Self::read_again(slf);
        }
    }

    fn no_data<T>(slf: &Bound<'_, Self>, plan: &Plan, received: &Received<T>) -> PyResult<()> {
        let py = slf.py();
        match received {
            Received::Data(_) => Ok(()),
            Received::Nothing => {
                slf.get().inner.with(py, |inner| inner.readable = false);
                Ok(())
            }
            Received::EndOfStream => Self::end_of_stream(slf, plan),
            Received::Failed(error) => {
                slf.get().inner.with(py, |inner| inner.readable = false);
                Self::fatal_error(slf, os_error(py, error), READ_ERROR)
            }
        }
    }

    fn end_of_stream(slf: &Bound<'_, Self>, plan: &Plan) -> PyResult<()> {
        let py = slf.py();
        slf.get().inner.with(py, |inner| {
            inner.readable = false;
            inner.life.read_eof();
        });
        log_debug(slf, "debug", "%r received EOF")?;
        let outcome = call::in_context(py, &plan.context, || {
            call::call_method0(py, &plan.protocol, name!(py, "eof_received").as_unbound())?.is_truthy()
        });
        match outcome {
            Ok(true) => Ok(()),
            // In the protocol's context, as everything that a read leads to.
            Ok(false) => call::in_context(py, &plan.context, || Self::close_transport(slf)),
            Err(error) => Self::protocol_outcome(slf, Err(error), "Fatal error: protocol.eof_received() call failed."),
        }
    }

    /// What a callback of the protocol raised ends the connection.
    fn protocol_outcome(slf: &Bound<'_, Self>, outcome: PyResult<()>, message: &str) -> PyResult<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if ends_the_run(slf.py(), &error) => Err(error),
            Err(error) => Self::fatal_error(slf, error, message),
        }
    }
}

impl Inner {
    /// `None`: nobody wants data now; `readable` keeps the event.
    fn plan_read(&mut self, py: Python<'_>) -> Option<Plan> {
        if !self.started || !self.life.is_reading() || self.life.is_lost() || self.life.is_at_end() {
            return None;
        }
        let protocol = self.protocol.as_ref()?.clone_ref(py);
        let context = self.read_context.as_ref()?.clone_ref(py);
        Some(Plan {
            source: self.source(),
            size: self.read_size.plan(),
            room: self.read_size.room(),
            failed: self.read_error.take(),
            kind: self.kind,
            protocol,
            context,
        })
    }
}
