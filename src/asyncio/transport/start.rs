//! How a transport comes to life: from a Python socket, or from a connection that a listener accepted.
//!
//! Nothing is called at once: `connection_made`, the start of reading and the waiter's result come through
//! the ready queue, in this order.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::endpoint::{self, Endpoint, Registration};
use super::info::{self, Address, Descriptor, Info};
use super::stream::{Inner, StreamTransport};
use super::write::Gather;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::protocol::ProtocolKind;
use crate::asyncio::streams;
use crate::engine::stream::flow::FlowControl;
use crate::engine::stream::read_size::ReadSize;
use crate::engine::stream::write_queue::WriteQueue;
use crate::engine::stream::StreamCore;
use crate::engine::sys::socket;
use crate::py::call;
use crate::py::class::new_with_dict;
use crate::py::loop_owned::LoopOwned;
use crate::py::names::name;

/// What a transport is made from.
pub struct Parts {
    pub fd: RawFd,
    pub descriptor: Descriptor,
    pub protocol: Py<PyAny>,
    pub server: Option<Py<PyAny>>,
    pub info: Info,
    /// See `Inner::own_context`.
    pub context: Option<Py<PyAny>>,
}

impl StreamTransport {
    /// Makes a transport, and schedules `connection_made`, the start of reading, and the waiter's result.
    pub fn start<'py>(
        event_loop: &Bound<'py, LoopCore>,
        parts: Parts,
        waiter: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let kind = ProtocolKind::of(parts.protocol.bind(py))?;
        let protocol = parts.protocol.bind(py).clone();
        streams::adopt(&protocol, event_loop.get().is_debug())?;
        let inner = Inner {
            life: StreamCore::new(),
            queue: WriteQueue::new(),
            flow: FlowControl::new(),
            read_size: ReadSize::new(),
            gather: Gather::default(),
            registration: Registration::new(parts.fd),
            descriptor: parts.descriptor,
            protocol: Some(parts.protocol),
            kind,
            own_context: parts.context,
            read_context: None,
            write_context: None,
            started: false,
            readable: false,
            end_announced: false,
            read_error: None,
            // Nagle's algorithm costs latency; only TCP knows it.
            is_tcp: socket::set_nodelay(parts.fd).is_ok(),
            by_level: false,
            reads_on: false,
            writes_on: false,
            blocked: false,
            held: false,
            lent: false,
            server: None,
            empty_waiter: None,
            info: parts.info,
        };
        let this = Self { event_loop: event_loop.clone().unbind(), inner: LoopOwned::new(inner) };
        let transport = new_with_dict(py, this)?;
        event_loop.get().metrics.connections_opened.add(1);
        if let Some(server) = parts.server {
            attach(server.bind(py), &transport)?;
            transport.get().inner.with(py, |inner| inner.server = Some(server));
        }
        endpoint::schedule_start(&transport, &protocol, waiter)?;
        Ok(transport)
    }

    /// Replaces the contexts of who started reading, or found the socket full, by the transport's own, if it has one.
    pub fn insist_on_context(&self, py: Python<'_>) {
        let Some(context) = self.own_context(py) else { return };
        let (read, write) = (context.clone_ref(py), context);
        let _previous =
            self.inner.with(py, |inner| (inner.read_context.replace(read), inner.write_context.replace(write)));
    }
}

/// `server._attach`, which takes the transport since 3.13.
fn attach(server: &Bound<'_, PyAny>, transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
    let name = name!(server.py(), "_attach");
    tell(server, name, transport)
}

fn tell<'py>(
    server: &Bound<'py, PyAny>,
    method: &Bound<'py, PyString>,
    transport: &Bound<'py, StreamTransport>,
) -> PyResult<()> {
    let (py, target, method) = (server.py(), server.as_unbound(), method.as_unbound());
    if cfg!(Py_3_13) {
        call::call_method1(py, target, method, transport.as_any()).map(drop)
    } else {
        call::call_method0(py, target, method).map(drop)
    }
}

/// `server._detach`, which takes the transport since 3.13.
pub fn detach(server: &Bound<'_, PyAny>, transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
    let name = name!(server.py(), "_detach");
    tell(server, name, transport)
}

/// Both addresses of a socket; a family that we do not decode is left to the Python socket.
///
/// # Errors
/// `MemoryError`.
pub fn addresses(
    py: Python<'_>,
    fd: RawFd,
    python_socket: &Bound<'_, PyAny>,
) -> PyResult<(Option<Address>, Option<Address>)> {
    let one = |outcome: crate::engine::Result<_>, method| match outcome {
        Ok(address) if info::is_decodable(&address) => Some((&address).into()),
        Ok(_) => python_socket.call_method0(method).ok().map(|address| Address::Python(address.unbind())),
        Err(_) => None,
    };
    let local = one(socket::local_address(fd), name!(py, "getsockname"));
    Ok((local, one(socket::peer_address(fd), name!(py, "getpeername"))))
}

/// A transport for a connection that a listener accepted.
pub fn accepted_parts(
    fd: OwnedFd,
    peer: Address,
    protocol: Py<PyAny>,
    server: Option<Py<PyAny>>,
    context: Option<Py<PyAny>>,
) -> Parts {
    let number = fd.as_raw_fd();
    let local = socket::local_address(number).ok().map(|address| (&address).into());
    Parts {
        fd: number,
        descriptor: Descriptor::Native(fd),
        protocol,
        server,
        info: Info { local, peer: Some(peer), ..Info::default() },
        context,
    }
}
