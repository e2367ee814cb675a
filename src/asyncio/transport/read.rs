//! Receiving: from the reactor's event to the protocol's callback.
//!
//! One read per turn and transport, as asyncio does it: a peer that floods waits for its next turn
//! like everybody else. The registration is edge-triggered, so `readable` remembers what the kernel
//! will not say again: after a full read, or an event that announced the end of the stream, the
//! transport queues the next read itself.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::endpoint::{log_debug, queue_event};
use super::stream::{Inner, StreamTransport};
use super::tls::connection::TlsConnection;
use crate::asyncio::event_loop::report::ends_the_run;
use crate::asyncio::protocol::ProtocolKind;
use crate::engine;
use crate::engine::reactor::Readiness;
use crate::engine::stream::read_size::ReadPlan;
use crate::engine::sys::socket;
use crate::py::buffer::{bytes_filled_by, WritableBuffer};
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;

/// What one call of asyncio's loop receives at the most.
const LARGEST_READ: usize = 256 * 1024;

/// What a read needs to know.
struct Plan {
    fd: i32,
    size: ReadPlan,
    kind: ProtocolKind,
    protocol: Py<PyAny>,
    context: Py<PyAny>,
}

/// How a read into memory ended.
enum Received<T> {
    Data(T),
    EndOfStream,
    Nothing,
    Failed(engine::Error),
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
        let py = slf.py();
        if slf.get().inner.with(py, |inner| inner.readable && inner.life.is_reading()) {
            queue_event(slf, Readiness::READABLE);
        }
    }

    /// There is something to read; `ended`: and the end of the stream behind it.
    pub fn read_ready(slf: &Bound<'_, Self>, ended: bool) -> PyResult<()> {
        let py = slf.py();
        let plan = slf.get().inner.with(py, |inner| {
            inner.readable = true;
            inner.end_announced |= ended;
            inner.plan_read(py)
        });
        let Some(plan) = plan else { return Ok(()) };
        match plan.kind {
            ProtocolKind::Streaming => Self::receive_bytes(slf, &plan),
            ProtocolKind::Buffered => Self::receive_into_buffer(slf, &plan),
            ProtocolKind::Tls => Self::receive_ciphertext(slf, &plan),
        }
    }

    fn receive_bytes(slf: &Bound<'_, Self>, plan: &Plan) -> PyResult<()> {
        let py = slf.py();
        let (received, capacity) = match plan.size {
            ReadPlan::Exact => Self::receive_exact(slf, plan)?,
            ReadPlan::Scratch => Self::receive_scratch(slf, plan),
        };
        match received {
            Received::Data(data) => {
                let count = data.len().unwrap_or_default();
                Self::after_read(slf, count, capacity);
                let name = &imports(py)?.data_received;
                let outcome = call::in_context(py, &plan.context, || {
                    call::call_method1(py, &plan.protocol, name, &data).map(drop)
                });
                Self::protocol_outcome(slf, outcome, "Fatal error: protocol.data_received() call failed.")
            }
            other => Self::no_data(slf, plan, &other),
        }
    }

    /// Small messages: received into the loop's buffer, copied into `bytes` of their own size.
    fn receive_scratch<'py>(slf: &Bound<'py, Self>, plan: &Plan) -> (Received<Bound<'py, PyAny>>, usize) {
        let py = slf.py();
        slf.get().event_loop.get().scratch(py, |scratch| {
            let received = match socket::recv(plan.fd, scratch) {
                Ok(0) => Received::EndOfStream,
                Ok(count) => Received::Data(PyBytes::new(py, &scratch[..count]).into_any()),
                Err(error) if error.would_block() => Received::Nothing,
                Err(error) => Received::Failed(error),
            };
            (received, scratch.len())
        })
    }

    /// Large ones: the kernel says how much there is, and it is received straight into `bytes` of that size.
    fn receive_exact<'py>(slf: &Bound<'py, Self>, plan: &Plan) -> PyResult<(Received<Bound<'py, PyAny>>, usize)> {
        let py = slf.py();
        let available = socket::bytes_available(plan.fd).unwrap_or_default();
        if available == 0 {
            return Ok(Self::receive_scratch(slf, plan));
        }
        let capacity = available.min(LARGEST_READ);
        let outcome =
            bytes_filled_by(py, capacity, |memory| socket::recv_uninit(plan.fd, memory).map_err(ReceiveError::Kernel));
        let received = match outcome {
            Ok(data) if data.len()? == 0 => Received::EndOfStream,
            Ok(data) => Received::Data(data),
            Err(ReceiveError::Kernel(error)) if error.would_block() => Received::Nothing,
            Err(ReceiveError::Kernel(error)) => Received::Failed(error),
            Err(ReceiveError::Python(error)) => return Err(error),
        };
        Ok((received, capacity))
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
            Err(error) => return Self::protocol_outcome(slf, Err(error), "Fatal read error on socket transport"),
        };
        let capacity = memory.memory().len();
        let outcome = socket::recv(plan.fd, memory.memory());
        memory.release(py);
        match outcome {
            Ok(0) => Self::no_data(slf, plan, &Received::<()>::EndOfStream),
            Ok(count) => {
                Self::after_read(slf, count, capacity);
                let count = count.into_pyobject(py)?.into_any();
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
        let outcome = match socket::recv(plan.fd, &mut ciphertext) {
            Ok(0) => Self::no_data(slf, plan, &Received::<()>::EndOfStream),
            Ok(count) => {
                Self::after_read(slf, count, capacity);
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

    /// A read that filled its buffer, or came before an announced end, is followed by another one in the next turn.
    fn after_read(slf: &Bound<'_, Self>, count: usize, capacity: usize) {
        let more = slf.get().inner.with(slf.py(), |inner| {
            inner.read_size.record(count);
            inner.readable = count == capacity || inner.end_announced;
            inner.readable
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
                Self::fatal_error(slf, os_error(py, error), "Fatal read error on socket transport")
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
            plan.protocol.bind(py).call_method0(intern!(py, "eof_received"))?.is_truthy()
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
    fn plan_read(&self, py: Python<'_>) -> Option<Plan> {
        if !self.started || !self.life.is_reading() || self.life.is_lost() || self.life.is_at_end() {
            return None;
        }
        Some(Plan {
            fd: self.registration.fd,
            size: self.read_size.plan(),
            kind: self.kind,
            protocol: self.protocol.as_ref()?.clone_ref(py),
            context: self.read_context.as_ref()?.clone_ref(py),
        })
    }
}

/// What can go wrong between the kernel and a new `bytes`.
enum ReceiveError {
    Kernel(engine::Error),
    Python(PyErr),
}

impl From<PyErr> for ReceiveError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}
