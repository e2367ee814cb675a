//! Receiving: many datagrams per system call, handed to the protocol one by one.
//!
//! What was received belongs to the transport until the protocol has it: if a callback ends the run
//! (`KeyboardInterrupt`), the rest waits in `Inner::received` for the next run. If a callback closes the transport,
//! the rest is dropped, since nothing may come after `close()`.

use pyo3::prelude::*;

use super::{DatagramTransport, Received};
use crate::asyncio::transport::endpoint::{self, Endpoint};
use crate::asyncio::transport::info;
use crate::engine;
use crate::engine::reactor::Readiness;
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;

/// Batches per turn: a peer that floods waits like everybody else.
const BATCHES_PER_TURN: usize = 4;
const READ_ERROR: &str = "Fatal read error on datagram transport";

impl DatagramTransport {
    /// Receives from now on, in the context of the caller.
    pub fn resume_receiving(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let context = call::copy_context(py)?;
        let (waiting, _previous) = slf
            .get()
            .inner
            .with(py, |inner| (!inner.received.is_empty() && inner.started, inner.read_context.replace(context)));
        Self::update_interest(slf)?;
        if waiting {
            endpoint::queue_event(slf, Readiness::READABLE);
        }
        Ok(())
    }

    /// There is something to receive, or an error to learn.
    pub fn receive_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let plan = slf.get().inner.with(py, |inner| {
            let wanted = inner.started && inner.life.is_reading();
            let context = inner.read_context.as_ref().filter(|_| wanted)?.clone_ref(py);
            Some((context, inner.received.is_empty().then_some(inner.registration.fd)))
        });
        let Some((context, fd)) = plan else { return Ok(()) };
        call::in_context(py, &context, || {
            let Some(fd) = fd else { return Self::hand_over(slf) };
            for _ in 0..BATCHES_PER_TURN {
                let received = match Self::receive_batch(slf, fd) {
                    Ok(received) => received,
                    Err(error) => return endpoint::fatal_error(slf, error, false, READ_ERROR),
                };
                match received {
                    Ok(count) => {
                        Self::hand_over(slf)?;
                        // Where several came at once more have come meanwhile: that saves a poll. One at a time does not.
                        if count < 2 || !slf.get().inner.with(py, |inner| inner.life.is_reading()) {
                            break;
                        }
                    }
                    Err(error) if error.would_block() => break,
                    Err(error) => {
                        let outcome = Self::tell_error(slf, &error);
                        return endpoint::callback_outcome(slf, outcome, "error_received");
                    }
                }
            }
            Ok(())
        })
    }

    /// From the kernel into `Inner::received`. The outer error is `MemoryError`; datagrams may be lost then.
    fn receive_batch(slf: &Bound<'_, Self>, fd: i32) -> PyResult<engine::Result<usize>> {
        let py = slf.py();
        let this = slf.get();
        this.event_loop.get().datagrams(py, |batch| {
            let count = match batch.receive(fd, this.largest) {
                Ok(count) => count,
                Err(error) => return Ok(Err(error)),
            };
            this.inner.with(py, |inner| {
                for (data, sender) in batch.messages() {
                    let data = this.event_loop.get().kept_bytes.bytes(py, data)?.unbind();
                    inner.received.push_back(Received { data, sender: sender.cloned() });
                }
                Ok(Ok(count))
            })
        })
    }

    /// Gives the protocol what was received.
    fn hand_over(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let next = slf.get().inner.with(py, |inner| {
                let protocol = inner.protocol.as_ref().filter(|_| inner.life.is_reading())?.clone_ref(py);
                Some((inner.received.pop_front(), protocol))
            });
            let Some((Some(datagram), protocol)) = next else { break };
            let told = Self::tell_datagram(slf, datagram, &protocol);
            outcome = endpoint::callback_outcome(slf, told, "datagram_received");
        }
        let (waiting, _dropped) = slf.get().inner.with(py, |inner| {
            let dropped = inner.life.is_closing().then(|| std::mem::take(&mut inner.received));
            (!inner.received.is_empty() && inner.life.is_reading(), dropped)
        });
        if waiting {
            endpoint::queue_event(slf, Readiness::READABLE);
        }
        outcome
    }

    fn tell_datagram(slf: &Bound<'_, Self>, datagram: Received, protocol: &Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let sender = match datagram.sender {
            None => py.None(),
            Some(sender) => match slf.get().inner.with(py, |inner| inner.peers.find(py, &sender)) {
                Some(known) => known,
                None => {
                    let object = info::to_python(py, &sender)?.unbind();
                    let kept = object.clone_ref(py);
                    let _forgotten = slf.get().inner.with(py, |inner| inner.peers.remember(sender, kept));
                    object
                }
            },
        };
        let (data, sender) = (datagram.data.into_bound(py), sender.into_bound(py));
        let outcome = call::call_method2(py, protocol, &imports(py)?.datagram_received, &data, &sender).map(drop);
        slf.get().event_loop.get().kept_bytes.keep(data);
        outcome
    }

    /// `protocol.error_received(exception)`.
    pub fn tell_error(slf: &Bound<'_, Self>, error: &engine::Error) -> PyResult<()> {
        let exception = os_error(slf.py(), error).into_value(slf.py());
        Self::tell_exception(slf, exception.bind(slf.py()).as_any())
    }

    pub fn tell_exception(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().protocol_object(py) {
            Some(protocol) => call::call_method1(py, &protocol, &imports(py)?.error_received, exception).map(drop),
            None => Ok(()),
        }
    }
}
