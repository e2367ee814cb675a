//! What `repr` says of a transport: its kind, its state and descriptor, whom it talks to, and what it waits for.
//!
//! Transports describe themselves while their state is lent; the text is made afterwards, because an address is a Python
//! object. The words are those of asyncio's own transports, with the peer between them. It may be asked for in any state, from
//! any thread.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::info::{Answers, Descriptor, Info};
use crate::asyncio::event_loop::LoopCore;
use crate::py::objects;

/// See the module's documentation.
pub struct Description {
    class: &'static str,
    fd: RawFd,
    /// With a space before it, if there is one.
    state: &'static str,
    is_closed: bool,
    addresses: Answers,
    /// What it waits for, and what it holds.
    work: String,
}

/// "polling" if the kernel is to say when it goes on.
pub const fn polling(waits: bool) -> &'static str {
    if waits {
        "polling"
    } else {
        "idle"
    }
}

/// What a transport of both directions waits for; `size` is that of its buffer, in bytes.
pub fn both_ways(reads: bool, blocked: bool, size: usize) -> String {
    format!("read={} write=<{}, bufsize={size}>", polling(reads), polling(blocked))
}

impl Description {
    pub fn new(class: &'static str, fd: RawFd, descriptor: &Descriptor, is_closing: bool, work: String) -> Self {
        let is_closed = matches!(descriptor, Descriptor::Closed);
        let state = match (is_closed, is_closing) {
            (true, _) => " closed",
            (false, true) => " closing",
            (false, false) => "",
        };
        Self { class, fd, state, is_closed, addresses: Answers::default(), work }
    }

    /// With the addresses of a socket.
    pub fn at(self, py: Python<'_>, info: &Info) -> Self {
        Self { addresses: info.answers(py), ..self }
    }

    /// The whole text. A transport that is closed, or whose loop is, does nothing any more: then it says `rest` at most.
    ///
    /// # Errors
    /// What making an address raises.
    pub fn text<'py>(self, py: Python<'py>, event_loop: &LoopCore, rest: &str) -> PyResult<Bound<'py, PyString>> {
        let Self { class, fd, state, is_closed, addresses, work } = self;
        let place = addresses.description(py)?;
        let work = match (is_closed, event_loop.is_loop_closed()) {
            (true, _) => "",
            (false, true) => rest,
            (false, false) => &work,
        };
        let space = if work.is_empty() { "" } else { " " };
        objects::text(py, &format!("<{class}{state} fd={fd}{place}{space}{work}>"))
    }
}
