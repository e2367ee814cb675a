//! `Layer`: the record layer of one connection, direct or fallback, and its errors as Python's.
//!
//! Both have a real `ssl.SSLObject`, made by the user's `SSLContext`: it is what `get_extra_info('ssl_object')` gives, and
//! what OpenSSL's callbacks into `_ssl` (SNI, PSK, key log) find. The direct layer puts its own BIO under the object's
//! `SSL` and calls libssl; the fallback calls the object.
//!
//! Both may run the user's Python code, so no state is lent while they are called. On free-threaded builds
//! the critical section of its native half is what `_ssl`'s own methods take.

use std::mem::MaybeUninit;

use pyo3::exceptions::PyMemoryError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyString};

use crate::engine::sys::openssl::{Failure, Session};
use crate::engine::tls::record_layer::{Read, RecordLayer, Step, Write};
use crate::py::buffer::{lent_to_read, lent_to_write};
use crate::py::names::name;
use crate::py::objects;
use crate::py::{call, ssl};

/// What the fallback asks an object of the program's for: one record. More would be allocated, and given back, each time.
const FALLBACK_READ: usize = 16 * 1024;
/// And what it gives to `write` at once, which is what the MemoryBIO grows to.
const FALLBACK_WRITE: usize = 64 * 1024;

/// Bytes from which a view of them costs less than a copy, and what is read is read in place.
const WORTH_A_VIEW: usize = 8 * 1024;

/// See the module's documentation.
pub enum Layer {
    Direct {
        // Dropped before the object that its callbacks need.
        session: Session,
        object: Py<PyAny>,
        /// The object's `_sslobj`, of which free-threaded builds lock what its methods lock.
        native: Py<PyAny>,
    },
    Fallback {
        object: Py<PyAny>,
        /// The object is of no class of the program's: memory can be lent to its methods, which keep nothing.
        plain: bool,
        incoming: Py<PyAny>,
        outgoing: Py<PyAny>,
    },
}

/// What is to be sent.
pub enum Records<'py> {
    /// In memory that can be used again.
    Built(Vec<u8>),
    Bytes(Bound<'py, PyBytes>),
}

/// Names of the `ssl` module, and one of asyncio's.
pub struct Names {
    memory_bio: Py<PyAny>,
    object_class: Py<PyAny>,
    want_read: Py<PyAny>,
    syscall: Py<PyAny>,
    /// `asyncio.sslproto._SSLProtocolTransport`.
    pub transport: Py<PyAny>,
    pub error: Py<PyAny>,
    pub certificate_error: Py<PyAny>,
}

/// The names, imported when the first connection is made.
pub fn names(py: Python<'_>) -> PyResult<&'static Names> {
    static NAMES: PyOnceLock<Names> = PyOnceLock::new();
    NAMES.get_or_try_init(py, || {
        let ssl = py.import(name!(py, "ssl"))?;
        let name = |name: &str| ssl.getattr(name).map(Bound::unbind);
        Ok(Names {
            memory_bio: name("MemoryBIO")?,
            object_class: name("SSLObject")?,
            want_read: name("SSLWantReadError")?,
            syscall: name("SSLSyscallError")?,
            transport: py.import(name!(py, "asyncio.sslproto"))?.getattr("_SSLProtocolTransport")?.unbind(),
            error: name("SSLError")?,
            certificate_error: name("CertificateError")?,
        })
    })
}

impl Layer {
    /// # Errors
    /// What `SSLContext.wrap_bio` raises.
    pub fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let names = names(py)?;
        let memory_bio = names.memory_bio.bind(py);
        let (incoming, outgoing) = (memory_bio.call0()?, memory_bio.call0()?);
        let keywords = objects::dict(py)?;
        keywords.set_item(name!(py, "server_side"), server_side)?;
        keywords.set_item(name!(py, "server_hostname"), server_hostname)?;
        let wrap_bio = context.getattr(name!(py, "wrap_bio"))?;
        let bios = objects::tuple(py, [&incoming, &outgoing].into_iter().map(Bound::as_borrowed))?;
        let object = call::call_with_keywords(&wrap_bio, &bios, &keywords)?;
        Ok(match ssl::session(&object) {
            Some((session, native)) => Self::Direct { session, object: object.unbind(), native },
            None => Self::Fallback {
                plain: object.get_type().is(&names.object_class),
                object: object.unbind(),
                incoming: incoming.unbind(),
                outgoing: outgoing.unbind(),
            },
        })
    }

    pub fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Direct { object, .. } | Self::Fallback { object, .. } => object,
        }
    }

    /// For calls from an attached thread.
    #[inline]
    pub fn attached<'a, 'py>(&'a self, py: Python<'py>) -> Attached<'a, 'py> {
        Attached(self, py)
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Direct { object, native, session: _ } => {
                visit.call(object)?;
                visit.call(native)
            }
            Self::Fallback { object, plain: _, incoming, outgoing } => {
                visit.call(object)?;
                visit.call(incoming)?;
                visit.call(outgoing)
            }
        }
    }
}

/// A layer and the proof that Python may be called.
pub struct Attached<'a, 'py>(&'a Layer, Python<'py>);

impl<'py> Attached<'_, 'py> {
    /// Makes the exception of a failed operation the way `_ssl` makes it: repeated on the Python object, the operation
    /// fails at once, for the reason that is in the thread's error queue still.
    ///
    /// With some errors (bytes that are no TLS at all, from OpenSSL 3.2 on) the connection goes on as if nothing had been, and
    /// wants more of them. Those are put into words here.
    fn error(
        &self,
        session: &Session,
        failure: Failure,
        object: &Py<PyAny>,
        name: &Bound<'py, PyString>,
        argument: Option<Bound<'py, PyAny>>,
    ) -> PyErr {
        let py = self.1;
        let reason = session.reason(failure);
        let repeated = session.given_back(|| match argument {
            Some(argument) => call::call_method1(py, object, name.as_unbound(), &argument),
            None => call::call_method0(py, object, name.as_unbound()),
        });
        let line = match repeated {
            Ok(_) => String::new(),
            Err(error) => match names(py) {
                Ok(names) if error.is_instance(py, names.want_read.bind(py)) => error
                    .value(py)
                    .to_string()
                    .rsplit_once(" (")
                    .map(|(_, line)| format!(" ({line}"))
                    .unwrap_or_default(),
                _ => return error,
            },
        };
        ssl_error(py, reason, &line).unwrap_or_else(|error| error)
    }

    /// The fallback's `object.name(argument)`; `None`: it wants more ciphertext.
    fn ask(
        &self,
        object: &Py<PyAny>,
        name: &Bound<'py, PyString>,
        argument: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.1;
        self.asked(match argument {
            Some(argument) => call::call_method1(py, object, name.as_unbound(), &argument),
            None => call::call_method0(py, object, name.as_unbound()),
        })
    }

    /// What came of it.
    fn asked(&self, outcome: PyResult<Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.1;
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let names = names(py)?;
                if error.is_instance(py, names.want_read.bind(py)) || error.is_instance(py, names.syscall.bind(py)) {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The records that are to be sent.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn take_records(&self) -> PyResult<Records<'py>> {
        match self.0 {
            Layer::Direct { session, .. } => Ok(Records::Built(session.take_outgoing(Vec::new()))),
            Layer::Fallback { outgoing, .. } => {
                let data = call::call_method0(self.1, outgoing, name!(self.1, "read").as_unbound())?;
                Ok(Records::Bytes(data.cast_into()?))
            }
        }
    }

    /// Memory for the next records, while there are none: an empty vector.
    pub fn lend_memory(&self, spare: impl FnOnce() -> Vec<u8>) {
        if let Layer::Direct { session, .. } = self.0 {
            if session.outgoing() == 0 {
                drop(session.take_outgoing(spare()));
            }
        }
    }

    fn pending(&self, bio: &Py<PyAny>) -> usize {
        let py = self.1;
        let pending = || bio.bind(py).getattr(name!(py, "pending"))?.extract();
        pending().unwrap_or_default()
    }

    #[inline]
    fn exclusively<R>(&self, native: &Py<PyAny>, body: impl FnOnce() -> R) -> R {
        #[cfg(Py_GIL_DISABLED)]
        {
            use pyo3::sync::critical_section::with_critical_section;
            with_critical_section(native.bind(self.1), body)
        }
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let _ = native;
            body()
        }
    }
}

/// An `ssl.SSLError` as `_ssl` words it; `line` says where in its source, in parentheses.
fn ssl_error(py: Python<'_>, reason: Option<String>, line: &str) -> PyResult<PyErr> {
    const SSL_ERROR_SSL: i32 = 1;
    let class = names(py)?.error.bind(py);
    let Some(reason) = reason else {
        let text = format!("A failure in the SSL library occurred{line}");
        return Ok(PyErr::from_value(class.call1((SSL_ERROR_SSL, text))?));
    };
    let name = reason.to_uppercase().replace([' ', '-', '/'], "_");
    let error = class.call1((SSL_ERROR_SSL, format!("[SSL: {name}] {reason}{line}")))?;
    error.setattr(name!(py, "library"), name!(py, "SSL"))?;
    error.setattr(name!(py, "reason"), name)?;
    Ok(PyErr::from_value(error))
}

/// Calls `body` with the bytes as an object of Python's; `keeps_nothing`: which may be a view of them.
fn viewed<'py, R>(
    py: Python<'py>,
    bytes: &[u8],
    keeps_nothing: bool,
    body: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
) -> PyResult<R> {
    if keeps_nothing && bytes.len() > WORTH_A_VIEW {
        lent_to_read(py, bytes, body)
    } else {
        body(&objects::bytes(py, bytes)?)
    }
}

fn step<T>(outcome: Option<T>) -> Step {
    outcome.map_or(Step::WantsMore, |_| Step::Done)
}

impl RecordLayer for Attached<'_, '_> {
    type Error = PyErr;

    fn with_ciphertext<R>(&self, ciphertext: &[u8], body: impl FnOnce() -> R) -> PyResult<R> {
        let py = self.1;
        match self.0 {
            Layer::Direct { session, .. } => {
                session.with_ciphertext(ciphertext, body).map_err(|_| PyMemoryError::new_err("no room for ciphertext"))
            }
            Layer::Fallback { incoming, .. } => {
                viewed(py, ciphertext, true, |ciphertext| {
                    call::call_method1(py, incoming, name!(py, "write").as_unbound(), ciphertext)
                })?;
                Ok(body())
            }
        }
    }

    #[inline]
    fn unread(&self) -> usize {
        match self.0 {
            Layer::Direct { session, .. } => session.unread(),
            Layer::Fallback { incoming, .. } => self.pending(incoming),
        }
    }

    #[inline]
    fn plaintext_bound(&self) -> usize {
        match self.0 {
            Layer::Direct { session, .. } => session.plaintext_bound(),
            // And what may be in the object: the beginning of a record.
            Layer::Fallback { incoming, .. } => self.pending(incoming) + FALLBACK_READ,
        }
    }

    fn handshake(&self) -> PyResult<Step> {
        let name = name!(self.1, "do_handshake");
        match self.0 {
            Layer::Direct { session, object, native } => match self.exclusively(native, || session.handshake()) {
                Ok(Step::WantsMore) => Ok(Step::WantsMore),
                // What the user's callbacks raised on the way waits in the object and comes out of this call.
                Ok(Step::Done) => {
                    session.given_back(|| call::call_method0(self.1, object, name.as_unbound())).map(|_| Step::Done)
                }
                Err(failure) => Err(self.error(session, failure, object, name, None)),
            },
            Layer::Fallback { object, .. } => self.ask(object, name, None).map(step),
        }
    }

    #[inline]
    fn read(&self, into: &mut [MaybeUninit<u8>]) -> PyResult<Read> {
        let py = self.1;
        let name = name!(py, "read");
        match self.0 {
            Layer::Direct { session, object, native } => self
                .exclusively(native, || session.read(into))
                .map_err(|failure| self.error(session, failure, object, name, Some(PyInt::new(py, 1).into_any()))),
            Layer::Fallback { object, plain: true, incoming, .. } if self.pending(incoming) > WORTH_A_VIEW => {
                let wanted = objects::count(py, into.len() as u64)?;
                let count = lent_to_write(py, into, |memory| {
                    self.asked(call::call_method2(py, object, name.as_unbound(), &wanted, memory))
                })?;
                let Some(count) = count else { return Ok(Read::WantsMore) };
                match count.extract()? {
                    0 => Ok(Read::Closed),
                    count => Ok(Read::Data(count)),
                }
            }
            Layer::Fallback { object, .. } => {
                let wanted = objects::count(py, into.len().min(FALLBACK_READ) as u64)?;
                let Some(data) = self.ask(object, name, Some(wanted))? else { return Ok(Read::WantsMore) };
                let data = data.cast::<PyBytes>()?.as_bytes();
                if data.is_empty() {
                    return Ok(Read::Closed);
                }
                for (place, byte) in into.iter_mut().zip(data) {
                    place.write(*byte);
                }
                Ok(Read::Data(data.len()))
            }
        }
    }

    #[inline]
    fn write(&self, plaintext: &[u8]) -> PyResult<Write> {
        let py = self.1;
        let name = name!(py, "write");
        match self.0 {
            Layer::Direct { session, object, native } => self
                .exclusively(native, || session.write(plaintext))
                .map_err(|failure| self.error(session, failure, object, name, Some(PyBytes::new(py, b"x").into_any()))),
            Layer::Fallback { object, plain, .. } => {
                let piece = &plaintext[..plaintext.len().min(FALLBACK_WRITE)];
                match viewed(py, piece, *plain, |piece| self.ask(object, name, Some(piece.clone())))? {
                    Some(count) => Ok(Write::Taken(count.extract()?)),
                    None => Ok(Write::WantsMore),
                }
            }
        }
    }

    fn shutdown(&self) -> PyResult<Step> {
        let name = name!(self.1, "unwrap");
        let read = name!(self.1, "read");
        match self.0 {
            Layer::Direct { session, object, native } => self
                .exclusively(native, || session.shutdown())
                // A second shutdown would fail for another reason: that the first one did.
                .map_err(|failure| {
                    let one = PyInt::new(self.1, 1).into_any();
                    self.error(session, failure, object, read, Some(one))
                }),
            Layer::Fallback { object, .. } => self.ask(object, name, None).map(step),
        }
    }

    #[inline]
    fn outgoing(&self) -> usize {
        match self.0 {
            Layer::Direct { session, .. } => session.outgoing(),
            Layer::Fallback { outgoing, .. } => self.pending(outgoing),
        }
    }
}
