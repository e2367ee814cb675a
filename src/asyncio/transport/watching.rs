//! Which events a stream transport asks the reactor for, and what it makes of them.
//!
//! ```text
//!   Unix socket: by level, for reading --an event is not wanted, the socket is full--> by edges
//!   TCP socket:  by edges, for both directions, from the beginning
//! ```
//!
//! By edges, nothing is ever changed again, and the transport remembers what the kernel will not repeat. That a short read was
//! the last one has to be known then. A read from a Unix socket stops behind descriptors that were sent along, which
//! only recvmsg(2) tells; by level, the next poll tells that something is left, and recv(2) takes 0.2 us less. Such a
//! registration is given up as soon as it would report the same thing again and again.

use pyo3::prelude::*;

use super::endpoint::Endpoint;
use super::stream::{Inner, StreamTransport};
use crate::engine::reactor::{Interest, Readiness, Trigger};
use crate::engine::sys::socket::StreamSource;
use crate::py::error::os_error;

impl Inner {
    /// An event came: whether to read and whether to write now.
    fn take_note(&mut self, readiness: Readiness) -> (bool, bool) {
        if readiness.is_own() {
            let (read, write) = (readiness.readable(), readiness.writable());
            self.reads_on &= !read;
            self.writes_on &= !write;
            return (read, write && self.blocked);
        }
        let read = readiness.readable();
        self.readable |= read;
        self.end_announced |= readiness.read_closed();
        (read && !self.reads_on, readiness.writable() && self.blocked && !self.writes_on)
    }

    pub fn source(&self) -> StreamSource {
        let fd = self.registration.fd;
        if self.is_tcp || self.by_level {
            StreamSource::socket(fd)
        } else {
            StreamSource::with_control_data(fd)
        }
    }
}

impl StreamTransport {
    /// Registers the descriptor with the reactor.
    pub fn ensure_registered(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let unregistered = this.inner.with(py, |inner| {
            if inner.registration.token.is_some() {
                return None;
            }
            inner.by_level = !inner.is_tcp && !inner.blocked;
            Some((inner.registration.fd, inner.by_level))
        });
        let Some((fd, by_level)) = unregistered else { return Ok(()) };
        let (interest, trigger) =
            if by_level { (Interest::READ, Trigger::Level) } else { (Interest::READ | Interest::WRITE, Trigger::Edge) };
        let token = this.event_loop.get().register(py, fd, Self::source(slf), interest, trigger)?;
        this.inner.with(py, |inner| {
            inner.registration.token = Some(token);
            // Events of an earlier registration find nobody.
            (inner.reads_on, inner.writes_on) = (false, false);
        });
        Ok(())
    }

    /// From now on by edges. The kernel looks again, so that nothing is missed.
    pub fn watch_edges(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let token = this.inner.with(py, |inner| {
            let changes = std::mem::replace(&mut inner.by_level, false);
            inner.registration.token.filter(|_| changes)
        });
        let Some(token) = token else { return Ok(()) };
        let fd = this.inner.with(py, |inner| inner.registration.fd);
        let interest = Interest::READ | Interest::WRITE;
        let changed = this.event_loop.get().state(py, |state| state.sources.change(fd, token, interest, Trigger::Edge));
        changed.map_err(|error| os_error(py, &error))
    }

    /// The reactor's event: read what there is, then go on writing.
    pub fn on_event(slf: &Bound<'_, Self>, readiness: Readiness) -> PyResult<()> {
        let (read, write) = slf.get().inner.with(slf.py(), |inner| inner.take_note(readiness));
        if read {
            Self::read_ready(slf)?;
        }
        if write {
            slf.get().insist_on_context(slf.py());
            Self::write_ready(slf)?;
        }
        Ok(())
    }
}
