//! The end of a stream: `close`, `abort`, errors, and the one `connection_lost`.
//!
//! `StreamCore` says what is to be done, once; what all transports share of the end is in `endpoint`. The descriptor is
//! closed after the protocol was told, whatever the protocol raises, and whoever waits for a free descriptor is woken.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::endpoint;
use super::info::Descriptor;
use super::start::detach;
use super::stream::StreamTransport;
use super::write::fail_empty_waiter;
use crate::asyncio::event_loop::LoopCore;
use crate::engine::stream::CloseAction;

impl StreamTransport {
    /// `close()`: no more reading; what is queued is still sent.
    pub fn close_transport(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf)?;
        let py = slf.py();
        let action = slf.get().inner.with(py, |inner| {
            let empty = inner.queue.is_empty();
            inner.life.close(empty)
        });
        match action {
            CloseAction::Nothing | CloseAction::DrainThenLose => Ok(()),
            CloseAction::LoseNow => endpoint::lose_soon(slf, None),
        }
    }

    /// An error that the connection does not survive. Those of the network are everyday; others are reported.
    pub fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let everyday = error.is_instance_of::<PyOSError>(slf.py());
        endpoint::fatal_error(slf, error, everyday, message)
    }

    /// Tells the protocol, once, and closes the descriptor, whatever the protocol raises.
    pub fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.event_loop.get().metrics.connections_closed.add(1);
        let outcome = endpoint::tell_lost(slf, exception);
        if let Some(fd) = this.inner.with(py, |inner| inner.lent.then_some(inner.registration.fd)) {
            // Whoever polls a descriptor that is closed would wait for ever, or for somebody else's events.
            this.event_loop.get().forget_watcher(py, fd);
        }
        let (descriptor, server, waiter, _dropped) = this.inner.with(py, |inner| {
            let dropped = (
                inner.protocol.take(),
                inner.own_context.take(),
                inner.read_context.take(),
                inner.write_context.take(),
                std::mem::take(&mut inner.queue),
            );
            let descriptor = std::mem::replace(&mut inner.descriptor, Descriptor::Closed);
            (descriptor, inner.server.take(), inner.empty_waiter.take(), dropped)
        });
        let closed = descriptor.close(py);
        let detached = server.map_or(Ok(()), |server| detach(server.bind(py), slf));
        let failed = waiter.map_or(Ok(()), |waiter| fail_empty_waiter(py, waiter.bind(py)));
        LoopCore::descriptor_freed(this.event_loop.bind(py))?;
        outcome.and(closed).and(detached).and(failed)
    }
}
