//! `sock_connect`: the attempt, and what came of it.
//!
//! The coroutine is in `python/ironloop/_sockets.py`. connect(2) of a TCP socket that does not block says EINPROGRESS also
//! where the connection is made, or refused, by then: on the same machine. So after one turn of the loop the outcome is
//! asked for, and waited for only if there is none: a registration in the reactor, its event and its end are saved.
//!
//! As in `sock.rs`, what is not a plain socket is left to asyncio's own code, and so are the errors whose texts
//! name the method of the socket.

use std::ffi::CStr;

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::Borrowed;

use super::sock::{answer, sock_method, Attempt};
use super::watchers::Direction;
use super::LoopCore;
use crate::engine;
use crate::engine::sys::socket;
use crate::py::call;
use crate::py::error::{os_error, os_error_with};
use crate::py::method::{add_fast_method, Arguments, FastMethod};
use crate::py::names::name;

impl LoopCore {
    /// `sock.connect(address)`, of an address that needs no look-up. Whether it is connected; false: that is under way.
    ///
    /// # Errors
    /// What connect(2) says, and what `sock` says of the address.
    fn try_connect(&self, sock: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<Attempt<bool>> {
        let py = sock.py();
        let Some(fd) = self.plain_socket(sock)? else { return Ok(Attempt::Unusual) };
        if self.state(py, |state| state.sources.is_taken(fd)) {
            return Ok(Attempt::Unusual);
        }
        let errno: i32 = match call::call_method1(py, sock.as_unbound(), name!(py, "connect_ex").as_unbound(), address)
        {
            Ok(errno) => errno.extract()?,
            Err(error) if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyOverflowError>(py) => {
                return Ok(Attempt::Unusual);
            }
            Err(error) => return Err(error),
        };
        match errno {
            0 => Ok(Attempt::Done(true)),
            // EINTR: it goes on in the background, see connect(2).
            libc::EINPROGRESS | libc::EALREADY | libc::EINTR => Ok(Attempt::Done(false)),
            // The queue of a Unix socket's peer is full; nothing goes on.
            libc::EAGAIN => Ok(Attempt::Unusual),
            errno => Err(os_error(py, &engine::Error { operation: "connect", errno })),
        }
    }

    /// What came of a connect that is under way.
    ///
    /// # Errors
    /// Why it failed.
    fn connect_outcome<'py>(
        &self,
        sock: &Bound<'py, PyAny>,
        address: &Bound<'py, PyAny>,
    ) -> PyResult<Attempt<Bound<'py, PyAny>>> {
        let py = sock.py();
        let Some(fd) = self.plain_socket(sock)? else { return Ok(Attempt::Unusual) };
        match socket::connect_outcome(fd) {
            Ok(None) => Ok(Attempt::Wait),
            Ok(Some(0)) => Ok(Attempt::Done(py.None().into_bound(py))),
            Ok(Some(errno)) => Err(os_error_with(py, errno, &format!("Connect call failed {}", address.str()?))),
            Err(error) => Err(os_error(py, &error)),
        }
    }
}

/// Adds the methods to the class.
pub fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_fast_method::<LoopCore, TryConnect>(class)?;
    add_fast_method::<LoopCore, ConnectOutcome>(class)
}

sock_method!(
    TryConnect,
    c"_try_connect",
    c"_try_connect($self, sock, address, /)\n--\n\n\
      Whether it is connected; False: ask _connect_outcome(); or NotImplemented: asyncio's own code has to do it.",
    slf,
    [sock, address] => match slf.get().try_connect(sock, address)? {
        Attempt::Done(connected) => Ok(connected.into_pyobject(slf.py())?.to_owned().into_any().unbind()),
        Attempt::Wait | Attempt::Unusual => Ok(slf.py().NotImplemented()),
    }
);
sock_method!(
    ConnectOutcome,
    c"_connect_outcome",
    c"_connect_outcome($self, sock, address, /)\n--\n\n\
      None: connected; or a future to be awaited before it is asked again; or NotImplemented.",
    slf,
    [sock, address] => answer(slf, sock, slf.get().connect_outcome(sock, address)?, Direction::Write)
);
