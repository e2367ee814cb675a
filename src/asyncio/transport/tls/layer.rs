//! `Layer`: the record layer of one connection, direct or fallback, and its errors as Python's.
//!
//! Both have a real `ssl.SSLObject`, made by the user's `SSLContext`: it is what `get_extra_info('ssl_object')` gives, and
//! what OpenSSL's callbacks into `_ssl` (SNI, PSK, key log) find. The direct layer puts its own BIO under the object's
//! `SSL` and calls libssl; the fallback calls the object.
//!
//! Both may run the user's Python code, so no state is lent while they are called. On free-threaded builds
//! the object's critical section is what `_ssl`'s own methods take.

use pyo3::exceptions::PyMemoryError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::engine::sys::openssl::{Failure, Session};
use crate::engine::tls::record_layer::{Read, RecordLayer, Step, Write};
use crate::py::ssl;

/// What the fallback asks `SSLObject.read` for: one record. More would be allocated, and given back, at each call.
const FALLBACK_READ: usize = 16 * 1024;

/// See the module's documentation.
pub enum Layer {
    Direct {
        // Dropped before the object that its callbacks need.
        session: Session,
        object: Py<PyAny>,
    },
    Fallback {
        object: Py<PyAny>,
        incoming: Py<PyAny>,
        outgoing: Py<PyAny>,
    },
}

/// Names of the `ssl` module.
pub struct Names {
    memory_bio: Py<PyAny>,
    want_read: Py<PyAny>,
    syscall: Py<PyAny>,
    pub error: Py<PyAny>,
    pub certificate_error: Py<PyAny>,
}

/// The names, imported when the first connection is made.
pub fn names(py: Python<'_>) -> PyResult<&'static Names> {
    static NAMES: PyOnceLock<Names> = PyOnceLock::new();
    NAMES.get_or_try_init(py, || {
        let ssl = py.import(intern!(py, "ssl"))?;
        let name = |name: &str| ssl.getattr(name).map(Bound::unbind);
        Ok(Names {
            memory_bio: name("MemoryBIO")?,
            want_read: name("SSLWantReadError")?,
            syscall: name("SSLSyscallError")?,
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
        let memory_bio = names(py)?.memory_bio.bind(py);
        let (incoming, outgoing) = (memory_bio.call0()?, memory_bio.call0()?);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "server_side"), server_side)?;
        keywords.set_item(intern!(py, "server_hostname"), server_hostname)?;
        let object = context.call_method(intern!(py, "wrap_bio"), (&incoming, &outgoing), Some(&keywords))?;
        Ok(match ssl::session(&object) {
            Some(session) => Self::Direct { session, object: object.unbind() },
            None => {
                Self::Fallback { object: object.unbind(), incoming: incoming.unbind(), outgoing: outgoing.unbind() }
            }
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
            Self::Direct { object, .. } => visit.call(object),
            Self::Fallback { object, incoming, outgoing } => {
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
    fn error(
        &self,
        object: &Py<PyAny>,
        repeat: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyErr {
        let py = self.1;
        match repeat(object.bind(py)) {
            Err(error) => error,
            Ok(_) => match names(py)
                .and_then(|names| names.error.bind(py).call1(("A failure in the SSL library occurred",)))
            {
                Ok(error) => PyErr::from_value(error),
                Err(error) => error,
            },
        }
    }

    /// `Ok(None)`: the operation wants more ciphertext.
    fn unless_again<T>(&self, outcome: PyResult<T>) -> PyResult<Option<T>> {
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

    fn exclusively<R>(&self, object: &Py<PyAny>, body: impl FnOnce() -> R) -> R {
        #[cfg(Py_GIL_DISABLED)]
        {
            use pyo3::sync::critical_section::with_critical_section;
            with_critical_section(object.bind(self.1), body)
        }
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let _ = object;
            body()
        }
    }

    fn pending(&self, bio: &Py<PyAny>) -> usize {
        let py = self.1;
        bio.bind(py).getattr(intern!(py, "pending")).and_then(|it| it.extract()).unwrap_or_default()
    }
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
                incoming.bind(py).call_method1(intern!(py, "write"), (PyBytes::new(py, ciphertext),))?;
                Ok(body())
            }
        }
    }

    fn unread(&self) -> usize {
        match self.0 {
            Layer::Direct { session, .. } => session.unread(),
            Layer::Fallback { incoming, .. } => self.pending(incoming),
        }
    }

    fn handshake(&self) -> PyResult<Step> {
        let py = self.1;
        let done =
            |object: &Bound<'_, PyAny>| match self.unless_again(object.call_method0(intern!(py, "do_handshake")))? {
                Some(_) => Ok(Step::Done),
                None => Ok(Step::WantsMore),
            };
        match self.0 {
            Layer::Direct { session, object } => match self.exclusively(object, || session.handshake()) {
                Ok(Step::WantsMore) => Ok(Step::WantsMore),
                // What the user's callbacks raised on the way waits in the object and comes out of this call.
                Ok(Step::Done) => done(object.bind(py)),
                Err(Failure { .. }) => {
                    Err(self.error(object, |object| object.call_method0(intern!(py, "do_handshake"))))
                }
            },
            Layer::Fallback { object, .. } => done(object.bind(py)),
        }
    }

    #[inline]
    fn read(&self, into: &mut [u8]) -> PyResult<Read> {
        let py = self.1;
        let name = intern!(py, "read");
        match self.0 {
            Layer::Direct { session, object } => self
                .exclusively(object, || session.read(into))
                .map_err(|_| self.error(object, |object| object.call_method1(name, (1,)))),
            Layer::Fallback { object, .. } => {
                let wanted = into.len().min(FALLBACK_READ);
                let outcome = object.bind(py).call_method1(name, (wanted,));
                let Some(data) = self.unless_again(outcome)? else { return Ok(Read::WantsMore) };
                let data = data.cast::<PyBytes>()?.as_bytes();
                if data.is_empty() {
                    return Ok(Read::Closed);
                }
                into[..data.len()].copy_from_slice(data);
                Ok(Read::Data(data.len()))
            }
        }
    }

    #[inline]
    fn write(&self, plaintext: &[u8]) -> PyResult<Write> {
        let py = self.1;
        let name = intern!(py, "write");
        match self.0 {
            Layer::Direct { session, object } => self
                .exclusively(object, || session.write(plaintext))
                .map_err(|_| self.error(object, |object| object.call_method1(name, (PyBytes::new(py, b"x"),)))),
            Layer::Fallback { object, .. } => {
                let outcome = object.bind(py).call_method1(name, (PyBytes::new(py, plaintext),));
                match self.unless_again(outcome)? {
                    Some(count) => Ok(Write::Taken(count.extract()?)),
                    None => Ok(Write::WantsMore),
                }
            }
        }
    }

    fn shutdown(&self) -> PyResult<Step> {
        let py = self.1;
        let name = intern!(py, "unwrap");
        match self.0 {
            Layer::Direct { session, object } => self
                .exclusively(object, || session.shutdown())
                .map_err(|_| self.error(object, |object| object.call_method0(name))),
            Layer::Fallback { object, .. } => match self.unless_again(object.bind(py).call_method0(name))? {
                Some(_) => Ok(Step::Done),
                None => Ok(Step::WantsMore),
            },
        }
    }

    #[inline]
    fn outgoing(&self) -> usize {
        match self.0 {
            Layer::Direct { session, .. } => session.outgoing(),
            Layer::Fallback { outgoing, .. } => self.pending(outgoing),
        }
    }

    #[inline]
    fn take_outgoing(&self, mut spare: Vec<u8>) -> Vec<u8> {
        let py = self.1;
        match self.0 {
            Layer::Direct { session, .. } => session.take_outgoing(spare),
            Layer::Fallback { outgoing, .. } => {
                // Fails for lack of memory only; the records stay where they are.
                if let Ok(records) = outgoing.bind(py).call_method0(intern!(py, "read")) {
                    if let Ok(records) = records.cast::<PyBytes>() {
                        spare.extend_from_slice(records.as_bytes());
                    }
                }
                spare
            }
        }
    }
}
