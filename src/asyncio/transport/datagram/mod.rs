//! `DatagramTransport`: a UDP or Unix datagram socket and its protocol.
//!
//! Owned by the loop's thread. `Inner` is lent to short closures; every call of the protocol happens outside of
//! them, so the protocol may do anything to the transport. The registration is level-triggered: the kernel repeats
//! what was not received, errors included.
//!
//! ```text
//!   made --connection_made--> receiving
//!     close: closing, what is queued is still sent --> lost      (connection_lost(None))
//!     abort, bad address:                          --> lost      (connection_lost(exception))
//!   errors of the network: error_received, and on it goes
//! ```
//!
//! This file holds the class and the index of its methods; `receive`, `send` and `peers` are what it does.

mod peers;
mod receive;
mod send;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{ffi, Borrowed};

use self::peers::Peers;
use self::send::Receiver;
use super::description::{both_ways, Description};
use super::endpoint::{self, Endpoint, Registration};
use super::info::{self, Descriptor, Info};
use super::start::addresses;
use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::LoopCore;
use crate::engine::datagram::DatagramQueue;
use crate::engine::reactor::{Interest, Readiness};
use crate::engine::stream::flow::FlowControl;
use crate::engine::stream::{CloseAction, StreamCore};
use crate::engine::sys::addr::SocketAddress;
use crate::engine::sys::datagram::{LARGEST_INTERNET, LARGEST_LOCAL};
use crate::engine::sys::socket;
use crate::py::buffer::SendChunk;
use crate::py::class::{new_with_dict, Finalize};
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::method::{add_fast_method, Arguments, FastMethod};

/// What a queued datagram counts for besides its data: since 3.13 asyncio adds UDP's header.
const HEADER_BYTES: usize = if cfg!(Py_3_13) { 8 } else { 0 };

/// A datagram that came, and was not handed over yet.
struct Received {
    data: Py<PyAny>,
    sender: Option<SocketAddress>,
}

/// The state of a transport.
struct Inner {
    life: StreamCore,
    queue: DatagramQueue<SendChunk, Receiver>,
    flow: FlowControl,
    registration: Registration,
    descriptor: Descriptor,
    protocol: Option<Py<PyAny>>,
    read_context: Option<Py<PyAny>>,
    /// The context of the send that found the socket full.
    write_context: Option<Py<PyAny>>,
    /// `connection_made` is over.
    started: bool,
    /// The socket is full: what is queued waits for the kernel.
    blocked: bool,
    /// The kernel says "writable" and takes nothing: the receiver is full, and a timer will try again.
    backing_off: bool,
    received: VecDeque<Received>,
    peers: Peers,
    info: Info,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, dict, module = "ironloop._native")]
pub struct DatagramTransport {
    event_loop: Py<LoopCore>,
    /// The remote address that the endpoint was made with: the only one that `sendto` accepts.
    address: Option<Py<PyAny>>,
    /// The socket has a peer: `send` and not `sendto`.
    connected: bool,
    family: i32,
    /// What is received of a datagram at the most.
    largest: usize,
    inner: LoopOwned<Inner>,
}

impl Endpoint for DatagramTransport {
    fn event_loop(&self) -> &Py<LoopCore> {
        &self.event_loop
    }

    fn protocol_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    fn registration<R>(&self, py: Python<'_>, body: impl FnOnce(&mut Registration) -> R) -> R {
        self.inner.with(py, |inner| body(&mut inner.registration))
    }

    fn source(slf: &Bound<'_, Self>) -> Source {
        Source::Datagram(slf.clone().unbind())
    }

    fn take_descriptor(&self, py: Python<'_>) -> Descriptor {
        self.inner.with(py, |inner| std::mem::replace(&mut inner.descriptor, Descriptor::Closed))
    }

    fn abandon(&self, py: Python<'_>) -> bool {
        let (schedule, _dropped) = self.inner.with(py, |inner| {
            let schedule = inner.life.abort();
            inner.blocked = false;
            (schedule, (schedule.then(|| inner.queue.take()), std::mem::take(&mut inner.received)))
        });
        schedule
    }
}

impl DatagramTransport {
    /// The reactor's event: receive, then go on sending.
    pub fn on_event(slf: &Bound<'_, Self>, readiness: Readiness) -> PyResult<()> {
        if readiness.readable() {
            Self::receive_ready(slf)?;
        }
        if readiness.writable() {
            Self::send_ready(slf)?;
        }
        Ok(())
    }

    /// Registers for what the state asks for.
    fn update_interest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let wanted = slf.get().inner.with(slf.py(), |inner| {
            let read = if inner.started && inner.life.is_reading() { Interest::READ } else { Interest::NONE };
            let write = if inner.blocked && !inner.backing_off { Interest::WRITE } else { Interest::NONE };
            (!inner.life.is_lost()).then_some(read | write)
        });
        wanted.map_or(Ok(()), |wanted| endpoint::watch(slf, wanted))
    }

    fn is_open(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| !matches!(inner.descriptor, Descriptor::Closed))
    }
}

#[pymethods]
impl DatagramTransport {
    /// `loop._make_datagram_transport`: takes over a non-blocking `socket.socket`.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, address=None, waiter=None, extra=None))]
    fn new<'py>(
        event_loop: &Bound<'py, LoopCore>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let fd = info::fileno(sock)?;
        LoopCore::ensure_no_transport(event_loop, sock, fd)?;
        let (local, peer) = addresses(py, fd, sock)?;
        let connected = peer.is_some();
        let family = socket::local_address(fd).map_or(libc::AF_UNSPEC, |address| address.family());
        let internet = matches!(family, libc::AF_INET | libc::AF_INET6);
        let extra = extra.map(|extra| extra.copy().map(Bound::unbind)).transpose()?;
        let address = match address {
            Some(address) if address.is_truthy()? => Some(address.unbind()),
            _ => None,
        };
        let inner = Inner {
            life: StreamCore::new(),
            queue: DatagramQueue::new(HEADER_BYTES),
            flow: FlowControl::new(),
            registration: Registration::new(fd),
            descriptor: Descriptor::Object(sock.clone().unbind()),
            protocol: Some(protocol.clone().unbind()),
            read_context: None,
            write_context: None,
            started: false,
            blocked: false,
            backing_off: false,
            received: VecDeque::new(),
            peers: Peers::default(),
            info: Info { local, peer, extra, ..Info::default() },
        };
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            address,
            connected,
            family,
            largest: if internet { LARGEST_INTERNET } else { LARGEST_LOCAL },
            inner: LoopOwned::new(inner),
        };
        let transport = new_with_dict(py, this)?;
        endpoint::schedule_start(&transport, protocol, waiter.filter(|waiter| !waiter.is_none()))?;
        Ok(transport)
    }

    /// `asyncio.DatagramTransport`: an instance of it, as far as `isinstance` can tell.
    #[getter(__class__)]
    fn class(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(imports(py)?.datagram_transport.clone_ref(py))
    }

    /// Closes after everything that was sent has left; `connection_lost(None)` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let action = slf.get().inner.with(slf.py(), |inner| {
            let empty = inner.queue.is_empty();
            inner.life.close(empty)
        });
        match action {
            CloseAction::Nothing => Ok(()),
            CloseAction::DrainThenLose => Self::update_interest(slf),
            CloseAction::LoseNow => endpoint::lose_soon(slf, None),
        }
    }

    /// Closes at once; what has not left is lost. `connection_lost(None)` follows.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::force_close(slf, None)
    }

    /// Whether it is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_closing())
    }

    /// Bytes that wait to be sent; since Python 3.13 with 8 for the header of each datagram.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.inner.with(py, |inner| inner.queue.len_bytes())
    }

    /// (low, high) water marks, in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.inner.with(py, |inner| inner.flow.limits())
    }

    /// Sets the water marks, in bytes: above `high` the protocol's `pause_writing` is called, at `low` or
    /// below its `resume_writing`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(slf: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let pause = slf
            .get()
            .inner
            .with(slf.py(), |inner| endpoint::set_water_marks(&mut inner.flow, inner.queue.len_bytes(), high, low))?;
        if pause {
            endpoint::call_flow(slf, true)
        } else {
            Ok(())
        }
    }

    /// Stops receiving until `resume_reading()`; the kernel keeps, or drops, what comes meanwhile.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().inner.with(slf.py(), |inner| inner.life.pause_reading()) {
            Self::update_interest(slf)?;
            endpoint::log_debug(slf, "debug", "%r pauses reading")?;
        }
        Ok(())
    }

    /// Starts receiving again. Does nothing unless it was paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().inner.with(slf.py(), |inner| inner.life.resume_reading()) {
            Self::resume_receiving(slf)?;
            endpoint::log_debug(slf, "debug", "%r resumes reading")?;
        }
        Ok(())
    }

    /// Whether datagrams are received: neither paused nor closing.
    fn is_reading(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.life.is_reading())
    }

    /// From now on `protocol` gets the events.
    fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) {
        let _previous = self.inner.with(py, |inner| inner.protocol.replace(protocol.clone().unbind()));
    }

    /// The protocol; None once the transport is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol_object(py)
    }

    /// 'socket', 'sockname', 'peername', or what the creator of the transport added; else `default`.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.inner.with(py, |inner| inner.info.answers(py)).get(py, name, default, || {
            let wrapped = info::transport_socket(py, self._sock(py))?;
            let kept = wrapped.clone_ref(py);
            let _previous = self.inner.with(py, |inner| inner.info.socket.replace(kept));
            Ok(wrapped)
        })
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let description = self.inner.with(py, |inner| {
            let reads = inner.started && inner.life.is_reading();
            let work = both_ways(reads, inner.blocked, inner.queue.len_bytes());
            let closing = inner.life.is_closing();
            Description::new("DatagramTransport", inner.registration.fd, &inner.descriptor, closing, work)
                .at(py, &inner.info)
        });
        description.text(py, self.event_loop.get(), "")
    }

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().inner.with(slf.py(), |inner| inner.started = true);
        Self::resume_receiving(slf)
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::connection_lost(slf, exception)
    }

    fn _force_close(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        endpoint::force_close(slf, exception)
    }

    /// The end of a pause that the transport took because the receiver was full.
    fn _send_again(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().inner.with(slf.py(), |inner| inner.backing_off = false);
        Self::send_ready(slf)
    }

    #[getter]
    fn _sock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.descriptor.object(py))
    }

    #[getter]
    fn _sock_fd(&self, py: Python<'_>) -> RawFd {
        self.inner.with(py, |inner| inner.registration.fd)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.flow.is_paused())
    }

    #[getter]
    fn _address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.address)?;
        self.inner
            .visit(|inner| {
                visit.call(&inner.protocol)?;
                visit.call(&inner.read_context)?;
                visit.call(&inner.write_context)?;
                inner.descriptor.visit(&visit)?;
                inner.queue.iter().try_for_each(|(_, receiver)| receiver.visit(&visit))?;
                inner.info.visit(&visit)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _dropped = self.inner.visit(|inner| {
            (inner.protocol.take(), inner.read_context.take(), inner.write_context.take(), inner.queue.take())
        });
    }
}

impl DatagramTransport {
    /// Tells the protocol, once, and closes the socket, whatever the protocol raises.
    fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let outcome = endpoint::tell_lost(slf, exception);
        let (descriptor, _dropped) = slf.get().inner.with(py, |inner| {
            let dropped = (
                inner.protocol.take(),
                inner.read_context.take(),
                inner.write_context.take(),
                inner.queue.take(),
                std::mem::take(&mut inner.received),
            );
            (std::mem::replace(&mut inner.descriptor, Descriptor::Closed), dropped)
        });
        let closed = descriptor.close(py);
        LoopCore::descriptor_freed(slf.get().event_loop.bind(py))?;
        outcome.and(closed)
    }
}

/// `transport.sendto(data, addr=None)`.
struct SendTo;

impl FastMethod<DatagramTransport> for SendTo {
    const NAME: &'static CStr = c"sendto";
    const DOC: &'static CStr = c"sendto($self, /, data, addr=None)\n--\n\n\
        Send data (bytes, bytearray or memoryview) as one datagram, or queue it if the kernel has no room.\n\n\
        addr is an address as the socket's family has them; None sends to the peer of a connected endpoint.\n\
        Never blocks for room. Errors of the network go to the protocol's error_received().";

    /// In a callback: the run of the loop has told PyO3 that the thread is attached.
    #[inline]
    fn call_directly<'py>(
        slf: Borrowed<'_, 'py, DatagramTransport>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let (data, address) = match (arguments.positional(), arguments.keyword_names()) {
            ([data], None) => (*data, None),
            ([data, address], None) => (*data, Some(*address)),
            _ => return None,
        };
        let address = address.filter(|address| !address.is_none());
        let in_callback = slf.get().event_loop.get().runs_here();
        in_callback
            .then(|| DatagramTransport::send_to(&slf, data, address).map(|()| slf.py().None().into_bound(slf.py())))
    }

    #[inline]
    fn call<'py>(slf: Borrowed<'_, 'py, DatagramTransport>, arguments: Arguments<'_, 'py>) -> PyResult<Py<PyAny>> {
        let (data, address) = arguments.one_or_two("sendto", "data", "addr")?;
        DatagramTransport::send_to(&slf, data, address.filter(|address| !address.is_none()))?;
        Ok(slf.py().None())
    }
}

/// Adds the fast methods to the class.
pub fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<DatagramTransport, SendTo>(class)
}

impl Finalize for DatagramTransport {
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        endpoint::warn_unclosed(slf, slf.get().is_open(slf.py()))
    }

    fn original_dealloc() -> &'static OnceLock<ffi::destructor> {
        static ORIGINAL: OnceLock<ffi::destructor> = OnceLock::new();
        &ORIGINAL
    }
}
