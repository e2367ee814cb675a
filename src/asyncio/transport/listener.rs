//! `Listener`: accepts the connections of one listening socket and gives each a transport.
//!
//! Registered level-triggered, so connections beyond a turn's budget announce themselves again. When
//! the process is out of descriptors the listener says so once, stops, and tries again after a second
//! or when a descriptor of ours is freed; whoever waits in the backlog is served then.
//!
//! ```text
//!   listening --EMFILE, ENFILE, ENOBUFS, ENOMEM--> starved --a second, a close--> listening
//! ```

use std::os::fd::{AsRawFd, RawFd};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::info::{self, Address, Descriptor, Info};
use super::start::{accepted_parts, Parts};
use super::stream::StreamTransport;
use super::tls::connection::{Settings, TlsConnection};
use crate::asyncio::event_loop::source::Source;
use crate::asyncio::event_loop::watchers::descriptor;
use crate::asyncio::event_loop::{report, LoopCore};
use crate::engine;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::{Interest, Trigger};
use crate::engine::sys::socket;
use crate::py::call;
use crate::py::error::os_error;
use crate::py::imports::imports;
use crate::py::loop_owned::LoopOwned;
use crate::py::names::name;
use crate::py::objects;

/// Connections accepted per turn at the most, so that a burst does not keep the other callbacks waiting.
const LARGEST_BUDGET: usize = 64;
/// Seconds until a starved listener tries again, as in asyncio (`constants.ACCEPT_RETRY_DELAY`).
const RETRY_DELAY: f64 = 1.0;

/// See the module's documentation.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct Listener {
    fd: RawFd,
    budget: usize,
    sock: Py<PyAny>,
    protocol_factory: Py<PyAny>,
    server: Option<Py<PyAny>>,
    tls: Option<Tls>,
    /// Each connection begins in a copy of it: the protocol is made there, and told of the connection.
    context: Py<PyAny>,
    /// Whether the transports shall keep theirs (`_start_serving` of Python 3.15 passes one).
    transports_keep_context: bool,
    state: LoopOwned<ListenerState>,
}

/// What the connections of a TLS server are made with.
struct Tls {
    context: Py<PyAny>,
    handshake_timeout: Option<Py<PyAny>>,
    shutdown_timeout: Option<Py<PyAny>>,
}

struct ListenerState {
    token: Option<Token>,
    starved: bool,
    /// How many to accept at the next event. As many as came with the last one: to find out that nobody else waits costs
    /// a system call that makes a socket and throws it away. Whoever does wait is announced again by the next poll.
    at_once: usize,
}

#[pymethods]
impl Listener {
    /// Starts to accept connections of `sock`, which listens and does not block.
    ///
    /// The transports keep copies of `context`; without one they begin in copies of the current context.
    ///
    /// With `sslcontext` they are TLS servers' connections.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol_factory, server=None, backlog=100, sslcontext=None,
                        ssl_handshake_timeout=None, ssl_shutdown_timeout=None, *, context=None))]
    #[expect(clippy::too_many_arguments, reason = "the parameters of loop._start_serving")]
    fn new<'py>(
        event_loop: &Bound<'py, LoopCore>,
        sock: &Bound<'py, PyAny>,
        protocol_factory: &Bound<'py, PyAny>,
        server: Option<&Bound<'py, PyAny>>,
        backlog: i64,
        sslcontext: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let transports_keep_context = context.is_some();
        let context = context.map_or_else(|| call::copy_context(py), Ok)?;
        let listener = Bound::new(
            py,
            Self {
                fd: descriptor(sock)?,
                budget: usize::try_from(backlog).unwrap_or(1).clamp(1, LARGEST_BUDGET),
                sock: sock.clone().unbind(),
                protocol_factory: protocol_factory.clone().unbind(),
                server: server.map(|server| server.clone().unbind()),
                tls: sslcontext.map(|context| Tls {
                    context,
                    handshake_timeout: ssl_handshake_timeout,
                    shutdown_timeout: ssl_shutdown_timeout,
                }),
                context,
                transports_keep_context,
                state: LoopOwned::new(ListenerState { token: None, starved: false, at_once: 1 }),
            },
        )?;
        Self::listen(&listener, event_loop)?;
        Ok(listener)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let address = self.sock.bind(py).call_method0(name!(py, "getsockname")).and_then(|address| address.repr());
        let state = if self.state.with(py, |state| state.starved) { "waiting for descriptors" } else { "listening" };
        let text = match address {
            Ok(address) => format!("<Listener {state} fd={} local={address}>", self.fd),
            // Of a socket that is closed.
            Err(_) => format!("<Listener closed fd={}>", self.fd),
        };
        objects::text(py, &text)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sock)?;
        visit.call(&self.protocol_factory)?;
        if let Some(tls) = &self.tls {
            visit.call(&tls.context)?;
            visit.call(&tls.handshake_timeout)?;
            visit.call(&tls.shutdown_timeout)?;
        }
        visit.call(&self.context)?;
        visit.call(&self.server)
    }
}

impl Listener {
    fn listen(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let source = Source::Listener(slf.clone().unbind());
        let token = event_loop.get().register(py, this.fd, source, Interest::READ, Trigger::Level)?;
        this.state.with(py, |state| state.token = Some(token));
        Ok(())
    }

    /// Whether its registration still stands: `_stop_serving` ends it.
    fn is_listening(&self, event_loop: &LoopCore, py: Python<'_>) -> bool {
        let token = self.state.with(py, |state| state.token);
        token.is_some_and(|token| event_loop.state(py, |state| state.sources.get(token).is_some()))
    }

    /// Connections wait.
    pub fn on_event(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let at_once = this.state.with(py, |state| state.at_once);
        for accepted in 0..at_once {
            if !this.is_listening(event_loop.get(), py) || this.state.with(py, |state| state.starved) {
                return Ok(());
            }
            match socket::accept(this.fd) {
                Ok((fd, peer)) => {
                    event_loop.get().metrics.connections_accepted.add(1);
                    Self::accepted(slf, event_loop, fd, &peer)?;
                }
                Err(error) if error.errno == libc::ECONNABORTED => {}
                Err(error) if error.would_block() => {
                    this.state.with(py, |state| state.at_once = accepted.max(1));
                    return Ok(());
                }
                Err(error) if error.out_of_descriptors_or_memory() => return Self::starve(slf, event_loop, &error),
                Err(error) => {
                    let exception = os_error(py, &error).into_value(py);
                    let message = "Exception in callback Listener.accept";
                    let socket = info::transport_socket(py, Some(this.sock.clone_ref(py)))?;
                    return report::failed(
                        event_loop.as_any(),
                        message,
                        exception.bind(py),
                        &[("socket", Some(socket.bind(py)))],
                    );
                }
            }
        }
        this.state.with(py, |state| state.at_once = (at_once * 2).min(this.budget));
        Ok(())
    }

    /// One connection: a protocol from the factory, and a transport for it.
    fn accepted(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        fd: std::os::fd::OwnedFd,
        peer: &crate::engine::sys::addr::SocketAddress,
    ) -> PyResult<()> {
        let py = slf.py();
        let context = call::copy_of_context(py, &slf.get().context)?;
        call::in_context(py, &context, || {
            let mut protocol = None;
            let outcome = Self::connect(slf, event_loop, fd, peer, &context, &mut protocol);
            let Err(error) = outcome else { return Ok(()) };
            if report::ends_the_run(py, &error) {
                return Err(error);
            }
            report::failed(
                event_loop.as_any(),
                "Error on transport creation for incoming connection",
                error.into_value(py).bind(py),
                &[("protocol", protocol.as_ref())],
            )
        })
    }

    fn connect<'py>(
        slf: &Bound<'py, Self>,
        event_loop: &Bound<'py, LoopCore>,
        fd: std::os::fd::OwnedFd,
        peer: &crate::engine::sys::addr::SocketAddress,
        context: &Py<PyAny>,
        made: &mut Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = call::call0(py, &this.protocol_factory)?;
        *made = Some(protocol.clone());
        let protocol = match &this.tls {
            Some(tls) => tls.connection(event_loop, protocol)?,
            None => protocol,
        };
        let server = this.server.as_ref().map(|server| server.clone_ref(py));
        let context = this.transports_keep_context.then(|| context.clone_ref(py));
        let parts = if info::is_decodable(peer) {
            accepted_parts(fd, peer.into(), protocol.unbind(), server, context)
        } else {
            let number = fd.as_raw_fd();
            let socket = info::python_socket(py, fd)?;
            let address = |method| socket.bind(py).call_method0(method).ok().map(|it| Address::Python(it.unbind()));
            let info = Info {
                local: address(name!(py, "getsockname")),
                peer: address(name!(py, "getpeername")),
                ..Info::default()
            };
            Parts {
                fd: number,
                descriptor: Descriptor::Object(socket),
                protocol: protocol.unbind(),
                server,
                info,
                context,
            }
        };
        let transport = StreamTransport::start(event_loop, parts, None)?;
        if event_loop.get().is_debug() {
            let peer = transport.call_method1(name!(py, "get_extra_info"), ("peername",))?;
            let arguments = ("%r got a new connection from %r: %r", &this.server, peer, transport);
            imports(py)?.logger.bind(py).call_method1(name!(py, "debug"), arguments)?;
        }
        Ok(())
    }

    /// Out of descriptors: says so once and waits.
    fn starve(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>, error: &engine::Error) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        event_loop.get().metrics.accept_pauses.add(1);
        this.state.with(py, |state| state.starved = true);
        let waiting = slf.clone().unbind();
        event_loop.get().state(py, |state| state.starved.push(waiting));
        Self::set_interest(this, event_loop.get(), py, Interest::NONE);
        event_loop
            .call_method1(name!(py, "call_later"), (RETRY_DELAY, event_loop.getattr(name!(py, "_resume_starved"))?))?;
        let socket = info::transport_socket(py, Some(this.sock.clone_ref(py)))?;
        report::failed(
            event_loop.as_any(),
            "socket.accept() out of system resource",
            os_error(py, error).into_value(py).bind(py),
            &[("socket", Some(socket.bind(py)))],
        )
    }

    fn set_interest(&self, event_loop: &LoopCore, py: Python<'_>, interest: Interest) {
        let Some(token) = self.state.with(py, |state| state.token) else { return };
        event_loop.state(py, |state| {
            if state.sources.get(token).is_some() {
                // Fails only if the socket was closed behind our back, and then there is nothing to accept.
                let _ = state.sources.change(self.fd, token, interest, Trigger::Level);
            }
        });
    }

    /// Tries again.
    pub fn resume(slf: &Bound<'_, Self>, event_loop: &LoopCore) {
        let py = slf.py();
        slf.get().state.with(py, |state| state.starved = false);
        slf.get().set_interest(event_loop, py, Interest::READ);
    }
}

impl Tls {
    /// What the transport's protocol is then.
    fn connection<'py>(
        &self,
        event_loop: &Bound<'py, LoopCore>,
        protocol: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let timeout = |timeout: &Option<Py<PyAny>>| timeout.as_ref().map(|timeout| timeout.bind(py).clone());
        let settings = Settings {
            protocol,
            context: self.context.bind(py).clone(),
            waiter: None,
            server_side: true,
            server_hostname: None,
            connected: false,
            accepted: true,
            handshake_timeout: timeout(&self.handshake_timeout),
            shutdown_timeout: timeout(&self.shutdown_timeout),
        };
        Ok(TlsConnection::create(event_loop, settings)?.into_any())
    }
}

impl LoopCore {
    /// A descriptor of ours was closed: listeners that lack one may try again.
    pub fn descriptor_freed(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume_starved(slf);
        Ok(())
    }

    pub fn resume_starved(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let starved = slf.get().state(py, |state| std::mem::take(&mut state.starved));
        for listener in starved {
            Listener::resume(listener.bind(py), slf.get());
        }
    }
}
