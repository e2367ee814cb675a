//! What all transports have in common: a registration with the reactor, a protocol that is told of the end once, and
//! errors that end the connection.
//!
//! `Endpoint` names the parts that differ; the functions here are the same for streams, datagrams and pipes. None of
//! them calls Python while the state of a transport is lent.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::PyClass;

use super::info::Descriptor;
use crate::asyncio::event_loop::ready::{Entry, IoEvent};
use crate::asyncio::event_loop::report::{self, ends_the_run};
use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::LoopCore;
use crate::asyncio::protocol::call_flow_control;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::{Interest, Readiness, Trigger};
use crate::engine::stream::flow::FlowControl;
use crate::py::buffer::Data;
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

/// Whose events a transport gets.
pub struct Registration {
    pub fd: RawFd,
    /// `None`: not registered.
    pub token: Option<Token>,
    pub interest: Interest,
}

impl Registration {
    pub fn new(fd: RawFd) -> Self {
        Self { fd, token: None, interest: Interest::NONE }
    }
}

/// A transport, see the module's documentation.
pub trait Endpoint: PyClass<Frozen = True> + Sync {
    fn event_loop(&self) -> &Py<LoopCore>;

    /// The protocol, until the connection is lost.
    fn protocol_object(&self, py: Python<'_>) -> Option<Py<PyAny>>;

    /// The context that everything it schedules is to run in, if it has one: streams do, since Python 3.15.
    fn own_context(&self, _py: Python<'_>) -> Option<Py<PyAny>> {
        None
    }

    /// Lends the registration; `body` must not call Python.
    fn registration<R>(&self, py: Python<'_>, body: impl FnOnce(&mut Registration) -> R) -> R;

    /// This transport as a source of events.
    fn source(slf: &Bound<'_, Self>) -> Source;

    /// Takes the descriptor away; it is `Closed` from then on.
    fn take_descriptor(&self, py: Python<'_>) -> Descriptor;

    /// Ends it at once, without sending what is queued. True: `connection_lost` is to be scheduled.
    fn abandon(&self, py: Python<'_>) -> bool;
}

/// Watches the descriptor, level-triggered, for exactly `interest`.
///
/// `NONE` ends the registration: the kernel would go on reporting errors and the end of the stream, in every poll.
pub fn watch<T: Endpoint>(slf: &Bound<'_, T>, interest: Interest) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let (fd, token, current) = this.registration(py, |it| (it.fd, it.token, it.interest));
    let event_loop = this.event_loop().get();
    match token {
        None if interest == Interest::NONE => return Ok(()),
        None => {
            let source = T::source(slf);
            let token = event_loop.register(py, fd, source, interest, Trigger::Level)?;
            this.registration(py, |it| it.token = Some(token));
        }
        Some(_) if interest == Interest::NONE => deregister(this, py),
        Some(_) if current == interest => return Ok(()),
        Some(token) => {
            let outcome = event_loop.state(py, |state| state.sources.change(fd, token, interest, Trigger::Level));
            outcome.map_err(|error| os_error(py, &error))?;
        }
    }
    this.registration(py, |it| it.interest = interest);
    Ok(())
}

/// Ends the registration; events under way find nobody.
pub fn deregister<T: Endpoint>(this: &T, py: Python<'_>) {
    let (fd, token) = this.registration(py, |it| (it.fd, it.token.take()));
    if let Some(token) = token {
        let _source = this.event_loop().get().state(py, |state| state.sources.remove(fd, token));
    }
}

/// `transport._pipe = None`: ends the registration and lets go of the file object without closing it.
///
/// # Errors
/// `AttributeError` for any other value.
pub fn release_descriptor<T: Endpoint>(this: &T, py: Python<'_>, value: Option<Py<PyAny>>) -> PyResult<()> {
    if value.is_some() {
        return Err(PyAttributeError::new_err("can only be set to None"));
    }
    deregister(this, py);
    let _released = this.take_descriptor(py);
    Ok(())
}

/// Queues an event for the transport, as if the reactor had reported it.
pub fn queue_event<T: Endpoint>(slf: &Bound<'_, T>, readiness: Readiness) {
    let py = slf.py();
    if let Some(token) = slf.get().registration(py, |it| it.token) {
        slf.get().event_loop().get().push(py, || Entry::Io(IoEvent { token, readiness }));
    }
}

/// What a new transport schedules, in this order: `connection_made`, the start of reading, the waiter's result.
pub fn schedule_start<T: Endpoint>(
    slf: &Bound<'_, T>,
    protocol: &Bound<'_, PyAny>,
    waiter: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = slf.py();
    let event_loop = slf.get().event_loop().bind(py);
    let context = slf.get().own_context(py);
    let in_context = || context.as_ref().map(|context| context.clone_ref(py));
    let connection_made = protocol.getattr(name!(py, "connection_made"))?;
    LoopCore::schedule(event_loop, connection_made, Some(slf.clone().into_any()), in_context())?;
    let start_reading = slf.as_any().getattr(name!(py, "_start_reading"))?;
    LoopCore::schedule(event_loop, start_reading, None, in_context())?;
    if let Some(waiter) = waiter {
        let set_result = imports(py)?.set_result_unless_cancelled.bind(py);
        event_loop.call_method1(name!(py, "call_soon"), (set_result, waiter, py.None()))?;
    }
    Ok(())
}

/// Schedules `connection_lost`.
pub fn lose_soon<T: Endpoint>(slf: &Bound<'_, T>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    deregister(this, py);
    let callback = slf.as_any().getattr(name!(py, "_call_connection_lost"))?;
    let exception = exception.unwrap_or_else(|| py.None().into_bound(py));
    let event_loop = this.event_loop().bind(py);
    if event_loop.get().is_loop_closed() {
        // Nothing will run any more: only the descriptor is left to be cared for.
        this.take_descriptor(py).close(py)?;
    }
    LoopCore::schedule(event_loop, callback, Some(exception), this.own_context(py))
}

/// Ends the connection; what is queued is lost. Does nothing if it has ended.
pub fn force_close<T: Endpoint>(slf: &Bound<'_, T>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    if slf.get().abandon(slf.py()) {
        lose_soon(slf, exception)
    } else {
        Ok(())
    }
}

/// An error that the connection does not survive. Everyday ones are for debug mode's log, others are reported.
pub fn fatal_error<T: Endpoint>(slf: &Bound<'_, T>, error: PyErr, everyday: bool, message: &str) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let event_loop = this.event_loop().bind(py);
    let exception = error.into_value(py).into_bound(py).into_any();
    if !everyday {
        let protocol = this.protocol_object(py);
        let protocol = protocol.as_ref().map(|protocol| protocol.bind(py));
        let details = [("transport", Some(slf.as_any())), ("protocol", protocol)];
        report::failed(event_loop.as_any(), message, &exception, &details)?;
    } else {
        report::everyday_error(event_loop, slf.as_any(), message, &exception)?;
    }
    force_close(slf, Some(exception))
}

/// Calls the protocol's `connection_lost`.
pub fn tell_lost<T: Endpoint>(slf: &Bound<'_, T>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = slf.py();
    deregister(slf.get(), py);
    let Some(protocol) = slf.get().protocol_object(py) else { return Ok(()) };
    let exception = exception.unwrap_or_else(|| py.None().into_bound(py));
    call::call_method1(py, &protocol, &imports(py)?.connection_lost, &exception).map(drop)
}

/// A callback of the protocol raised, and the transport lives on.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`.
pub fn callback_outcome<T: Endpoint>(slf: &Bound<'_, T>, outcome: PyResult<()>, callback: &str) -> PyResult<()> {
    let py = slf.py();
    let Err(error) = outcome else { return Ok(()) };
    if ends_the_run(py, &error) {
        return Err(error);
    }
    let this = slf.get();
    let protocol = this.protocol_object(py);
    let details =
        [("transport", Some(slf.as_any())), ("protocol", protocol.as_ref().map(|protocol| protocol.bind(py)))];
    let exception = error.into_value(py);
    let message = format!("Exception in callback protocol.{callback}()");
    report::failed(this.event_loop().bind(py).as_any(), &message, exception.bind(py).as_any(), &details)
}

/// Calls `pause_writing` or `resume_writing`.
pub fn call_flow<T: Endpoint>(slf: &Bound<'_, T>, pause: bool) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    match this.protocol_object(py) {
        Some(protocol) => call_flow_control(this.event_loop().bind(py), slf.as_any(), protocol.bind(py), pause),
        None => Ok(()),
    }
}

/// `set_write_buffer_limits`, in bytes. True: the queue, of `size` bytes, is above the new mark, so pause.
///
/// # Errors
/// `ValueError` in asyncio's words unless high >= low >= 0.
pub fn set_water_marks(flow: &mut FlowControl, size: usize, high: Option<i64>, low: Option<i64>) -> PyResult<bool> {
    let unsigned = |mark: Option<i64>| mark.map(usize::try_from).transpose();
    if let (Ok(high), Ok(low)) = (unsigned(high), unsigned(low)) {
        if flow.set_limits(high, low).is_ok() {
            return Ok(flow.after_push(size));
        }
    }
    // asyncio's defaults, spelled out here only to name the pair in the error.
    let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high.div_euclid(4));
    Err(PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0")))
}

/// What `writelines` was given. Everything is looked at before `body` writes anything: a wrong item changes nothing.
///
/// # Errors
/// `TypeError` for a wrong item, and what iterating raises, or `body`.
pub fn with_pieces<R>(list: &Bound<'_, PyAny>, body: impl FnOnce(Vec<Data<'_, '_>>) -> PyResult<R>) -> PyResult<R> {
    let items = list.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let mut pieces = Vec::with_capacity(items.len());
    for item in &items {
        let Some(data) = Data::new(item.as_borrowed())? else {
            let class = item.get_type();
            return Err(PyTypeError::new_err(format!("a bytes-like object is required, not '{}'", class.name()?)));
        };
        pieces.push(data);
    }
    body(pieces)
}

/// A write after the connection was lost: dropped, and from the fifth on warned of.
pub fn warn_of_write_after_loss(py: Python<'_>, warn: bool, message: &str) -> PyResult<()> {
    if warn {
        imports(py)?.logger.bind(py).call_method1(name!(py, "warning"), (message,))?;
    }
    Ok(())
}

/// Debug mode: logs `message`, which has a `%r` for the transport, with the logger's method `level`.
pub fn log_debug<T: Endpoint>(slf: &Bound<'_, T>, level: &str, message: &str) -> PyResult<()> {
    let py = slf.py();
    if slf.get().event_loop().get().is_debug() {
        let (level, message) = (objects::interned(py, level)?, objects::text(py, message)?);
        call::call_method2(py, &imports(py)?.logger, level.as_unbound(), message.as_any(), slf.as_any())?;
    }
    Ok(())
}

/// The finalizer of a transport that nobody closed: warns, and closes its descriptor.
pub fn warn_unclosed<T: Endpoint>(slf: &Bound<'_, T>, open: bool) -> PyResult<()> {
    let py = slf.py();
    if !open {
        return Ok(());
    }
    let warned = report::unclosed(slf.as_any());
    slf.get().take_descriptor(py).close(py)?;
    warned
}
