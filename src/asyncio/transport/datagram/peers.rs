//! Addresses of peers, between the kernel's form and Python's.
//!
//! A server answers to whom it heard from: the tuples of recent senders are kept, and a tuple that comes back in
//! `sendto` is known by its identity. What is not an address in numbers is left to Python's socket module, which
//! resolves names and has the error messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use pyo3::Borrowed;

use crate::engine::sys::addr::SocketAddress;

/// Places for recent senders: few for a client, more as soon as two senders want the same one. Powers of two.
const FEWEST: usize = 4;
const MOST: usize = 256;

struct Known {
    address: SocketAddress,
    python: Py<PyAny>,
}

/// Recent senders, each at the place that the hash of its address gives.
#[derive(Default)]
pub struct Peers {
    known: Vec<Option<Box<Known>>>,
    last: usize,
}

/// Only speed matters here: a collision costs one conversion.
fn hash(address: &SocketAddress) -> usize {
    // The golden ratio's bits, see Knuth, The Art of Computer Programming, 6.4.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = 0_u64;
    for word in address.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(FACTOR).rotate_left(29);
    }
    (hash >> 32) as usize
}

impl Peers {
    fn place(&self, address: &SocketAddress) -> usize {
        hash(address) & self.known.len().wrapping_sub(1)
    }

    /// The Python form of a sender that is remembered.
    pub fn find(&mut self, py: Python<'_>, address: &SocketAddress) -> Option<Py<PyAny>> {
        let place = self.place(address);
        let known = self.known.get(place)?.as_ref().filter(|known| known.address == *address)?;
        self.last = place;
        Some(known.python.clone_ref(py))
    }

    /// Remembers a sender; the caller drops who is forgotten for it.
    pub fn remember(&mut self, address: SocketAddress, python: Py<PyAny>) -> Vec<Py<PyAny>> {
        let mut forgotten = Vec::new();
        if self.known.is_empty() {
            self.known.resize_with(FEWEST, || None);
        } else if self.known[self.place(&address)].is_some() && self.known.len() < MOST {
            let before = std::mem::take(&mut self.known);
            self.known.resize_with(before.len() * 4, || None);
            for known in before.into_iter().flatten() {
                let place = self.place(&known.address);
                forgotten.extend(self.known[place].replace(known).map(|known| known.python));
            }
        }
        self.last = self.place(&address);
        let replaced = self.known[self.last].replace(Box::new(Known { address, python }));
        forgotten.extend(replaced.map(|known| known.python));
        forgotten
    }

    /// The address behind the object that the last sender was given as.
    pub fn last_if(&self, object: Borrowed<'_, '_, PyAny>) -> Option<&SocketAddress> {
        let known = self.known.get(self.last)?.as_ref()?;
        known.python.is(&*object).then_some(&known.address)
    }
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
