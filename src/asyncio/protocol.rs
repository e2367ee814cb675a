//! A user's protocol, as a transport calls it.
//!
//! Methods are looked up at each call, as asyncio does: a program may replace
//! `protocol.data_received` at any time. Only the kind of protocol is decided once, when it is set.

use pyo3::prelude::*;

use super::event_loop::report::{self, ends_the_run};
use super::event_loop::LoopCore;
use super::streams;
use super::transport::tls::connection::TlsConnection;
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;

/// How a protocol wants its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolKind {
    /// `data_received(bytes)`.
    Streaming,
    /// The same, of asyncio's own streams: their reader can be fed directly.
    Reader,
    /// `get_buffer(hint)` and `buffer_updated(count)`.
    Buffered,
    /// A TLS connection of ours, which takes ciphertext without a Python object around it.
    Tls,
}

impl ProtocolKind {
    pub fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if protocol.is_exact_instance_of::<TlsConnection>() {
            return Ok(Self::Tls);
        }
        if streams::is_reader_protocol(protocol) {
            return Ok(Self::Reader);
        }
        let buffered = protocol.is_instance(imports(protocol.py())?.buffered_protocol.bind(protocol.py()))?;
        Ok(if buffered { Self::Buffered } else { Self::Streaming })
    }
}

/// Calls `pause_writing` or `resume_writing`; what they raise is reported and changes nothing.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`.
pub fn call_flow_control(
    event_loop: &Bound<'_, LoopCore>,
    transport: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
    pause: bool,
) -> PyResult<()> {
    let py = protocol.py();
    let name = if pause { name!(py, "pause_writing") } else { name!(py, "resume_writing") };
    let Err(error) = call::call_method0(py, protocol.as_unbound(), name.as_unbound()) else { return Ok(()) };
    if ends_the_run(py, &error) {
        return Err(error);
    }
    let message = if pause { "protocol.pause_writing() failed" } else { "protocol.resume_writing() failed" };
    report::failed(
        event_loop.as_any(),
        message,
        error.into_value(py).bind(py),
        &[("transport", Some(transport)), ("protocol", Some(protocol))],
    )
}
