//! Sending: now, at the end of the callback, or when the kernel has room again.
//!
//! ```text
//!   write --sent at once------------------------------------------------> done
//!         --held: the callback writes in pieces; sent together when it returns--> done
//!         --blocked: the socket is full; sent when it is writable--> done
//! ```
//!
//! Whether to hold is learned per transport from its recent callbacks: one that writes once has its
//! bytes on the wire before `write` returns, one that writes a header and a body pays one system call
//! for both. Whoever could tell the difference (the size of the buffer, `close`, `abort`) makes
//! what is held leave first.

use std::io::IoSlice;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::Borrowed;

use super::endpoint::{self, call_flow, queue_event, warn_of_write_after_loss, with_pieces};
use super::outgoing::{Outgoing, LARGEST_BATCHED, LARGEST_HOLD};
use super::stream::{Inner, StreamTransport};
use super::tls::connection::TlsConnection;
use crate::asyncio::event_loop::Writing;
use crate::asyncio::protocol::ProtocolKind;
use crate::engine;
use crate::engine::metrics::Count;
use crate::engine::reactor::Readiness;
use crate::engine::stream::{DrainedAction, EofAction};
use crate::engine::sys::socket;
use crate::py::buffer::Data;
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::names::name;

const WRITE_ERROR: &str = "Fatal write error on socket transport";
/// Callbacks that write once, after one that wrote in pieces, until writes leave at once again.
const PATIENCE: u8 = 2;
/// Chunks per system call.
const CHUNKS_PER_SEND: usize = 64;
/// Bytes that one transport sends per turn before the others get theirs.
const BYTES_PER_TURN: usize = 1024 * 1024;

/// What a transport has learned about the way its protocol writes.
#[derive(Clone, Copy, Default)]
pub struct Gather {
    epoch: u64,
    writes: u32,
    patience: u8,
}

impl Gather {
    /// Takes note of a write of `length` bytes; true: hold it until the end of the callback, or of the turn.
    pub fn holds(&mut self, writing: Writing, length: usize) -> bool {
        self.note_write(writing.epoch) || writing.together && length <= LARGEST_BATCHED
    }

    /// Takes note of a write in callback number `epoch`; true: more are likely to follow in the same one.
    fn note_write(&mut self, epoch: u64) -> bool {
        if self.epoch == epoch {
            self.writes += 1;
        } else {
            self.patience = if self.writes > 1 { PATIENCE } else { self.patience.saturating_sub(1) };
            self.epoch = epoch;
            self.writes = 1;
        }
        self.writes > 1 || self.patience > 0
    }
}

/// What `write` has to do once nothing is borrowed any more.
enum Written {
    Done,
    /// Held, for the first time in this callback.
    Hold,
    /// Held, and too much of it.
    FlushNow,
    /// The socket is full; `pause`: and the queue is above the high-water mark.
    Blocked {
        pause: bool,
    },
    Failed(engine::Error),
    AfterEof,
    DuringSendfile,
    AfterLoss {
        warn: bool,
    },
}

/// How far sending what is queued got.
enum Sent {
    All,
    Blocked,
    TurnIsOver,
    Failed(engine::Error),
}

impl Inner {
    fn check_writable(&mut self, empty: bool) -> Option<Written> {
        if self.life.is_eof() {
            return Some(Written::AfterEof);
        }
        if self.empty_waiter.is_some() {
            return Some(Written::DuringSendfile);
        }
        if empty {
            return Some(Written::Done);
        }
        if self.life.is_lost() {
            return Some(Written::AfterLoss { warn: self.life.write_after_lost() });
        }
        None
    }

    /// `send`: as `socket::send`, or `send_part`.
    #[inline]
    fn write(
        &mut self,
        data: &mut impl Outgoing,
        writing: Option<Writing>,
        send: impl Fn(RawFd, &[u8]) -> engine::Result<usize>,
        sent: &Count,
    ) -> Written {
        let bytes = data.as_slice();
        let length = bytes.len();
        if let Some(refused) = self.check_writable(bytes.is_empty()) {
            return refused;
        }
        let hold = writing.is_some_and(|writing| self.gather.holds(writing, length)) && length < LARGEST_HOLD;
        if self.queue.is_empty() && !hold {
            match send(self.registration.fd, bytes) {
                Ok(count) => {
                    sent.add(count as u64);
                    if count == length {
                        return Written::Done;
                    }
                    self.push(data, count);
                }
                Err(error) if error.would_block() => self.push(data, 0),
                Err(error) => return Written::Failed(error),
            }
            self.blocked = true;
            return Written::Blocked { pause: self.flow.after_push(self.queue.len_bytes()) };
        }
        self.push(data, 0);
        self.after_hold()
    }

    /// Something was put into the queue without an attempt to send it.
    fn after_hold(&mut self) -> Written {
        if self.blocked {
            return Written::Blocked { pause: self.flow.after_push(self.queue.len_bytes()) };
        }
        if self.queue.len_bytes() >= LARGEST_HOLD {
            return Written::FlushNow;
        }
        if std::mem::replace(&mut self.held, true) {
            Written::Done
        } else {
            Written::Hold
        }
    }

    fn push(&mut self, data: &mut impl Outgoing, offset: usize) {
        let (chunk, start) = data.chunk_from(offset);
        self.queue.push_from(chunk, start);
    }

    /// The TLS connection whose records may be held, if something is.
    fn tls_above(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let protocol = self.protocol.as_ref().filter(|_| self.held && self.kind == ProtocolKind::Tls);
        protocol.map(|protocol| protocol.clone_ref(py))
    }

    fn send_queued(&mut self, sent: &Count) -> Sent {
        let mut budget = BYTES_PER_TURN;
        while !self.queue.is_empty() {
            let fd = self.registration.fd;
            let (outcome, offered) = self.queue.with_slices(CHUNKS_PER_SEND, |slices: &[IoSlice<'_>]| {
                let offered: usize = slices.iter().map(|slice| slice.len()).sum();
                let outcome = match slices {
                    [single] => socket::send(fd, single),
                    many => socket::send_vectored(fd, many),
                };
                (outcome, offered)
            });
            match outcome {
                Ok(count) => {
                    sent.add(count as u64);
                    self.queue.advance(count);
                    if count < offered {
                        return Sent::Blocked;
                    }
                    budget = budget.saturating_sub(count);
                    if budget == 0 && !self.queue.is_empty() {
                        return Sent::TurnIsOver;
                    }
                }
                Err(error) if error.would_block() => return Sent::Blocked,
                Err(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }
}

impl StreamTransport {
    pub fn write_data(slf: &Bound<'_, Self>, object: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some(mut data) = Data::new(object)? else {
            let class = object.get_type();
            let expected = if cfg!(Py_3_14) { "bytes, bytearray, or memoryview" } else { "bytes-like" };
            return Err(PyTypeError::new_err(format!(
                "data argument must be a {expected} object, not '{}'",
                class.name()?
            )));
        };
        let this = slf.get();
        let event_loop = this.event_loop.get();
        let writing = event_loop.note_write();
        let written =
            this.inner.with(py, |inner| inner.write(&mut data, writing, socket::send, &event_loop.metrics.bytes_sent));
        match written {
            Written::Done => Ok(()),
            other => Self::after_write(slf, other, "write()", "write"),
        }
    }

    /// Sends TLS records; `portion`: more of them follow at once.
    pub fn write_records(slf: &Bound<'_, Self>, records: &mut impl Outgoing, portion: bool) -> PyResult<()> {
        let this = slf.get();
        let sent = &this.event_loop.get().metrics.bytes_sent;
        let send = |fd, data: &[u8]| if portion { socket::send_part(fd, data) } else { socket::send(fd, data) };
        let written = this.inner.with(slf.py(), |inner| inner.write(records, None, send, sent));
        Self::after_write(slf, written, "write()", "write")
    }

    /// Has `flush` send the records of the TLS connection above at the end of the callback. False: they are to be sent now.
    pub fn flush_records_later(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        let this = slf.get();
        let (held, blocked) = this.inner.with(py, |inner| (inner.held, inner.blocked));
        // What is held in a forked child is the parent's, see `flush`.
        if held || blocked || this.event_loop.get().is_inherited(py) {
            return held;
        }
        this.inner.with(py, |inner| inner.held = true);
        this.event_loop.get().flush_later(py, slf.clone().unbind());
        true
    }

    #[inline(never)]
    fn after_write(slf: &Bound<'_, Self>, written: Written, method: &str, verb: &str) -> PyResult<()> {
        let py = slf.py();
        match written {
            Written::Done => Ok(()),
            // What is held in a forked child is the parent's, see `flush`.
            Written::Hold if slf.get().event_loop.get().is_inherited(py) => Self::flush_now(slf),
            Written::Hold => {
                slf.get().event_loop.get().flush_later(py, slf.clone().unbind());
                Ok(())
            }
            Written::FlushNow => Self::flush_now(slf),
            Written::Blocked { pause } => Self::wait_for_room(slf, pause),
            Written::Failed(error) => Self::fatal_error(slf, os_error(py, &error), WRITE_ERROR),
            Written::AfterEof => Err(PyRuntimeError::new_err(format!("Cannot call {method} after write_eof()"))),
            Written::DuringSendfile => {
                Err(PyRuntimeError::new_err(format!("unable to {verb}; sendfile is in progress")))
            }
            Written::AfterLoss { warn } => warn_of_write_after_loss(py, warn, "socket.send() raised exception."),
        }
    }

    /// The socket is full: the reactor will say when there is room.
    fn wait_for_room(slf: &Bound<'_, Self>, pause: bool) -> PyResult<()> {
        let py = slf.py();
        if slf.get().inner.with(py, |inner| inner.write_context.is_none()) {
            let context = call::copy_context(py)?;
            slf.get().inner.with(py, |inner| inner.write_context = Some(context));
        }
        Self::ensure_registered(slf)?;
        Self::watch_edges(slf)?;
        if pause {
            call_flow(slf, true)
        } else {
            Ok(())
        }
    }

    pub fn write_lines(slf: &Bound<'_, Self>, list: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let written = with_pieces(list, |mut pieces| {
            let empty = pieces.iter().all(|piece| piece.as_slice().is_empty());
            Ok(slf.get().inner.with(py, |inner| {
                if let Some(refused) = inner.check_writable(empty) {
                    return refused;
                }
                for piece in &mut pieces {
                    inner.push(piece, 0);
                }
                match inner.blocked {
                    true => inner.after_hold(),
                    false => Written::FlushNow,
                }
            }))
        })?;
        // Before 3.12 `writelines` is a `write` of the joined pieces, and says so.
        let (method, verb) = if cfg!(Py_3_12) { ("writelines()", "writelines") } else { ("write()", "write") };
        Self::after_write(slf, written, method, verb)
    }

    /// Sends what is held, if anything is.
    pub fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (held, above) = slf.get().inner.with(py, |inner| (inner.held, inner.tls_above(py)));
        if !held {
            return Ok(());
        }
        let above = above.as_ref().map(|above| above.bind(py).cast::<TlsConnection>()).transpose()?;
        if slf.get().event_loop.get().is_inherited(py) {
            // The fork has come in between; the parent sends it.
            let _parents = slf.get().inner.with(py, |inner| {
                inner.held = false;
                std::mem::take(&mut inner.queue)
            });
            return above.map_or(Ok(()), TlsConnection::drop_records);
        }
        Self::flush_now(slf)?;
        above.map_or(Ok(()), TlsConnection::flush_records)
    }

    fn flush_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let sent = slf.get().inner.with(py, |inner| {
            inner.held = false;
            if inner.life.is_lost() || inner.blocked {
                return None;
            }
            let sent = inner.send_queued(&slf.get().event_loop.get().metrics.bytes_sent);
            inner.blocked = matches!(sent, Sent::Blocked | Sent::TurnIsOver);
            let pause = inner.blocked && inner.flow.after_push(inner.queue.len_bytes());
            Some((sent, pause))
        });
        match sent {
            None | Some((Sent::All, _)) => Ok(()),
            Some((Sent::Blocked, pause)) => Self::wait_for_room(slf, pause),
            Some((Sent::TurnIsOver, pause)) => {
                Self::wait_for_room(slf, pause)?;
                Self::write_on(slf);
                Ok(())
            }
            Some((Sent::Failed(error), _)) => Self::write_failed(slf, &error),
        }
    }

    fn write_failed(slf: &Bound<'_, Self>, error: &engine::Error) -> PyResult<()> {
        let py = slf.py();
        let (_dropped, waiter) = slf.get().inner.with(py, |inner| {
            inner.blocked = false;
            (std::mem::take(&mut inner.queue), inner.empty_waiter.as_ref().map(|it| it.clone_ref(py)))
        });
        let exception = os_error(py, error);
        let for_waiter = exception.clone_ref(py);
        Self::fatal_error(slf, exception, WRITE_ERROR)?;
        if let Some(waiter) = waiter {
            set_exception(waiter.bind(py), for_waiter)?;
        }
        Ok(())
    }

    /// Queues the next part of a long queue behind what others wait for.
    fn write_on(slf: &Bound<'_, Self>) {
        if !slf.get().inner.with(slf.py(), |inner| std::mem::replace(&mut inner.writes_on, true)) {
            queue_event(slf, Readiness::WRITE_ON);
        }
    }

    /// The kernel has room again.
    pub fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let outcome = slf.get().inner.with(py, |inner| {
            if inner.life.is_lost() || !inner.blocked {
                return None;
            }
            let sent = inner.send_queued(&slf.get().event_loop.get().metrics.bytes_sent);
            let resume = !matches!(sent, Sent::Failed(_)) && inner.flow.after_drain(inner.queue.len_bytes());
            let context = inner.write_context.as_ref().map(|context| context.clone_ref(py));
            if matches!(sent, Sent::All) {
                inner.blocked = false;
                inner.write_context = None;
            }
            Some((sent, resume, context))
        });
        let Some((sent, resume, context)) = outcome else { return Ok(()) };
        let context = match context {
            Some(context) => context,
            None => call::copy_context(py)?,
        };
        call::in_context(py, &context, || {
            match sent {
                Sent::Failed(error) => return Self::write_failed(slf, &error),
                Sent::TurnIsOver => Self::write_on(slf),
                Sent::All | Sent::Blocked => {}
            }
            if resume {
                // It may write, and thereby fill the queue again.
                call_flow(slf, false)?;
            }
            Self::after_drain(slf)
        })
    }

    /// What waited for the queue to be empty: the end of `sendfile`'s wait, of the connection, of the write side.
    fn after_drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (waiter, action) = slf.get().inner.with(py, |inner| {
            if !inner.queue.is_empty() {
                return (None, DrainedAction::Nothing);
            }
            (inner.empty_waiter.as_ref().map(|waiter| waiter.clone_ref(py)), inner.life.drained())
        });
        if let Some(waiter) = waiter {
            imports(py)?.set_result_unless_cancelled.call1(py, (waiter, py.None()))?;
        }
        match action {
            DrainedAction::Nothing => Ok(()),
            DrainedAction::Lose => Self::connection_lost(slf, None),
            DrainedAction::ShutdownWrite => Self::shutdown_write(slf),
        }
    }

    pub fn half_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf)?;
        let py = slf.py();
        let action = slf.get().inner.with(py, |inner| {
            let empty = inner.queue.is_empty();
            inner.life.write_eof(empty)
        });
        match action {
            EofAction::Nothing | EofAction::ShutdownAfterDrain => Ok(()),
            EofAction::ShutdownNow => Self::shutdown_write(slf),
        }
    }

    fn shutdown_write(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if slf.get().event_loop.get().is_inherited(py) {
            // It would be the end of what the parent sends, too.
            return Ok(());
        }
        let fd = slf.get().inner.with(py, |inner| inner.registration.fd);
        socket::shutdown_write(fd).map_err(|error| os_error(py, &error))
    }

    pub fn set_water_marks(slf: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let pause = slf
            .get()
            .inner
            .with(slf.py(), |inner| endpoint::set_water_marks(&mut inner.flow, inner.queue.len_bytes(), high, low))?;
        if pause {
            call_flow(slf, true)
        } else {
            Ok(())
        }
    }

    pub fn make_empty_waiter(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::flush(slf)?;
        let py = slf.py();
        let this = slf.get();
        if this.inner.with(py, |inner| inner.empty_waiter.is_some()) {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = this.event_loop.bind(py).call_method0(name!(py, "create_future"))?.unbind();
        let kept = waiter.clone_ref(py);
        let (empty, _previous) =
            this.inner.with(py, |inner| (inner.queue.is_empty(), inner.empty_waiter.replace(kept)));
        if empty {
            waiter.bind(py).call_method1(name!(py, "set_result"), (py.None(),))?;
        }
        Ok(waiter)
    }
}

/// Tells whoever waits for the queue that the connection is gone.
pub fn fail_empty_waiter(py: Python<'_>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let _ = py;
    set_exception(waiter, PyConnectionError::new_err("Connection is closed by peer"))
}

fn set_exception(waiter: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = waiter.py();
    if waiter.call_method0(name!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    waiter.call_method1(name!(py, "set_exception"), (error.into_value(py),)).map(drop)
}
