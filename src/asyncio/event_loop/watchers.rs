//! `add_reader`, `add_writer` and their opposites: level-triggered callbacks for any pollable descriptor.
//!
//! A watcher is registered once per descriptor, for what its callbacks are interested in. The kernel
//! repeats the event in every poll until the callback has taken what is there, so nothing is
//! registered again per event.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::source::Source;
use super::LoopCore;
use crate::asyncio::handle::{Handle, HandleCore};
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::{Interest, Readiness, Trigger};
use crate::py::error::os_error;
use crate::py::names::name;

/// The callbacks of one descriptor.
pub struct Watcher {
    pub fd: RawFd,
    /// What the user named it by, to find it again after it was closed.
    file: Py<PyAny>,
    reader: Option<Py<Handle>>,
    writer: Option<Py<Handle>>,
}

/// Reading or writing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

impl Watcher {
    fn slot(&mut self, direction: Direction) -> &mut Option<Py<Handle>> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    fn interest(&self) -> Option<Interest> {
        match (&self.reader, &self.writer) {
            (Some(_), Some(_)) => Some(Interest::READ | Interest::WRITE),
            (Some(_), None) => Some(Interest::READ),
            (None, Some(_)) => Some(Interest::WRITE),
            (None, None) => None,
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.file)?;
        visit.call(&self.reader)?;
        visit.call(&self.writer)
    }
}

/// The descriptor's number: `file` is an int or has a `fileno()`.
///
/// # Errors
/// `ValueError` as from `selectors`.
pub fn descriptor(file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = file.py();
    if let Ok(fd) = file.extract::<RawFd>() {
        return Ok(fd);
    }
    let fileno = file.call_method0(name!(py, "fileno")).and_then(|fileno| fileno.extract::<RawFd>());
    fileno.map_err(|error| {
        let expected = error.is_instance_of::<PyAttributeError>(py)
            || error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyValueError>(py);
        if !expected {
            return error;
        }
        match file.repr() {
            Ok(repr) => PyValueError::new_err(format!("Invalid file object: {repr}")),
            Err(failure) => failure,
        }
    })
}

impl LoopCore {
    /// Like `descriptor`, but a file that was closed since is found by identity.
    fn registered_descriptor(&self, file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
        let known = || {
            self.state(file.py(), |state| {
                state.sources.watchers().find(|watcher| watcher.file.is(file)).map(|watcher| watcher.fd)
            })
        };
        match descriptor(file) {
            Ok(fd) if fd >= 0 => Ok(fd),
            Ok(fd) => known().ok_or_else(|| PyValueError::new_err(format!("Invalid file descriptor: {fd}"))).or(Ok(fd)),
            Err(error) => known().ok_or(error),
        }
    }

    /// # Errors
    /// `RuntimeError` when a live transport uses the descriptor.
    pub fn ensure_no_transport(slf: &Bound<'_, Self>, file: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<()> {
        let py = file.py();
        let transport = match slf.get().transport_of(py, fd) {
            Some(transport) if transport.bind(py).call_method0(name!(py, "is_closing"))?.is_truthy()? => return Ok(()),
            Some(transport) => transport.into_bound(py),
            None => match Self::foreign_transport(slf, fd)? {
                Some(transport) => transport,
                None => return Ok(()),
            },
        };
        Err(PyRuntimeError::new_err(format!(
            "File descriptor {} is used by transport {}",
            file.repr()?,
            transport.repr()?
        )))
    }

    /// The transport that is registered for a descriptor.
    fn transport_of(&self, py: Python<'_>, fd: RawFd) -> Option<Py<PyAny>> {
        self.state(py, |state| {
            let token = state.sources.token_of(fd)?;
            match state.sources.get(token)? {
                Source::Stream(transport) => Some(transport.clone_ref(py).into_any()),
                Source::Datagram(transport) => Some(transport.clone_ref(py).into_any()),
                // asyncio does not protect pipes.
                Source::Watcher(_)
                | Source::Socket(_)
                | Source::Listener(_)
                | Source::ReadPipe(_)
                | Source::WritePipe(_) => None,
            }
        })
    }

    /// An open transport of asyncio's own classes, which keeps itself in `loop._transports`.
    fn foreign_transport<'py>(slf: &Bound<'py, Self>, fd: RawFd) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let Ok(transports) = slf.getattr(name!(py, "_transports")) else { return Ok(None) };
        if transports.is_empty()? {
            return Ok(None);
        }
        let transport = transports.call_method1(name!(py, "get"), (fd,))?;
        if transport.is_none() || transport.call_method0(name!(py, "is_closing"))?.is_truthy()? {
            return Ok(None);
        }
        Ok(Some(transport))
    }

    /// Ends whatever `add_reader` and `add_writer` have begun for a descriptor.
    pub fn forget_watcher(&self, py: Python<'_>, fd: RawFd) {
        let _dropped = self.state(py, |state| {
            let (token, _watcher) = state.sources.watcher_mut(fd)?;
            state.sources.remove(fd, token)
        });
    }

    /// Checks as `add_reader` does before it does anything.
    pub fn watchable_descriptor(slf: &Bound<'_, Self>, file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
        let fd = descriptor(file)?;
        Self::ensure_no_transport(slf, file, fd)?;
        Ok(fd)
    }

    /// Sets the callback of one direction; one that was there is cancelled.
    ///
    /// # Errors
    /// `ValueError` for a negative descriptor, `OSError` from `epoll_ctl(2)`.
    pub fn watch(
        slf: &Bound<'_, Self>,
        file: &Bound<'_, PyAny>,
        fd: RawFd,
        direction: Direction,
        core: HandleCore,
    ) -> PyResult<Py<Handle>> {
        let py = slf.py();
        let this = slf.get();
        this.check_open(py)?;
        this.own_reactor(py)?;
        if fd < 0 {
            return Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}")));
        }
        let handle = Handle::new(py, core)?.unbind();
        let (outcome, replaced, (_refused, dropped)) = this.state(py, |state| {
            if let Some((token, watcher)) = state.sources.watcher_mut(fd) {
                let replaced = watcher.slot(direction).replace(handle.clone_ref(py));
                let interest = watcher.interest().unwrap_or(Interest::READ);
                let outcome = match state.sources.change(fd, token, interest, Trigger::Level) {
                    // The number was closed and opened again behind our back.
                    Err(error) if error.errno == libc::ENOENT => {
                        let reactor = state.sources.reactor.as_ref();
                        reactor.map_or(Ok(()), |reactor| reactor.register(fd, token, interest, Trigger::Level))
                    }
                    outcome => outcome,
                };
                let watcher = state.sources.watcher_mut(fd).filter(|_| outcome.is_err());
                let refused = watcher.and_then(|(_, watcher)| watcher.slot(direction).take());
                return (outcome, replaced, (refused, None));
            }
            let mut watcher = Watcher { fd, file: file.clone().unbind(), reader: None, writer: None };
            *watcher.slot(direction) = Some(handle.clone_ref(py));
            let interest = watcher.interest().unwrap_or(Interest::READ);
            let (outcome, dropped) = state.sources.insert(fd, Source::Watcher(watcher), interest, Trigger::Level);
            (outcome.map(drop), None, (None, dropped))
        });
        if let Some(replaced) = replaced {
            Handle::cancel(replaced.bind(py))?;
        }
        dropped.map_or(Ok(()), |dropped: Source| dropped.replaced(py))?;
        outcome.map(|()| handle).map_err(|error| os_error(py, &error))
    }

    /// Removes the callback of one direction. False: there was none.
    pub fn unwatch(&self, py: Python<'_>, fd: RawFd, direction: Direction) -> PyResult<bool> {
        if self.is_loop_closed() {
            return Ok(false);
        }
        let (handle, _dropped_here) = self.state(py, |state| {
            let Some((token, watcher)) = state.sources.watcher_mut(fd) else {
                // The socket of a listener is deregistered in this way, too.
                let listener = state.sources.token_of(fd).filter(|&token| {
                    direction == Direction::Read && matches!(state.sources.get(token), Some(Source::Listener(_)))
                });
                return (None, listener.and_then(|token| state.sources.remove(fd, token)));
            };
            let handle = watcher.slot(direction).take();
            match watcher.interest() {
                None => (handle, state.sources.remove(fd, token)),
                Some(interest) => {
                    // Fails only if the descriptor was closed, and then there are no events either.
                    let _ = state.sources.change(fd, token, interest, Trigger::Level);
                    (handle, None)
                }
            }
        });
        match handle {
            Some(handle) => Handle::cancel(handle.bind(py)).map(|()| true),
            None => Ok(false),
        }
    }

    /// `remove_reader` and `remove_writer`.
    pub fn unwatch_file(slf: &Bound<'_, Self>, file: &Bound<'_, PyAny>, direction: Direction) -> PyResult<bool> {
        let this = slf.get();
        let fd = this.registered_descriptor(file)?;
        Self::ensure_no_transport(slf, file, fd)?;
        this.unwatch(file.py(), fd, direction)
    }

    /// Runs the callbacks of a descriptor: the reader, then the writer unless the reader removed it.
    pub fn watcher_event(slf: &Bound<'_, Self>, token: Token, readiness: Readiness) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let handle_of = |direction| {
            this.state(py, |state| match state.sources.get(token)? {
                Source::Watcher(Watcher { reader, writer, .. }) => {
                    let handle = if direction == Direction::Read { reader } else { writer };
                    handle.as_ref().map(|handle| handle.clone_ref(py))
                }
                _ => None,
            })
        };
        // Both are looked up first: a writer that the reader adds has to wait for an event of its own.
        let reader = if readiness.readable() { handle_of(Direction::Read) } else { None };
        let writer = if readiness.writable() { handle_of(Direction::Write) } else { None };
        for (handle, direction) in [(reader, Direction::Read), (writer, Direction::Write)] {
            let Some(handle) = handle else { continue };
            if handle.get().core.is_cancelled() {
                if handle_of(direction).is_some_and(|current| current.is(&handle)) {
                    // Cancelled through the handle, not through remove_reader: end the registration.
                    let fd = this.state(py, |state| match state.sources.get(token) {
                        Some(Source::Watcher(watcher)) => Some(watcher.fd),
                        _ => None,
                    });
                    if let Some(fd) = fd {
                        this.unwatch(py, fd, direction)?;
                    }
                }
                continue;
            }
            let entry = super::ready::Entry::Handle(handle);
            if this.is_observed() {
                entry.run_observed(slf, |_| Ok(()))?;
            } else {
                entry.run(slf, |_| Ok(()))?;
            }
        }
        Ok(())
    }

    /// Which directions of a descriptor are watched, as a mask of `selectors.EVENT_READ` and `EVENT_WRITE`.
    pub fn watched_directions(&self, py: Python<'_>, fd: RawFd) -> u8 {
        self.state(py, |state| {
            state.sources.watcher_mut(fd).map_or(0, |(_, watcher)| {
                u8::from(watcher.reader.is_some()) | (u8::from(watcher.writer.is_some()) << 1)
            })
        })
    }
}
