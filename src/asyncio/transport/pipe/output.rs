//! What a writing end does: write now, queue, go on when there is room, end.
//!
//! ```text
//!   write --taken at once--> done
//!         --blocked: the pipe is full; written when the kernel has room--> done
//! ```
//!
//! `bytes` are queued without a copy. What is written after the end is dropped, and warned of from the sixth time on.

use std::io::IoSlice;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::Borrowed;

use super::writing::{Inner, WritePipeTransport};
use super::GROWN_PIPE;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::transport::endpoint;
use crate::asyncio::transport::info::Descriptor;
use crate::engine;
use crate::engine::reactor::{Interest, Readiness};
use crate::engine::stream::write_queue::MOST_SLICES;
use crate::engine::stream::DrainedAction;
use crate::engine::sys::file;
use crate::py::buffer::Data;
use crate::py::call;
use crate::py::error::os_error;

const WRITE_ERROR: &str = "Fatal write error on pipe transport";
/// Writes after the end that are dropped without a warning (asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES).
const SILENT_DROPS: u32 = 5;
/// Bytes that one transport writes per turn before the others get theirs.
const BYTES_PER_TURN: usize = 1024 * 1024;

/// What `write` has to do once nothing is lent any more.
enum Written {
    Done,
    Blocked { pause: bool },
    Failed(engine::Error),
    Dropped { warn: bool },
}

/// How far writing what is queued got.
enum Sent {
    All,
    More,
    Failed(engine::Error),
}

impl Inner {
    /// Whether a write is too late.
    fn refuse(&mut self) -> Option<Written> {
        if !self.life.is_closing() && !self.life.is_lost() {
            return None;
        }
        let warn = self.dropped_writes >= SILENT_DROPS;
        self.dropped_writes = self.dropped_writes.saturating_add(1);
        Some(Written::Dropped { warn })
    }

    fn write(&mut self, data: &Data<'_, '_>) -> Written {
        let bytes = data.as_slice();
        if bytes.is_empty() {
            return Written::Done;
        }
        if let Some(refused) = self.refuse() {
            return refused;
        }
        let mut done = 0;
        if self.queue.is_empty() {
            match file::write(self.registration.fd, bytes) {
                Ok(count) if count == bytes.len() => return Written::Done,
                Ok(count) => done = count,
                Err(error) if error.would_block() => {}
                Err(error) => return Written::Failed(error),
            }
        }
        let (chunk, start) = data.chunk_from(done);
        self.queue.push_from(chunk, start);
        self.block()
    }

    fn block(&mut self) -> Written {
        self.blocked = true;
        if self.growable && self.queue.len_bytes() >= GROWN_PIPE {
            self.growable = false;
            // Refused by the kernel: it stays as it is.
            let _ = file::set_pipe_size(self.registration.fd, GROWN_PIPE);
        }
        Written::Blocked { pause: self.flow.after_push(self.queue.len_bytes()) }
    }

    fn write_queued(&mut self) -> Sent {
        let mut budget = BYTES_PER_TURN;
        while !self.queue.is_empty() {
            let fd = self.registration.fd;
            let (outcome, offered) = self.queue.with_slices(MOST_SLICES, |slices: &[IoSlice<'_>]| {
                let outcome = match slices {
                    [single] => file::write(fd, single),
                    many => file::write_vectored(fd, many),
                };
                (outcome, slices.iter().map(|slice| slice.len()).sum::<usize>())
            });
            match outcome {
                Ok(count) => {
                    self.queue.advance(count);
                    budget = budget.saturating_sub(count);
                    // Less than was offered: the pipe is full, and would say so if it were asked.
                    if budget == 0 || count < offered {
                        break;
                    }
                }
                Err(error) if error.would_block() => break,
                Err(error) => return Sent::Failed(error),
            }
        }
        if self.queue.is_empty() {
            Sent::All
        } else {
            Sent::More
        }
    }
}

impl WritePipeTransport {
    /// The reader has gone, or there is room.
    pub fn on_event(slf: &Bound<'_, Self>, readiness: Readiness) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.watches_reader && readiness.readable() {
            let context =
                this.inner.with(py, |inner| inner.watch_context.as_ref().map(|context| context.clone_ref(py)));
            if let Some(context) = context {
                return call::in_context(py, &context, || Self::reader_gone(slf));
            }
        }
        if !readiness.writable() {
            return Ok(());
        }
        match this.inner.with(py, |inner| inner.blocked) {
            true => Self::write_ready(slf),
            // Nothing has been written since the pipe was last full.
            false => Self::update_interest(slf),
        }
    }

    fn reader_gone(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        endpoint::log_debug(slf, "info", "%r was closed by peer")?;
        let unsent = slf.get().inner.with(py, |inner| !inner.queue.is_empty());
        let exception = unsent.then(|| PyBrokenPipeError::new_err(()).into_value(py).into_bound(py).into_any());
        endpoint::force_close(slf, exception)
    }

    fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let outcome = slf.get().inner.with(py, |inner| {
            if inner.life.is_lost() || !inner.blocked {
                return None;
            }
            let sent = inner.write_queued();
            let resume = !matches!(sent, Sent::Failed(_)) && inner.flow.after_drain(inner.queue.len_bytes());
            Some((sent, resume, inner.write_context.as_ref().map(|context| context.clone_ref(py))))
        });
        let Some((sent, resume, context)) = outcome else { return Ok(()) };
        let context = match context {
            Some(context) => context,
            None => call::copy_context(py)?,
        };
        call::in_context(py, &context, || {
            if let Sent::Failed(error) = sent {
                return Self::write_failed(slf, &error);
            }
            if resume {
                // It may write, and thereby fill the queue again.
                endpoint::call_flow(slf, false)?;
            }
            Self::after_drain(slf)
        })
    }

    fn write_failed(slf: &Bound<'_, Self>, error: &engine::Error) -> PyResult<()> {
        let py = slf.py();
        slf.get().inner.with(py, |inner| inner.dropped_writes += 1);
        endpoint::fatal_error(slf, os_error(py, error), true, WRITE_ERROR)
    }

    fn after_drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (action, _dropped) = slf.get().inner.with(py, |inner| {
            if !inner.queue.is_empty() {
                return (DrainedAction::Nothing, None);
            }
            inner.blocked = false;
            (inner.life.drained(), inner.write_context.take())
        });
        match action {
            DrainedAction::Lose => Self::lose(slf, None),
            // The registration stays until an event finds nothing to write: whoever fills a pipe once will do so again,
            // and a change costs a system call.
            DrainedAction::Nothing | DrainedAction::ShutdownWrite => Ok(()),
        }
    }

    /// Registers for what the state asks for.
    pub fn update_interest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let wanted = slf.get().inner.with(slf.py(), |inner| {
            let read = if inner.started && slf.get().watches_reader { Interest::READ } else { Interest::NONE };
            let write = if inner.blocked { Interest::WRITE } else { Interest::NONE };
            (!inner.life.is_lost()).then_some(read | write)
        });
        wanted.map_or(Ok(()), |wanted| endpoint::watch(slf, wanted))
    }

    pub fn write_data(slf: &Bound<'_, Self>, object: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let Some(data) = Data::new(object)? else {
            // What asyncio raises for it.
            return Err(PyAssertionError::new_err(object.repr()?.unbind()));
        };
        let written = slf.get().inner.with(slf.py(), |inner| inner.write(&data));
        drop(data);
        Self::after_write(slf, written)
    }

    fn after_write(slf: &Bound<'_, Self>, written: Written) -> PyResult<()> {
        let py = slf.py();
        match written {
            Written::Done => Ok(()),
            Written::Failed(error) => Self::write_failed(slf, &error),
            Written::Dropped { warn } => {
                let message = "pipe closed by peer or os.write(pipe, data) raised exception.";
                endpoint::warn_of_write_after_loss(py, warn, message)
            }
            Written::Blocked { pause } => {
                if slf.get().inner.with(py, |inner| inner.write_context.is_none()) {
                    let context = call::copy_context(py)?;
                    let _previous = slf.get().inner.with(py, |inner| inner.write_context.replace(context));
                }
                Self::update_interest(slf)?;
                if pause {
                    endpoint::call_flow(slf, true)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Tells the protocol, once, and closes the pipe, whatever the protocol raises.
    pub fn lose(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let outcome = endpoint::tell_lost(slf, exception);
        let this = slf.get();
        let (descriptor, _dropped) = this.inner.with(py, |inner| {
            let descriptor = std::mem::replace(&mut inner.descriptor, Descriptor::Closed);
            let contexts = (inner.watch_context.take(), inner.write_context.take());
            (descriptor, (inner.protocol.take(), contexts, std::mem::take(&mut inner.queue)))
        });
        let closed = descriptor.close(py);
        LoopCore::descriptor_freed(this.event_loop.bind(py))?;
        outcome.and(closed)
    }

    pub fn is_open(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| !matches!(inner.descriptor, Descriptor::Closed))
    }

    pub fn write_lines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = list_of_data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let mut pieces = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Some(data) = Data::new(item.as_borrowed())? else {
                let class = item.get_type();
                let name = class.name()?;
                let message = format!("sequence item {index}: expected a bytes-like object, {name} found");
                return Err(PyTypeError::new_err(message));
            };
            pieces.push(data);
        }
        let written = slf.get().inner.with(slf.py(), |inner| {
            if pieces.iter().all(|piece| piece.as_slice().is_empty()) {
                return Written::Done;
            }
            if let Some(refused) = inner.refuse() {
                return refused;
            }
            for piece in &pieces {
                inner.queue.push(piece.chunk_from(0).0);
            }
            match if inner.blocked { Sent::More } else { inner.write_queued() } {
                Sent::All => Written::Done,
                Sent::More => inner.block(),
                Sent::Failed(error) => Written::Failed(error),
            }
        });
        drop(pieces);
        Self::after_write(slf, written)
    }
}
