//! The end of a transport: `close`, `abort`, errors, and the one `connection_lost`.

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

use super::info::Descriptor;
use super::start::detach;
use super::stream::StreamTransport;
use super::write::fail_empty_waiter;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::engine::stream::CloseAction;
use crate::py::imports::imports;

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
            CloseAction::LoseNow => Self::lose_soon(slf, None),
        }
    }

    /// Ends the connection; what is queued is lost. Does nothing if it has ended.
    pub fn force_close(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let (schedule, _dropped) = slf.get().inner.with(py, |inner| {
            let schedule = inner.life.abort();
            inner.blocked = false;
            inner.held = false;
            (schedule, schedule.then(|| std::mem::take(&mut inner.queue)))
        });
        if schedule {
            Self::lose_soon(slf, exception)
        } else {
            Ok(())
        }
    }

    /// Schedules `connection_lost`.
    fn lose_soon(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        slf.get().deregister(py);
        let callback = slf.getattr(intern!(py, "_call_connection_lost"))?;
        let exception = exception.unwrap_or_else(|| py.None().into_bound(py));
        let event_loop = slf.get().event_loop.bind(py);
        if event_loop.get().is_loop_closed() {
            // Nothing will run any more: only the descriptor is left to be cared for.
            let descriptor =
                slf.get().inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, Descriptor::Closed));
            descriptor.close(py)?;
        }
        LoopCore::schedule(event_loop, callback, Some(exception))
    }

    /// An error that the connection does not survive. Those of the network are everyday; others are reported.
    pub fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.event_loop.bind(py);
        let from_network = error.is_instance_of::<PyOSError>(py);
        let exception = error.into_value(py).into_bound(py).into_any();
        if !from_network {
            let protocol = this.protocol_object(py);
            let protocol = protocol.as_ref().map(|protocol| protocol.bind(py));
            report::failed(
                event_loop.as_any(),
                message,
                &exception,
                &[("transport", Some(slf.as_any())), ("protocol", protocol)],
            )?;
        } else if event_loop.get().is_debug() {
            let keywords = pyo3::types::PyDict::new(py);
            keywords.set_item(intern!(py, "exc_info"), &exception)?;
            imports(py)?.logger.bind(py).call_method(
                intern!(py, "debug"),
                ("%r: %s", slf, message),
                Some(&keywords),
            )?;
        }
        Self::force_close(slf, Some(exception))
    }

    /// Tells the protocol, once, and closes the descriptor, whatever the protocol raises.
    pub fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.deregister(py);
        let protocol = this.protocol_object(py);
        let outcome = match protocol {
            Some(protocol) => {
                let exception = exception.unwrap_or_else(|| py.None().into_bound(py));
                protocol.bind(py).call_method1(&imports(py)?.connection_lost, (exception,)).map(drop)
            }
            None => Ok(()),
        };
        let (descriptor, server, waiter, _dropped) = this.inner.with(py, |inner| {
            let dropped = (
                inner.protocol.take(),
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
