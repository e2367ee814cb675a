//! Sources of events: who is registered for which descriptor.
//!
//! A source is found by a token with a generation, never by its descriptor's number, so an event
//! that was under way when its source went away finds nobody. The table by number only answers
//! "is somebody using this descriptor?" for `add_reader` and its like.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::report;
use super::sock::WaitedSocket;
use super::watchers::Watcher;
use super::LoopCore;
use crate::asyncio::transport::datagram::DatagramTransport;
use crate::asyncio::transport::listener::Listener;
use crate::asyncio::transport::pipe::reading::ReadPipeTransport;
use crate::asyncio::transport::pipe::writing::WritePipeTransport;
use crate::asyncio::transport::stream::StreamTransport;
use crate::engine;
use crate::engine::reactor::registry::{Registry, Token};
use crate::engine::reactor::{Interest, Reactor, Readiness, Trigger};
use crate::py::error::os_error;

/// Who gets the events of a descriptor.
pub enum Source {
    Watcher(Watcher),
    Socket(WaitedSocket),
    Stream(Py<StreamTransport>),
    Datagram(Py<DatagramTransport>),
    ReadPipe(Py<ReadPipeTransport>),
    WritePipe(Py<WritePipeTransport>),
    Listener(Py<Listener>),
}

impl Source {
    /// Its place was taken by another one: whoever waits for it shall look again.
    ///
    /// # Errors
    /// What waking raises.
    pub fn replaced(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Socket(socket) => socket.wake_all(py),
            _ => Ok(()),
        }
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Watcher(watcher) => watcher.visit(visit),
            Self::Socket(socket) => socket.visit(visit),
            Self::Stream(transport) => visit.call(transport),
            Self::Datagram(transport) => visit.call(transport),
            Self::ReadPipe(transport) => visit.call(transport),
            Self::WritePipe(transport) => visit.call(transport),
            Self::Listener(listener) => visit.call(listener),
        }
    }
}

/// All sources of a loop.
pub struct Sources {
    /// `None` once the loop is closed.
    pub reactor: Option<Arc<Reactor>>,
    registry: Registry<Source>,
    by_descriptor: Vec<Option<Registered>>,
}

/// What the reactor was told of a descriptor, to tell another one.
#[derive(Clone, Copy)]
struct Registered {
    token: Token,
    interest: Interest,
    trigger: Trigger,
}

impl Sources {
    pub fn new(reactor: Arc<Reactor>) -> Self {
        Self { reactor: Some(reactor), registry: Registry::new(), by_descriptor: Vec::new() }
    }

    pub fn token_of(&self, fd: RawFd) -> Option<Token> {
        let registered = self.by_descriptor.get(usize::try_from(fd).ok()?)?;
        registered.map(|registered| registered.token)
    }

    /// Whether the reactor is that of the process that this one was forked from.
    pub fn is_inherited(&self) -> bool {
        self.reactor.as_ref().is_some_and(|reactor| reactor.is_inherited())
    }

    /// From now on `reactor` reports everything. What it refuses is nothing to wait for: the descriptor was closed.
    pub fn move_to(&mut self, reactor: Arc<Reactor>) {
        for (fd, registered) in (0..).zip(&self.by_descriptor) {
            if let Some(Registered { token, interest, trigger }) = *registered {
                let _ = reactor.register(fd, token, interest, trigger);
            }
        }
        self.reactor = Some(reactor);
    }

    /// The watcher of `from` is that of `to`, or of nothing, for the reactor that this is told to next; there is none yet.
    ///
    /// The caller drops what comes back.
    pub fn renumber(&mut self, from: RawFd, to: Option<RawFd>) -> Option<Source> {
        let slot = usize::try_from(from).ok().and_then(|index| self.by_descriptor.get_mut(index))?;
        let registered = slot.take()?;
        let Some((to, index)) = to.and_then(|to| Some((to, usize::try_from(to).ok()?))) else {
            return self.registry.remove(registered.token);
        };
        if let Some(Source::Watcher(watcher)) = self.registry.get_mut(registered.token) {
            watcher.fd = to;
        }
        self.fill(index, registered)
    }

    /// Returns a source that had the same number before and was never told that its descriptor was closed.
    fn fill(&mut self, index: usize, registered: Registered) -> Option<Source> {
        if self.by_descriptor.len() <= index {
            self.by_descriptor.resize(index + 1, None);
        }
        let before = self.by_descriptor[index].replace(registered);
        before.and_then(|before| self.registry.remove(before.token))
    }

    /// How many are registered.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    pub fn get(&self, token: Token) -> Option<&Source> {
        self.registry.get(token)
    }

    pub fn watcher_mut(&mut self, fd: RawFd) -> Option<(Token, &mut Watcher)> {
        let token = self.token_of(fd)?;
        match self.registry.get_mut(token)? {
            Source::Watcher(watcher) => Some((token, watcher)),
            _ => None,
        }
    }

    /// What coroutines wait for on a socket.
    pub fn waited_socket_mut(&mut self, fd: RawFd) -> Option<(Token, &mut WaitedSocket)> {
        let token = self.token_of(fd)?;
        self.waited_socket_of(token).map(|socket| (token, socket))
    }

    pub fn waited_socket_of(&mut self, token: Token) -> Option<&mut WaitedSocket> {
        match self.registry.get_mut(token)? {
            Source::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    /// Whether somebody else than those has registered a descriptor.
    pub fn is_taken(&self, fd: RawFd) -> bool {
        let source = self.token_of(fd).and_then(|token| self.registry.get(token));
        source.is_some_and(|source| !matches!(source, Source::Socket(_)))
    }

    /// Registers a source for a descriptor.
    ///
    /// Returns also what the caller has to drop: the source itself after an error; else one that had the same number before
    /// and was never told that its descriptor was closed.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says: EPERM for a regular file, EBADF, ENOMEM, ENOSPC.
    pub fn insert(
        &mut self,
        fd: RawFd,
        source: Source,
        interest: Interest,
        trigger: Trigger,
    ) -> (engine::Result<Token>, Option<Source>) {
        let (Some(reactor), Ok(index)) = (&self.reactor, usize::try_from(fd)) else {
            return (Err(engine::Error { operation: "epoll_ctl", errno: libc::EBADF }), Some(source));
        };
        let token = self.registry.insert(source);
        let mut outcome = reactor.register(fd, token, interest, trigger);
        if outcome.as_ref().is_err_and(|error| error.errno == libc::EEXIST) {
            outcome = reactor.reregister(fd, token, interest, trigger);
        }
        if let Err(error) = outcome {
            return (Err(error), self.registry.remove(token));
        }
        (Ok(token), self.fill(index, Registered { token, interest, trigger }))
    }

    /// Changes what a registration waits for.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says: EBADF or ENOENT when the descriptor was closed behind the loop's back, ENOMEM.
    pub fn change(&mut self, fd: RawFd, token: Token, interest: Interest, trigger: Trigger) -> engine::Result<()> {
        let slot = usize::try_from(fd).ok().and_then(|index| self.by_descriptor.get_mut(index)?.as_mut());
        if let Some(registered) = slot.filter(|registered| registered.token == token) {
            (registered.interest, registered.trigger) = (interest, trigger);
        }
        match &self.reactor {
            Some(reactor) if !reactor.is_inherited() => reactor.reregister(fd, token, interest, trigger),
            _ => Ok(()),
        }
    }

    /// Ends a registration; the caller drops what comes back.
    pub fn remove(&mut self, fd: RawFd, token: Token) -> Option<Source> {
        let source = self.registry.remove(token)?;
        if let Some(slot) = usize::try_from(fd).ok().and_then(|index| self.by_descriptor.get_mut(index)) {
            if slot.is_some_and(|registered| registered.token == token) {
                *slot = None;
                if let Some(reactor) = self.reactor.as_ref().filter(|reactor| !reactor.is_inherited()) {
                    // Fails only if the descriptor was closed already, which has ended the registration too.
                    let _ = reactor.deregister(fd);
                }
            }
        }
        Some(source)
    }

    /// Everything, to be dropped by the caller; the reactor's descriptor is closed with it.
    pub fn close(&mut self) -> (Vec<Source>, Option<Arc<Reactor>>) {
        self.by_descriptor.clear();
        (self.registry.clear(), self.reactor.take())
    }

    pub fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        self.registry.iter().filter_map(|(_, source)| match source {
            Source::Watcher(watcher) => Some(watcher),
            _ => None,
        })
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (_, source) in self.registry.iter() {
            source.visit(visit)?;
        }
        Ok(())
    }
}

/// A source with a reference of its own, to call it while nothing is borrowed.
enum Target {
    Watcher,
    Socket,
    Stream(Py<StreamTransport>),
    Datagram(Py<DatagramTransport>),
    ReadPipe(Py<ReadPipeTransport>),
    WritePipe(Py<WritePipeTransport>),
    Listener(Py<Listener>),
}

impl LoopCore {
    /// Registers a source for a descriptor.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says.
    pub fn register(
        &self,
        py: Python<'_>,
        fd: RawFd,
        source: Source,
        interest: Interest,
        trigger: Trigger,
    ) -> PyResult<Token> {
        self.own_reactor(py)?;
        let (outcome, replaced) = self.state(py, |state| state.sources.insert(fd, source, interest, trigger));
        replaced.map_or(Ok(()), |replaced| replaced.replaced(py))?;
        outcome.map_err(|error| os_error(py, &error))
    }

    fn target(&self, py: Python<'_>, token: Token) -> Option<Target> {
        self.state(py, |state| {
            Some(match state.sources.get(token)? {
                Source::Watcher(_) => Target::Watcher,
                Source::Socket(_) => Target::Socket,
                Source::Stream(transport) => Target::Stream(transport.clone_ref(py)),
                Source::Datagram(transport) => Target::Datagram(transport.clone_ref(py)),
                Source::ReadPipe(transport) => Target::ReadPipe(transport.clone_ref(py)),
                Source::WritePipe(transport) => Target::WritePipe(transport.clone_ref(py)),
                Source::Listener(listener) => Target::Listener(listener.clone_ref(py)),
            })
        })
    }

    /// Brings an event to its source.
    #[inline]
    pub fn dispatch(slf: &Bound<'_, Self>, token: Token, readiness: Readiness) -> PyResult<()> {
        let py = slf.py();
        match slf.get().target(py, token) {
            None => Ok(()),
            Some(Target::Stream(transport)) => StreamTransport::on_event(transport.bind(py), readiness),
            Some(Target::Datagram(transport)) => DatagramTransport::on_event(transport.bind(py), readiness),
            Some(Target::ReadPipe(transport)) => ReadPipeTransport::on_event(transport.bind(py), readiness),
            Some(Target::WritePipe(transport)) => WritePipeTransport::on_event(transport.bind(py), readiness),
            Some(Target::Watcher) => Self::watcher_event(slf, token, readiness),
            Some(Target::Socket) => Self::socket_event(slf, token, readiness),
            Some(Target::Listener(listener)) => Listener::on_event(listener.bind(py), slf),
        }
    }

    /// The transport or listener that a token stands for; `None` for watchers, which are handles, and if it is gone.
    pub fn source_object<'py>(slf: &Bound<'py, Self>, token: Token) -> Option<Bound<'py, PyAny>> {
        let py = slf.py();
        Some(match slf.get().target(py, token)? {
            Target::Watcher | Target::Socket => return None,
            Target::Stream(transport) => transport.into_bound(py).into_any(),
            Target::Datagram(transport) => transport.into_bound(py).into_any(),
            Target::ReadPipe(transport) => transport.into_bound(py).into_any(),
            Target::WritePipe(transport) => transport.into_bound(py).into_any(),
            Target::Listener(listener) => listener.into_bound(py).into_any(),
        })
    }

    /// As `dispatch`, and logs slow transports. Watchers are handles, which time themselves.
    pub fn dispatch_timed(slf: &Bound<'_, Self>, token: Token, readiness: Readiness) -> PyResult<()> {
        let Some(source) = Self::source_object(slf, token) else { return Self::dispatch(slf, token, readiness) };
        let start = LoopCore::now();
        Self::dispatch(slf, token, readiness)?;
        report::slow_source(slf, start, &source)
    }
}
