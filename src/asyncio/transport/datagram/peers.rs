//! Addresses of peers, between the kernel's form and Python's.
//!
//! A server answers to whom it heard from: the tuples of recent senders are kept, and a tuple that comes back in
//! `sendto` is known by its identity. What is not an address in numbers is left to Python's socket module, which
//! resolves names and has the error messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use pyo3::Borrowed;

use crate::asyncio::transport::info::Address;
use crate::engine::sys::addr::SocketAddress;

/// Recent senders that are remembered; a power of two.
const REMEMBERED: usize = 16;

struct Known {
    address: SocketAddress,
    python: Py<PyAny>,
}

/// Recent senders, by the hash of their address.
#[derive(Default)]
pub struct Peers {
    known: Vec<Option<Known>>,
    last: usize,
}

/// FNV-1a, see RFC 9923; only speed matters here, a collision costs one conversion.
fn place_of(address: &SocketAddress) -> usize {
    let hash = address
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)) as usize % REMEMBERED
}

impl Peers {
    /// The Python form of a sender that is remembered.
    pub fn find(&mut self, py: Python<'_>, address: &SocketAddress) -> Option<Py<PyAny>> {
        let place = place_of(address);
        let known = self.known.get(place)?.as_ref().filter(|known| known.address == *address)?;
        self.last = place;
        Some(known.python.clone_ref(py))
    }

    /// Remembers a sender; the caller drops who is forgotten for it.
    pub fn remember(&mut self, address: SocketAddress, python: Py<PyAny>) -> Option<Py<PyAny>> {
        if self.known.is_empty() {
            self.known.resize_with(REMEMBERED, || None);
        }
        self.last = place_of(&address);
        self.known[self.last].replace(Known { address, python }).map(|known| known.python)
    }

    /// The address behind the object that the last sender was given as.
    pub fn last_if(&self, object: Borrowed<'_, '_, PyAny>) -> Option<&SocketAddress> {
        let known = self.known.get(self.last)?.as_ref()?;
        known.python.is(&*object).then_some(&known.address)
    }
}

/// The Python form of an address, as `socket.recvfrom` gives it.
pub fn to_python(py: Python<'_>, address: &SocketAddress) -> PyResult<Py<PyAny>> {
    Ok(Address::Raw(address.clone()).to_python(py)?.unbind())
}

/// The kernel's form of an address in numbers; `None` for everything else.
pub fn from_python(address: Borrowed<'_, '_, PyAny>, family: i32) -> Option<SocketAddress> {
    if family == libc::AF_UNIX {
        return from_path(address);
    }
    let tuple = address.cast_exact::<PyTuple>().ok()?;
    let host = tuple.get_borrowed_item(0).ok()?;
    let host = host.cast_exact::<PyString>().ok()?;
    let host = host.to_str().ok()?;
    let port = tuple.get_borrowed_item(1).ok()?.extract::<u16>().ok()?;
    match (family, tuple.len()) {
        (libc::AF_INET, 2) => Some(SocketAddress::v4(host.parse::<Ipv4Addr>().ok()?, port)),
        (libc::AF_INET6, 2..=4) => {
            let number = |index| match tuple.get_borrowed_item(index) {
                Ok(item) => item.extract::<u32>().ok(),
                Err(_) => Some(0),
            };
            // More than 20 bits is an error in Python's words.
            let flow_info = number(2).filter(|&flow_info| flow_info <= 0xf_ffff)?;
            Some(SocketAddress::v6(host.parse::<Ipv6Addr>().ok()?, port, flow_info, number(3)?))
        }
        _ => None,
    }
}

/// Only ASCII: how Python encodes other paths depends on the locale.
fn from_path(path: Borrowed<'_, '_, PyAny>) -> Option<SocketAddress> {
    if let Ok(bytes) = path.cast_exact::<PyBytes>() {
        return SocketAddress::unix(bytes.as_bytes());
    }
    let text = path.cast_exact::<PyString>().ok()?;
    SocketAddress::unix(text.to_str().ok().filter(|text| text.is_ascii())?.as_bytes())
}
