//! `WritePipeTransport`: the writing end of a pipe and its protocol.
//!
//! Owned by the loop's thread; the protocol is called while nothing is lent.
//!
//! ```text
//!   made --connection_made--> open
//!     close, write_eof: closing, what is queued is still written --> lost (connection_lost(None))
//!     the reader goes away:                        --> lost (BrokenPipeError if something was queued)
//!     abort, error:                                --> lost (connection_lost(exception))
//! ```
//!
//! The writing end of a pipe never becomes readable, but its registration for reading reports when the last reader has
//! gone, also while nobody writes. A socket that becomes readable counts as closed by its peer, as in asyncio.

use std::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3::{ffi, Borrowed};

use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::transport::endpoint::{self, Endpoint, Registration};
use crate::asyncio::transport::info::{self, Descriptor};
use crate::engine;
use crate::engine::reactor::{Interest, Readiness};
use crate::engine::stream::flow::FlowControl;
use crate::engine::stream::write_queue::{WriteQueue, MOST_SLICES};
use crate::engine::stream::{CloseAction, DrainedAction, StreamCore};
use crate::engine::sys::file::{self, FileKind};
use crate::py::buffer::{Data, SendChunk};
use crate::py::call::{self, add_fast_method, Arguments, FastMethod};
use crate::py::class::{new_with_dict, Finalize};
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;

const WRITE_ERROR: &str = "Fatal write error on pipe transport";
/// Writes after the end that are dropped without a warning (asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES).
const SILENT_DROPS: u32 = 5;
/// Bytes that one transport writes per turn before the others get theirs.
const BYTES_PER_TURN: usize = 1024 * 1024;

/// The state of a transport.
struct Inner {
    life: StreamCore,
    queue: WriteQueue<SendChunk>,
    flow: FlowControl,
    registration: Registration,
    descriptor: Descriptor,
    protocol: Option<Py<PyAny>>,
    /// The context of the creator: that the reader has gone is noticed in it.
    watch_context: Option<Py<PyAny>>,
    /// The context of the write that found the pipe full.
    write_context: Option<Py<PyAny>>,
    started: bool,
    /// The pipe is full: what is queued waits for the kernel.
    blocked: bool,
    /// Writes that were dropped, the one that failed among them.
    dropped_writes: u32,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, dict, module = "ironloop._native")]
pub struct WritePipeTransport {
    event_loop: Py<LoopCore>,
    extra: Py<PyDict>,
    /// A registration for reading tells that the reader has gone; character devices have no such thing.
    watches_reader: bool,
    inner: LoopOwned<Inner>,
}

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
        Written::Blocked { pause: self.flow.after_push(self.queue.len_bytes()) }
    }

    fn write_queued(&mut self) -> Sent {
        let mut budget = BYTES_PER_TURN;
        while !self.queue.is_empty() {
            let fd = self.registration.fd;
            let outcome = self.queue.with_slices(MOST_SLICES, |slices: &[IoSlice<'_>]| match slices {
                [single] => file::write(fd, single),
                many => file::write_vectored(fd, many),
            });
            match outcome {
                Ok(count) => {
                    self.queue.advance(count);
                    budget = budget.saturating_sub(count);
                    if budget == 0 {
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

impl Endpoint for WritePipeTransport {
    fn event_loop(&self) -> &Py<LoopCore> {
        &self.event_loop
    }

    fn protocol_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    fn registration<R>(&self, py: Python<'_>, body: impl FnOnce(&mut Registration) -> R) -> R {
        self.inner.with(py, |inner| body(&mut inner.registration))
    }

    fn source(slf: &Bound<'_, Self>) -> Source {
        Source::WritePipe(slf.clone().unbind())
    }

    fn take_descriptor(&self, py: Python<'_>) -> Descriptor {
        self.inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, Descriptor::Closed))
    }

    fn abandon(&self, py: Python<'_>) -> bool {
        let (schedule, _dropped) = self.inner.with(py, |inner| {
            inner.blocked = false;
            (inner.life.abort(), std::mem::take(&mut inner.queue))
        });
        schedule
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
        if readiness.writable() {
            Self::write_ready(slf)?;
        }
        Ok(())
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
            DrainedAction::Nothing | DrainedAction::ShutdownWrite => Self::update_interest(slf),
        }
    }

    /// Registers for what the state asks for.
    fn update_interest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let wanted = slf.get().inner.with(slf.py(), |inner| {
            let read = if inner.started && slf.get().watches_reader { Interest::READ } else { Interest::NONE };
            let write = if inner.blocked { Interest::WRITE } else { Interest::NONE };
            (!inner.life.is_lost()).then_some(read | write)
        });
        wanted.map_or(Ok(()), |wanted| endpoint::watch(slf, wanted))
    }

    fn write_data(slf: &Bound<'_, Self>, object: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
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
    fn lose(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
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

    fn is_open(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| !matches!(inner.descriptor, Descriptor::Closed))
    }
}

#[pymethods]
impl WritePipeTransport {
    /// `loop._make_write_pipe_transport`: takes over a file object, whose `close()` it calls in the end.
    ///
    /// Raises ValueError for a regular file.
    #[new]
    #[pyo3(signature = (event_loop, pipe, protocol, waiter=None, extra=None))]
    fn new<'py>(
        event_loop: &Bound<'py, LoopCore>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let fd = info::fileno(pipe)?;
        let kind = file::kind(fd).map_err(|error| os_error(py, &error))?;
        if kind == FileKind::Other {
            let message = "Pipe transport is only for pipes, sockets and character devices";
            return Err(PyValueError::new_err(message));
        }
        file::set_nonblocking(fd).map_err(|error| os_error(py, &error))?;
        let inner = Inner {
            life: StreamCore::new(),
            queue: WriteQueue::new(),
            flow: FlowControl::new(),
            registration: Registration::new(fd),
            descriptor: Descriptor::Object(pipe.clone().unbind()),
            protocol: Some(protocol.clone().unbind()),
            watch_context: None,
            write_context: None,
            started: false,
            blocked: false,
            dropped_writes: 0,
        };
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            extra: info::with_pipe(extra, pipe)?,
            watches_reader: kind != FileKind::Character,
            inner: LoopOwned::new(inner),
        };
        let transport = new_with_dict(py, this)?;
        endpoint::schedule_start(&transport, protocol, waiter.filter(|waiter| !waiter.is_none()))?;
        Ok(transport)
    }

    /// `asyncio.Transport`: asyncio's own pipe transport is an instance of it, too.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.transport.clone_ref(py))
    }

    /// Writes the buffers of an iterable, in order, as `write` of all of them together would.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
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

    /// Closes after everything that was written has left; `connection_lost(None)` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let action = slf.get().inner.with(slf.py(), |inner| {
            let empty = inner.queue.is_empty();
            inner.life.close(empty)
        });
        match action {
            CloseAction::LoseNow => endpoint::lose_soon(slf, None),
            CloseAction::Nothing | CloseAction::DrainThenLose => Ok(()),
        }
    }

    /// As `close()`: a pipe has but one end here.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf)
    }

    /// True.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes at once; what was not written is lost. `connection_lost(None)` follows.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::force_close(slf, None)
    }

    /// Whether it is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_closing())
    }

    /// Bytes that were written and not yet taken by the kernel.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.inner.with(py, |inner| inner.queue.len_bytes())
    }

    /// (low, high) water marks, in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.inner.with(py, |inner| inner.flow.limits())
    }

    /// Sets the water marks, in bytes: above `high` the protocol's `pause_writing` is called, at `low` or
    /// below its `resume_writing`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(slf: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let pause = slf
            .get()
            .inner
            .with(slf.py(), |inner| endpoint::set_water_marks(&mut inner.flow, inner.queue.len_bytes(), high, low))?;
        if pause {
            endpoint::call_flow(slf, true)
        } else {
            Ok(())
        }
    }

    /// From now on `protocol` gets the events.
    fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) {
        let _previous = self.inner.with(py, |inner| inner.protocol.replace(protocol.clone().unbind()));
    }

    /// The protocol; None once the pipe is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol_object(py)
    }

    /// 'pipe', the file object, or what the creator of the transport added; else `default`.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.extra.bind(py).get_item(name)?.map(Bound::unbind).or(default))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.inner.with(py, |inner| {
            let fd = inner.registration.fd;
            let state = match inner.descriptor {
                Descriptor::Closed => return format!("<WritePipeTransport closed fd={fd}>"),
                _ if inner.life.is_closing() => " closing",
                _ => "",
            };
            let writing = if inner.blocked { "polling" } else { "idle" };
            format!("<WritePipeTransport{state} fd={fd} {writing} bufsize={}>", inner.queue.len_bytes())
        })
    }

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let context = call::copy_context(py)?;
        let _previous = slf.get().inner.with(py, |inner| {
            inner.started = true;
            inner.watch_context.replace(context)
        });
        Self::update_interest(slf)
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::lose(slf, exception)
    }

    #[getter]
    fn _pipe(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.descriptor.object(py))
    }

    #[getter]
    fn _fileno(&self, py: Python<'_>) -> RawFd {
        self.inner.with(py, |inner| inner.registration.fd)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.event_loop.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        self.inner
            .visit(|inner| {
                visit.call(&inner.protocol)?;
                visit.call(&inner.watch_context)?;
                visit.call(&inner.write_context)?;
                inner.descriptor.visit(&visit)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _dropped =
            self.inner.visit(|inner| (inner.protocol.take(), inner.watch_context.take(), inner.write_context.take()));
    }
}

/// `transport.write(data)`.
struct Write;

impl FastMethod<WritePipeTransport> for Write {
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write($self, /, data)\n--\n\n\
        Write data (bytes, bytearray or memoryview), or queue what the pipe does not take now. Never blocks.";

    fn call<'py>(slf: Borrowed<'_, 'py, WritePipeTransport>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let data = arguments.single("write", "data")?;
        WritePipeTransport::write_data(&slf, data)?;
        Ok(slf.py().None())
    }
}

/// Adds the fast methods to the class.
pub fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<WritePipeTransport, Write>(class)
}

impl Finalize for WritePipeTransport {
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::warn_unclosed(slf, slf.get().is_open(slf.py()))
    }

    fn original_dealloc() -> &'static OnceLock<ffi::destructor> {
        static ORIGINAL: OnceLock<ffi::destructor> = OnceLock::new();
        &ORIGINAL
    }
}
