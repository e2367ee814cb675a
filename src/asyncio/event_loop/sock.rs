//! `sock_recv` and its relatives: attempts that never block, and futures for when there is something to attempt.
//!
//! The coroutines are in `python/ironloop/_loop.py`; they try, and wait only if they must. A socket that somebody has waited
//! for stays registered, edge-triggered, for both directions, so waiting costs no system call; `drained` remembers that
//! there was nothing left to read, so that no attempt is made in vain. A future says only that it is time to try again:
//! who is cancelled meanwhile has taken nothing.
//!
//! Only plain `socket.socket` objects come here, and not in debug mode; everything else is asyncio's own code. The socket
//! is known by a weak reference: it is closed when its owner lets go of it, and its number may belong to another one then.

use std::ffi::CStr;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyType, PyWeakrefMethods, PyWeakrefReference};
use pyo3::Borrowed;

use super::source::Source;
use super::watchers::Direction;
use super::LoopCore;
use crate::asyncio::transport::input::ReceiveError;
use crate::engine;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::{Interest, Readiness, Trigger};
use crate::engine::stream::read_size::{ReadPlan, ReadSize};
use crate::engine::sys::{file, socket};
use crate::py::buffer::{bytes_filled_by, Data, WritableBuffer};
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::names::name;
use crate::py::objects;
use crate::py::originals::state_of;

/// What is asked for at the most by way of the loop's buffer; more goes straight into a `bytes`.
const LARGEST_COPY: usize = super::SCRATCH_BYTES;

/// A socket that coroutines have waited for.
pub struct WaitedSocket {
    fd: RawFd,
    socket: Py<PyWeakrefReference>,
    /// A stream socket, rather than one of messages.
    is_stream: bool,
    /// A short read has taken everything.
    short_reads_are_last: bool,
    /// What recent reads of a stream suggest.
    read_size: ReadSize,
    /// Nothing is left to read until the next event.
    drained: bool,
    /// The kernel announced an end or an error, which no other event will: always try.
    end_announced: bool,
    /// Futures of those who wait.
    readers: Vec<Py<PyAny>>,
    writers: Vec<Py<PyAny>>,
}

impl WaitedSocket {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        self.readers.iter().chain(&self.writers).try_for_each(|waiter| visit.call(waiter))
    }

    /// Lets everybody try again.
    ///
    /// # Errors
    /// What `wake` raises.
    pub fn wake_all(self, py: Python<'_>) -> PyResult<()> {
        wake(py, self.readers.into_iter().chain(self.writers))
    }

    /// What an event is for: futures to be woken. `None`: nobody has looked since the last one, so it may end.
    fn take_note(&mut self, readiness: Readiness) -> Option<Vec<Py<PyAny>>> {
        let (read, write) = (readiness.readable(), readiness.writable());
        let unattended = read && !self.drained && self.readers.is_empty() && self.writers.is_empty();
        self.drained &= !read;
        self.end_announced |= readiness.read_closed();
        if unattended {
            return None;
        }
        let mut woken = if read { std::mem::take(&mut self.readers) } else { Vec::new() };
        if write {
            woken.append(&mut self.writers);
        }
        Some(woken)
    }
}

/// What is known of a socket before something is received.
#[derive(Clone, Copy)]
struct Outlook {
    token: Token,
    /// An attempt would be in vain.
    nothing_left: bool,
    is_stream: bool,
    /// A stream of small messages, which come by way of the loop's buffer.
    small: bool,
}

/// What the coroutine shall do.
pub enum Attempt<T> {
    Done(T),
    /// Wait, and try again.
    Wait,
    /// Leave it to asyncio.
    Unusual,
}

impl Attempt<usize> {
    fn into_python(self, py: Python<'_>) -> PyResult<Attempt<Bound<'_, PyAny>>> {
        Ok(match self {
            Self::Done(count) => Attempt::Done(objects::count(py, count as u64)?),
            Self::Wait => Attempt::Wait,
            Self::Unusual => Attempt::Unusual,
        })
    }
}

impl LoopCore {
    /// The descriptor of a socket that may be used directly; `None`: asyncio's own code.
    pub fn plain_socket(&self, sock: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
        let py = sock.py();
        if self.is_debug() || !sock.get_type().is(&imports(py)?.socket) || !has_original_methods(&sock.get_type())? {
            return Ok(None);
        }
        let fd: RawFd = call::call_method0(py, sock.as_unbound(), name!(py, "fileno").as_unbound())?.extract()?;
        Ok((fd >= 0).then_some(fd))
    }

    /// Lends what is known of a socket that is registered; `None`: nothing is.
    fn waited_socket<R>(
        &self,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        body: impl FnOnce(&mut WaitedSocket, Token) -> R,
    ) -> Option<R> {
        let py = sock.py();
        let known =
            self.state(py, |state| state.sources.waited_socket_mut(fd).map(|(_, it)| it.socket.clone_ref(py)))?;
        if !known.bind(py).upgrade().is_some_and(|known| known.is(sock)) {
            return None;
        }
        self.state(py, |state| state.sources.waited_socket_mut(fd).map(|(token, it)| body(it, token)))
    }

    /// `sock.recv(size)`.
    ///
    /// # Errors
    /// What recv(2) says, as `OSError`.
    pub fn try_recv<'py>(
        &self,
        sock: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
    ) -> PyResult<Attempt<Bound<'py, PyAny>>> {
        let py = sock.py();
        let (Some(fd), Ok(size @ 1..)) = (self.plain_socket(sock)?, size.extract::<usize>()) else {
            return Ok(Attempt::Unusual);
        };
        let known = self.outlook(sock, fd);
        if known.is_some_and(|known| known.nothing_left) {
            return Ok(Attempt::Wait);
        }
        let outcome = if size <= LARGEST_COPY || known.is_some_and(|known| known.small) {
            self.recv_copied(py, fd, size.min(LARGEST_COPY))?
        } else if known.map_or_else(|| socket::is_stream(fd), |known| known.is_stream) {
            self.recv_in_place(py, fd, size)?
        } else {
            return Ok(Attempt::Unusual);
        };
        match outcome {
            Ok((data, offered)) => {
                self.note_read(py, known, data.len()?, offered);
                Ok(Attempt::Done(data))
            }
            Err(error) if error.would_block() => Ok(Attempt::Wait),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// By way of the loop's buffer; also says how much would have found room.
    ///
    /// The outer error is `MemoryError`; nothing has been received then.
    fn recv_copied<'py>(
        &self,
        py: Python<'py>,
        fd: RawFd,
        most: usize,
    ) -> PyResult<engine::Result<(Bound<'py, PyAny>, usize)>> {
        self.received_bytes.make_sure(py)?;
        self.scratch(py, |scratch| {
            let most = most.min(scratch.len());
            match socket::recv_now(fd, &mut scratch[..most]) {
                Ok(count) => Ok(Ok((self.received_bytes.bytes(py, &scratch[..count])?, most))),
                Err(error) => Ok(Err(error)),
            }
        })
    }

    /// Straight into a `bytes` of the size that is there. The outer error is `MemoryError`.
    fn recv_in_place<'py>(
        &self,
        py: Python<'py>,
        fd: RawFd,
        most: usize,
    ) -> PyResult<engine::Result<(Bound<'py, PyAny>, usize)>> {
        let available = file::bytes_available(fd).unwrap_or_default();
        if available == 0 {
            return self.recv_copied(py, fd, LARGEST_COPY);
        }
        let most = available.min(most);
        let received =
            bytes_filled_by(py, most, |memory| socket::recv_now_uninit(fd, memory).map_err(ReceiveError::Kernel));
        match received {
            Ok(data) => Ok(Ok((data, most))),
            Err(ReceiveError::Kernel(error)) => Ok(Err(error)),
            Err(ReceiveError::Python(error)) => Err(error),
        }
    }

    /// `sock.recv_into(buffer)`.
    ///
    /// # Errors
    /// What recv(2) says, as `OSError`.
    pub fn try_recv_into(&self, sock: &Bound<'_, PyAny>, buffer: &Bound<'_, PyAny>) -> PyResult<Attempt<usize>> {
        let py = sock.py();
        let Some(fd) = self.plain_socket(sock)? else { return Ok(Attempt::Unusual) };
        let Ok(mut buffer) = WritableBuffer::new(buffer) else { return Ok(Attempt::Unusual) };
        let offered = buffer.memory().len();
        let known = self.outlook(sock, fd);
        let outcome = if offered == 0 {
            Ok(0)
        } else if known.is_some_and(|known| known.nothing_left) {
            Err(engine::Error { operation: "recv", errno: libc::EAGAIN })
        } else {
            socket::recv_now(fd, buffer.memory())
        };
        buffer.release(py);
        match outcome {
            Ok(count) => {
                self.note_read(py, known, count, offered);
                Ok(Attempt::Done(count))
            }
            Err(error) if error.would_block() => Ok(Attempt::Wait),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// `sock.send(data[offset:])`; 0 if the socket is full.
    ///
    /// # Errors
    /// What send(2) says, as `OSError`.
    pub fn try_send(
        &self,
        sock: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        offset: usize,
    ) -> PyResult<Attempt<usize>> {
        let py = sock.py();
        let Some(fd) = self.plain_socket(sock)? else { return Ok(Attempt::Unusual) };
        let items = data.len();
        let data = match Data::new(data.as_borrowed())? {
            // `len()` of a view counts items, of whatever size, and asyncio's code compares with it.
            Some(data) if items.is_ok_and(|items| items == data.as_slice().len()) => data,
            _ => return Ok(Attempt::Unusual),
        };
        match socket::send_now(fd, data.as_slice().get(offset..).unwrap_or_default()) {
            Ok(count) => Ok(Attempt::Done(count)),
            Err(error) if error.would_block() => Ok(Attempt::Done(0)),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    fn outlook(&self, sock: &Bound<'_, PyAny>, fd: RawFd) -> Option<Outlook> {
        self.waited_socket(sock, fd, |it, token| Outlook {
            token,
            nothing_left: it.drained && !it.end_announced,
            is_stream: it.is_stream,
            small: it.is_stream && it.read_size.plan() == ReadPlan::Scratch,
        })
    }

    /// A read brought `count` bytes of `offered`.
    fn note_read(&self, py: Python<'_>, known: Option<Outlook>, count: usize, offered: usize) {
        let Some(known) = known else { return };
        self.state(py, |state| {
            if let Some(it) = state.sources.waited_socket_of(known.token) {
                it.read_size.record(count, offered);
                it.drained |= it.short_reads_are_last && (1..offered).contains(&count);
            }
        });
    }

    /// A future that is done when `sock`, of which nothing could be had just now, is worth another attempt.
    ///
    /// `None`: somebody else has registered the descriptor; asyncio's code knows what to say, or replaces him.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says.
    pub fn socket_waiter<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        direction: Direction,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        this.check_open(py)?;
        let Some(fd) = this.plain_socket(sock)? else { return Ok(None) };
        // Whether the receiver of a message has room is no property of the sender's socket, and makes no edges.
        if direction == Direction::Write && !socket::is_stream(fd) {
            return Ok(None);
        }
        let known = this.waited_socket(sock, fd, |_, _| ()).is_some();
        if !known {
            if this.state(py, |state| state.sources.is_taken(fd)) {
                return Ok(None);
            }
            let waited = WaitedSocket {
                fd,
                socket: PyWeakrefReference::new(sock)?.unbind(),
                is_stream: socket::is_stream(fd),
                short_reads_are_last: socket::short_reads_are_last(fd),
                read_size: ReadSize::new(),
                drained: false,
                end_announced: false,
                readers: Vec::new(),
                writers: Vec::new(),
            };
            let interest = Interest::READ | Interest::WRITE;
            this.register(py, fd, Source::Socket(waited), interest, Trigger::Edge)?;
        }
        let future = slf.call_method0(name!(py, "create_future"))?;
        let kept = future.clone().unbind();
        this.waited_socket(sock, fd, |it, _| match direction {
            Direction::Read => {
                it.drained = true;
                it.readers.push(kept);
            }
            Direction::Write => it.writers.push(kept),
        });
        Ok(Some(future))
    }

    /// The reactor's event.
    pub fn socket_event(slf: &Bound<'_, Self>, token: Token, readiness: Readiness) -> PyResult<()> {
        let py = slf.py();
        let outcome = slf.get().state(py, |state| {
            let waited = state.sources.waited_socket_of(token)?;
            let fd = waited.fd;
            match waited.take_note(readiness) {
                Some(woken) => Some(Ok(woken)),
                // It is used in some other way now, which must not wake this loop.
                None => Some(Err(state.sources.remove(fd, token))),
            }
        });
        match outcome {
            Some(Ok(woken)) => wake(py, woken.into_iter()),
            Some(Err(_)) | None => Ok(()),
        }
    }
}

/// Whether `socket.socket` connects, receives and sends as `_socket.socket` does, and nobody has replaced that.
fn has_original_methods(class: &Bound<'_, PyType>) -> PyResult<bool> {
    /// The state of the class (`originals`) in which that was found last.
    static VERIFIED: AtomicU32 = AtomicU32::new(0);
    let state = || state_of(class).map_or(0, NonZeroU32::get);
    if state() != 0 && state() == VERIFIED.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let py = class.py();
    let base = py.import(name!(py, "_socket"))?.getattr(name!(py, "socket"))?;
    for name in ["fileno", "connect", "connect_ex", "recv", "recv_into", "send"] {
        let name = &objects::interned(py, name)?;
        if !class.getattr(name)?.is(base.getattr(name)?) {
            return Ok(false);
        }
    }
    VERIFIED.store(state(), Ordering::Relaxed);
    Ok(true)
}

/// Makes futures done, all of them.
///
/// # Errors
/// The last of what was raised, by an override of `call_soon` for example.
fn wake(py: Python<'_>, waiters: impl Iterator<Item = Py<PyAny>>) -> PyResult<()> {
    let mut outcome = Ok(());
    for waiter in waiters {
        let woken = (|| {
            if !call::call_method0(py, &waiter, name!(py, "done").as_unbound())?.is_truthy()? {
                let none = py.None().into_bound(py);
                call::call_method1(py, &waiter, name!(py, "set_result").as_unbound(), &none)?;
            }
            Ok(())
        })();
        outcome = woken.and(outcome);
    }
    outcome
}

/// Adds the methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, TryRecv>(class)?;
    add_fast_method::<LoopCore, TryRecvInto>(class)?;
    add_fast_method::<LoopCore, TrySend>(class)?;
    add_fast_method::<LoopCore, WaitForSocket>(class)
}

/// What a method answers: the value, a future to be awaited before the next attempt, or NotImplemented.
pub fn answer<'py>(
    slf: Borrowed<'_, 'py, LoopCore>,
    sock: &Bound<'py, PyAny>,
    attempt: Attempt<Bound<'py, PyAny>>,
    direction: Direction,
) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    match attempt {
        Attempt::Done(value) => return Ok(value.unbind()),
        Attempt::Wait => {
            if let Some(waiter) = LoopCore::socket_waiter(&slf, sock, direction)? {
                return Ok(waiter.unbind());
            }
        }
        Attempt::Unusual => {}
    }
    Ok(py.NotImplemented())
}

/// A method of the loop, by its positional arguments.
macro_rules! sock_method {
    ($name:ident, $python_name:literal, $doc:literal, $slf:ident, $pattern:pat => $body:expr) => {
        struct $name;

        impl FastMethod<LoopCore> for $name {
            const NAME: &'static CStr = $python_name;
            const DOC: &'static CStr = $doc;

            fn call<'py>($slf: Borrowed<'_, 'py, LoopCore>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
                let $pattern = arguments.positional() else {
                    return Err(PyTypeError::new_err("wrong number of arguments"));
                };
                $body
            }
        }
    };
}

pub(super) use sock_method;

sock_method!(
    TryRecv,
    c"_try_recv",
    c"_try_recv($self, sock, size, /)\n--\n\n\
      bytes; or a future to be awaited before the next attempt; or NotImplemented: asyncio's own code has to do it.",
    slf,
    [sock, size] => answer(slf, sock, slf.get().try_recv(sock, size)?, Direction::Read)
);
sock_method!(
    TryRecvInto,
    c"_try_recv_into",
    c"_try_recv_into($self, sock, buffer, /)\n--\n\nHow many bytes were received; or as _try_recv().",
    slf,
    [sock, buffer] => {
        let attempt = slf.get().try_recv_into(sock, buffer)?.into_python(slf.py())?;
        answer(slf, sock, attempt, Direction::Read)
    }
);
sock_method!(
    TrySend,
    c"_try_send",
    c"_try_send($self, sock, data, offset, /)\n--\n\n\
      How many bytes of data[offset:] were sent, 0 if the socket is full; or NotImplemented.",
    slf,
    [sock, data, offset] => {
        let attempt = slf.get().try_send(sock, data, offset.extract()?)?.into_python(slf.py())?;
        answer(slf, sock, attempt, Direction::Write)
    }
);
sock_method!(
    WaitForSocket,
    c"_wait_for_socket",
    c"_wait_for_socket($self, sock, for_writing, /)\n--\n\n\
      A future that is done when sock, which has just been found not ready, is worth another attempt; or NotImplemented.",
    slf,
    [sock, for_writing] => {
        let direction = if for_writing.is_truthy()? { Direction::Write } else { Direction::Read };
        answer(slf, sock, Attempt::Wait, direction)
    }
);
