//! Sending: now, or behind what is queued.
//!
//! ```text
//!   sendto --sent at once--> done
//!          --blocked: no room; sent, many with one call, when the kernel has some--> done
//! ```
//!
//! A datagram leaves before `sendto` returns if the kernel has room: gathering the answers to a batch for one sendmmsg was
//! measured to save nothing, since the kernel's work per datagram is the same.
//! An error of the network concerns one datagram, which is dropped; the protocol is told, and the rest goes on.

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::Borrowed;

use super::{peers, DatagramTransport, Inner};
use crate::asyncio::event_loop::report::ends_the_run;
use crate::asyncio::transport::endpoint::{self, warn_of_write_after_loss};
use crate::asyncio::transport::info::Descriptor;
use crate::engine;
use crate::engine::stream::write_queue::Chunk;
use crate::engine::stream::DrainedAction;
use crate::engine::sys::addr::SocketAddress;
use crate::engine::sys::datagram::{self, MOST_MESSAGES};
use crate::py::buffer::{Data, SendChunk};
use crate::py::call;
use crate::py::names::name;
use crate::py::objects;

const WRITE_ERROR: &str = "Fatal write error on datagram transport";
/// Batches that one transport sends per turn before the others get theirs.
const BATCHES_PER_TURN: usize = 16;
/// Seconds until a receiver that is full is tried again: nobody says when it has room, if it is a Unix socket that
/// we are not connected to.
const FULL_RECEIVER_DELAY: f64 = 0.001;

/// Where a datagram goes.
pub enum Receiver {
    /// The socket's own peer.
    Peer,
    Native(SocketAddress),
    /// What only Python's socket module understands: a host's name, another family.
    Python(Py<PyAny>),
}

impl Receiver {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Python(address) => visit.call(address),
            Self::Peer | Self::Native(_) => Ok(()),
        }
    }

    /// `None`: it has to be sent by Python.
    fn native(&self) -> Option<Option<&SocketAddress>> {
        match self {
            Self::Peer => Some(None),
            Self::Native(address) => Some(Some(address)),
            Self::Python(_) => None,
        }
    }
}

/// What `sendto` has to do once nothing is lent any more.
enum SendOutcome {
    Done,
    Blocked {
        pause: bool,
    },
    Failed(engine::Error),
    /// By Python, now.
    Python,
}

/// How far sending what is queued got.
enum Sent {
    All,
    Blocked {
        progress: bool,
    },
    TurnIsOver,
    /// A datagram failed and is gone.
    Failed(engine::Error),
    /// The first one is for Python to send.
    Python(SendChunk, Py<PyAny>),
}

impl Inner {
    fn send(&mut self, data: &Data<'_, '_>, receiver: Receiver) -> SendOutcome {
        if !self.queue.is_empty() {
            self.queue.push(data.chunk_from(0).0, receiver);
            return self.block();
        }
        let Some(address) = receiver.native() else { return SendOutcome::Python };
        match datagram::send_to(self.registration.fd, data.as_slice(), address) {
            Ok(_) => SendOutcome::Done,
            Err(error) if error.would_block() && self.life.is_lost() => SendOutcome::Done,
            Err(error) if error.would_block() => {
                self.queue.push(data.chunk_from(0).0, receiver);
                self.block()
            }
            Err(error) => SendOutcome::Failed(error),
        }
    }

    fn block(&mut self) -> SendOutcome {
        self.blocked = true;
        SendOutcome::Blocked { pause: self.flow.after_push(self.queue.len_bytes()) }
    }

    /// `Some`: the transport is lost, nothing is sent; true: and it is time to warn of that.
    ///
    /// A transport without an address of its own sends on until its descriptor is closed, as asyncio's does.
    fn refuse(&mut self, has_address: bool) -> Option<bool> {
        let refused = self.life.is_lost() && (has_address || matches!(self.descriptor, Descriptor::Closed));
        refused.then(|| self.life.write_after_lost())
    }

    fn send_queued(&mut self) -> Sent {
        for round in 0..BATCHES_PER_TURN {
            let for_python = matches!(self.queue.iter().next(), Some((_, Receiver::Python(_))));
            if for_python {
                let Some((chunk, Receiver::Python(address))) = self.queue.pop() else { return Sent::All };
                return Sent::Python(chunk, address);
            }
            if self.queue.is_empty() {
                return Sent::All;
            }
            let datagrams = self.queue.iter().take(MOST_MESSAGES);
            let ready = datagrams.map_while(|(chunk, receiver)| Some((chunk.bytes(), receiver.native()?)));
            match datagram::send_batch(self.registration.fd, ready) {
                Ok(count) => (0..count).for_each(|_| drop(self.queue.pop())),
                Err(error) if error.would_block() => return Sent::Blocked { progress: round > 0 },
                Err(error) => {
                    drop(self.queue.pop());
                    return Sent::Failed(error);
                }
            }
        }
        if self.queue.is_empty() {
            Sent::All
        } else {
            Sent::TurnIsOver
        }
    }
}

impl DatagramTransport {
    pub fn send_to(
        slf: &Bound<'_, Self>,
        object: Borrowed<'_, '_, PyAny>,
        address: Option<Borrowed<'_, '_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(data) = Data::new(object)? else {
            let class = object.get_type();
            let name = class.name()?;
            return Err(PyTypeError::new_err(format!("data argument must be a bytes-like object, not '{name}'")));
        };
        let this = slf.get();
        if let (Some(given), Some(only)) = (address, &this.address) {
            if !given.is(only) && !given.eq(only)? {
                let only = only.bind(py).str()?;
                return Err(PyValueError::new_err(format!("Invalid address: must be None or {only}")));
            }
        }
        let has_address = this.address.is_some();
        if let Some(warn) = this.inner.with(py, |inner| inner.refuse(has_address)) {
            return warn_of_write_after_loss(py, warn, "socket.send() raised exception.");
        }
        let receiver = this.receiver(py, address);
        let for_python = match &receiver {
            Receiver::Python(address) => Some(address.clone_ref(py)),
            _ => None,
        };
        match this.inner.with(py, |inner| inner.send(&data, receiver)) {
            SendOutcome::Done => Ok(()),
            SendOutcome::Blocked { pause } => Self::wait_for_room(slf, pause),
            SendOutcome::Failed(error) => Self::tell_error(slf, &error),
            SendOutcome::Python => {
                let address = for_python.unwrap_or_else(|| py.None());
                let chunk = data.chunk_from(0).0;
                drop(data);
                match Self::send_by_python(slf, chunk, address)? {
                    true => Ok(()),
                    false => Self::block(slf),
                }
            }
        }
    }

    fn receiver(&self, py: Python<'_>, address: Option<Borrowed<'_, '_, PyAny>>) -> Receiver {
        if self.connected {
            return Receiver::Peer;
        }
        let own = self.address.as_ref().map(|own| own.bind(py).as_borrowed());
        let Some(address) = own.or(address) else { return Receiver::Python(py.None()) };
        if let Some(known) = self.inner.with(py, |inner| inner.peers.last_if(address).cloned()) {
            return Receiver::Native(known);
        }
        match peers::from_python(address, self.family) {
            Some(native) => Receiver::Native(native),
            None => Receiver::Python(address.to_owned().unbind()),
        }
    }

    /// `sock.sendto(data, address)`. False: no room, the datagram is at the head of the queue.
    ///
    /// What is wrong with the address ends the transport, as in asyncio.
    fn send_by_python(slf: &Bound<'_, Self>, chunk: SendChunk, address: Py<PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let Some(socket) = slf.get()._sock(py) else { return Ok(true) };
        let data = objects::bytes(py, chunk.bytes())?;
        let Err(error) = socket.bind(py).call_method1(name!(py, "sendto"), (data, &address)) else { return Ok(true) };
        if error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py) {
            slf.get().inner.with(py, |inner| inner.queue.push_front(chunk, Receiver::Python(address)));
            return Ok(false);
        }
        if error.is_instance_of::<PyOSError>(py) {
            Self::tell_exception(slf, error.into_value(py).bind(py).as_any())?;
        } else if ends_the_run(py, &error) {
            return Err(error);
        } else {
            endpoint::fatal_error(slf, error, false, WRITE_ERROR)?;
        }
        Ok(true)
    }

    /// Something is queued that the socket does not take now.
    fn block(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (pause, _dropped) = slf.get().inner.with(slf.py(), |inner| {
            if inner.life.is_lost() {
                return (None, Some(inner.queue.take()));
            }
            inner.blocked = true;
            (Some(inner.flow.after_push(inner.queue.len_bytes())), None)
        });
        pause.map_or(Ok(()), |pause| Self::wait_for_room(slf, pause))
    }

    /// The socket is full: the reactor will say when there is room.
    fn wait_for_room(slf: &Bound<'_, Self>, pause: bool) -> PyResult<()> {
        let py = slf.py();
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

    /// The kernel has room again.
    pub fn send_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let start = slf.get().inner.with(py, |inner| {
            if inner.life.is_lost() || !inner.blocked || inner.backing_off {
                return None;
            }
            let context = inner.write_context.as_ref().map(|context| context.clone_ref(py));
            Some((inner.send_queued(), context))
        });
        let Some((sent, context)) = start else { return Ok(()) };
        let context = match context {
            Some(context) => context,
            None => call::copy_context(py)?,
        };
        call::in_context(py, &context, || {
            match sent {
                Sent::All | Sent::TurnIsOver | Sent::Blocked { progress: true } => {}
                Sent::Blocked { progress: false } => Self::back_off(slf)?,
                Sent::Failed(error) => {
                    let outcome = Self::tell_error(slf, &error);
                    endpoint::callback_outcome(slf, outcome, "error_received")?;
                }
                Sent::Python(chunk, address) => {
                    let outcome = Self::send_by_python(slf, chunk, address).map(drop);
                    endpoint::callback_outcome(slf, outcome, "error_received")?;
                }
            }
            Self::after_send(slf)
        })
    }

    /// The kernel said that there is room, and there is none: it speaks of our buffer, and the receiver's is full.
    fn back_off(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.inner.with(py, |inner| inner.backing_off = true);
        let again = slf.getattr(name!(py, "_send_again"))?;
        this.event_loop.bind(py).call_method1(name!(py, "call_later"), (FULL_RECEIVER_DELAY, again)).map(drop)
    }

    /// Something left the queue: resume the protocol, and close if that is what was waited for.
    fn after_send(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let resume = slf.get().inner.with(py, |inner| inner.flow.after_drain(inner.queue.len_bytes()));
        if resume {
            // It may send, and thereby fill the queue again.
            endpoint::call_flow(slf, false)?;
        }
        let (action, _dropped) = slf.get().inner.with(py, |inner| {
            if !inner.queue.is_empty() {
                return (DrainedAction::Nothing, None);
            }
            inner.blocked = false;
            (inner.life.drained(), inner.write_context.take())
        });
        match action {
            DrainedAction::Lose => Self::connection_lost(slf, None),
            DrainedAction::Nothing | DrainedAction::ShutdownWrite => Self::update_interest(slf),
        }
    }
}
