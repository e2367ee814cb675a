//! `get_extra_info`: the socket, its addresses, and what the creator of a transport added.
//!
//! An accepted connection has no Python socket until somebody asks for it; then the socket owns the
//! descriptor. Addresses are taken when the transport is made, so they outlive the connection.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::stream::StreamTransport;
use crate::engine::sys::addr::{Decoded, PackedAddress, SocketAddress};
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

/// Who closes the descriptor.
pub enum Descriptor {
    Native(OwnedFd),
    /// A `socket.socket`, or the file object of a pipe.
    Object(Py<PyAny>),
    Closed,
}

impl Descriptor {
    /// Closes it.
    ///
    /// # Errors
    /// What the object's `close()` raises.
    pub fn close(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Native(fd) => {
                drop(fd);
                Ok(())
            }
            Self::Object(object) => call::call_method0(py, &object, name!(py, "close").as_unbound()).map(drop),
            Self::Closed => Ok(()),
        }
    }
}

impl Descriptor {
    /// The Python object that owns it, if it has one and is open.
    pub fn object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Object(object) => Some(object.clone_ref(py)),
            Self::Native(_) | Self::Closed => None,
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Object(object) => visit.call(object),
            Self::Native(_) | Self::Closed => Ok(()),
        }
    }
}

/// What `get_extra_info` answers from.
#[derive(Default)]
pub struct Info {
    /// The `TransportSocket`, once it was asked for; kept after the connection is closed.
    pub socket: Option<Py<PyAny>>,
    pub local: Option<Address>,
    pub peer: Option<Address>,
    pub extra: Option<Py<PyDict>>,
}

/// An address as the kernel gave it, or as Python's socket module did for a family that we do not decode.
pub enum Address {
    Kernel(PackedAddress),
    Python(Py<PyAny>),
}

impl Info {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        visit.call(&self.extra)?;
        for address in [&self.local, &self.peer].into_iter().flatten() {
            if let Address::Python(address) = address {
                visit.call(address)?;
            }
        }
        Ok(())
    }
}

/// What `get_extra_info` needs of an `Info`, with references of its own.
#[derive(Default)]
pub struct Answers {
    socket: Option<Py<PyAny>>,
    local: Option<Address>,
    peer: Option<Address>,
    extra: Option<Py<PyDict>>,
}

impl Info {
    pub fn answers(&self, py: Python<'_>) -> Answers {
        let address = |address: &Option<Address>| address.as_ref().map(|address| address.clone_ref(py));
        Answers {
            socket: self.socket.as_ref().map(|socket| socket.clone_ref(py)),
            local: address(&self.local),
            peer: address(&self.peer),
            extra: self.extra.as_ref().map(|extra| extra.clone_ref(py)),
        }
    }
}

impl Answers {
    /// `get_extra_info(name, default)`; `make_socket` makes the `TransportSocket` that is kept from then on.
    pub fn get(
        self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
        make_socket: impl FnOnce() -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        if let Some(extra) = self.extra {
            if let Some(value) = extra.bind(py).get_item(name)? {
                return Ok(value.unbind());
            }
        }
        let address = |wanted: Option<Address>| match wanted {
            Some(address) => Ok(address.to_python(py)?.unbind()),
            None => Ok(py.None()),
        };
        match name.extract::<std::borrow::Cow<'_, str>>().unwrap_or_default().as_ref() {
            "socket" => self.socket.map_or_else(make_socket, Ok),
            "sockname" => address(self.local),
            "peername" => address(self.peer),
            _ => Ok(default.unwrap_or_else(|| py.None())),
        }
    }
}

impl Answers {
    /// " peer=..." of a connection, else " local=...", for `repr`; nothing of an end without a name.
    pub fn description(&self, py: Python<'_>) -> PyResult<String> {
        for (name, address) in [("peer", &self.peer), ("local", &self.local)] {
            if let Some(address) = address.as_ref().map(|address| address.to_python(py)).transpose()? {
                if address.is_truthy()? {
                    return Ok(format!(" {name}={}", address.repr()?));
                }
            }
        }
        Ok(String::new())
    }
}

impl From<&SocketAddress> for Address {
    fn from(address: &SocketAddress) -> Self {
        Self::Kernel(address.into())
    }
}

impl Address {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Kernel(address) => Self::Kernel(address.clone()),
            Self::Python(address) => Self::Python(address.clone_ref(py)),
        }
    }

    /// The address as Python's socket module writes it.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Kernel(address) => to_python(py, &address.unpacked()),
            Self::Python(address) => Ok(address.bind(py).clone()),
        }
    }
}

impl StreamTransport {
    /// The Python socket, made when it is first asked for; `None` once closed.
    pub fn python_socket(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let taken = self.inner.with(py, |inner| match std::mem::replace(&mut inner.descriptor, Descriptor::Closed) {
            Descriptor::Native(fd) => Descriptor::Native(fd),
            Descriptor::Object(socket) => {
                let answer = Descriptor::Object(socket.clone_ref(py));
                inner.descriptor = Descriptor::Object(socket);
                answer
            }
            Descriptor::Closed => Descriptor::Closed,
        });
        match taken {
            Descriptor::Closed => Ok(None),
            Descriptor::Object(socket) => Ok(Some(socket)),
            Descriptor::Native(fd) => {
                let socket = python_socket(py, fd)?;
                let kept = Descriptor::Object(socket.clone_ref(py));
                let _closed = self.inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, kept));
                Ok(Some(socket))
            }
        }
    }

    pub fn make_transport_socket(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let wrapped = transport_socket(py, self.python_socket(py)?)?;
        let kept = wrapped.clone_ref(py);
        let _previous = self.inner.with(py, |inner| inner.info.socket.replace(kept));
        Ok(wrapped)
    }
}

/// Whether `to_python` can write the address.
pub fn is_decodable(address: &SocketAddress) -> bool {
    !matches!(address.decode(), Decoded::Other)
}

/// The address as Python's socket module writes it.
pub fn to_python<'py>(py: Python<'py>, address: &SocketAddress) -> PyResult<Bound<'py, PyAny>> {
    Ok(match address.decode() {
        Decoded::V4 { address, port } => address_of(py, &address.to_string(), &[objects::count(py, port.into())?])?,
        Decoded::V6 { address, port, flow_info, scope_id } => {
            let number = |number: u32| objects::count(py, number.into());
            let numbers = [number(port.into())?, number(flow_info)?, number(scope_id)?];
            address_of(py, &v6_text(&address, scope_id), &numbers)?
        }
        Decoded::UnixPath(path) => {
            py.import(name!(py, "os"))?.call_method1(name!(py, "fsdecode"), (objects::bytes(py, path)?,))?
        }
        Decoded::UnixAbstract(name) => objects::bytes(py, name)?,
        Decoded::UnixUnnamed => objects::text(py, "")?.into_any(),
        Decoded::Other => py.None().into_bound(py),
    })
}

fn address_of<'py>(py: Python<'py>, host: &str, numbers: &[Bound<'py, PyAny>]) -> PyResult<Bound<'py, PyAny>> {
    let mut items = vec![objects::text(py, host)?.into_any()];
    items.extend_from_slice(numbers);
    Ok(objects::tuple(py, items.iter().map(Bound::as_borrowed))?.into_any())
}

/// As getnameinfo(3) with NI_NUMERICHOST writes it, which is what Python's socket module shows: the scope of a
/// link-local address is appended as the interface's name.
fn v6_text(address: &std::net::Ipv6Addr, scope_id: u32) -> String {
    if scope_id == 0 {
        return address.to_string();
    }
    match crate::engine::sys::addr::interface_name(scope_id) {
        Some(name) => format!("{address}%{name}"),
        None => format!("{address}%{scope_id}"),
    }
}

/// A `socket.socket` that owns `fd`, non-blocking as asyncio's are.
pub fn python_socket(py: Python<'_>, fd: OwnedFd) -> PyResult<Py<PyAny>> {
    let keywords = objects::dict(py)?;
    keywords.set_item(name!(py, "fileno"), objects::count(py, fd.as_raw_fd() as u64)?)?;
    let socket = imports(py)?.socket.bind(py).call((), Some(&keywords))?;
    // From here on the socket closes it.
    let _ = fd.into_raw_fd();
    socket.call_method1(name!(py, "setblocking"), (false,))?;
    Ok(socket.unbind())
}

/// What a program that asks for the socket of a lost connection gets: a `socket.socket` that is closed.
fn closed_socket(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let socket = imports(py)?.socket.bind(py).call0()?;
    socket.call_method0(name!(py, "close"))?;
    Ok(socket.unbind())
}

/// `asyncio.trsock.TransportSocket(socket)`; a connection that is lost gets a closed socket.
pub fn transport_socket(py: Python<'_>, socket: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    let socket = match socket {
        Some(socket) => socket,
        None => closed_socket(py)?,
    };
    imports(py)?.transport_socket.call1(py, (socket,))
}

/// A copy of `extra` with the file object as 'pipe'.
pub fn with_pipe(extra: Option<&Bound<'_, PyDict>>, pipe: &Bound<'_, PyAny>) -> PyResult<Py<PyDict>> {
    let known = extra.map_or_else(|| objects::dict(pipe.py()), |extra| extra.copy())?;
    known.set_item(name!(pipe.py(), "pipe"), pipe)?;
    Ok(known.unbind())
}

/// `socket.fileno()`.
pub fn fileno(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    socket.call_method0(name!(socket.py(), "fileno"))?.extract()
}
