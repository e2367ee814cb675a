//! From an `ssl.SSLObject` to the `SSL` behind it, and whether that can be trusted.
//!
//! `_ssl` has no API for other extension modules. Its two structures begin alike in all versions from 3.10 to 3.15:
//!
//! ```text
//!   _ssl._SSLContext:  PyObject_HEAD | SSL_CTX *ctx | ...
//!   _ssl._SSLSocket:   PyObject_HEAD | PyObject *Socket | SSL *ssl | PySSLContext *ctx | ...
//! ```
//!
//! Before the first use that is checked: the version is one of these, pointers that Python knows are where they should
//! be, what is set through Python is read back through OpenSSL, and the other way round. Any doubt means the
//! fallback, which asks nothing but the public interface of `ssl`.
#![expect(unsafe_code, reason = "reads two structures of _ssl's, and their OpenSSL objects")]

use std::ffi::{c_void, CString};
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::engine::sys::openssl::{is_mapped, Library, Session, SslCtx};
use crate::py::names::name;

/// Set to "fallback", it forbids the direct layer.
const VARIABLE: &str = "IRONLOOP_TLS";
/// Minor versions of Python whose `_ssl` was looked at.
const KNOWN_VERSIONS: std::ops::RangeInclusive<u8> = 10..=15;
/// Bytes of an `SSL` or `SSL_CTX` that must be readable before OpenSSL is asked about it; both are larger.
const LEAST_SIZE: usize = 256;

/// Fields behind PyObject_HEAD, counted in pointers.
const CONTEXT_CTX: usize = 0;
const SOCKET_SOCKET: usize = 0;
const SOCKET_SSL: usize = 1;
const SOCKET_CONTEXT: usize = 2;

/// How records are made.
pub enum Backend {
    /// By libssl itself, for objects of exactly these classes: a subclass may have replaced a method, and only instances
    /// of `socket_class` are of the layout that was checked.
    Direct { library: &'static Library, object_class: Py<PyAny>, socket_class: Py<PyType> },
    /// By `ssl.SSLObject`; and why.
    Fallback(String),
}

static BACKEND: PyOnceLock<Backend> = PyOnceLock::new();

/// Which of them this process uses; decided at the first call.
pub fn backend(py: Python<'_>) -> &'static Backend {
    BACKEND.get_or_init(py, || match check(py) {
        Ok(backend) => backend,
        Err(doubt) => Backend::Fallback(doubt.0),
    })
}

/// Why the direct layer is not used.
struct Doubt(String);

impl From<PyErr> for Doubt {
    fn from(error: PyErr) -> Self {
        Self(error.to_string())
    }
}

fn ensure(condition: bool, doubt: &str) -> Result<(), Doubt> {
    if condition {
        Ok(())
    } else {
        Err(Doubt(doubt.to_owned()))
    }
}

/// A session for a new `ssl.SSLObject`, and the native object behind it; `None`: it is not what the direct layer knows.
///
/// The caller keeps both alive as long as the session, and calls the session attached and one at a time.
pub fn session(object: &Bound<'_, PyAny>) -> Option<(Session, Py<PyAny>)> {
    let py = object.py();
    let Backend::Direct { library, object_class, socket_class } = backend(py) else { return None };
    if !object.get_type().is(object_class) {
        return None;
    }
    // What this callback raises, in the middle of a connection, only the object's own methods tell.
    let attributes = || -> PyResult<_> {
        Ok((object.getattr(name!(py, "context"))?, object.getattr(name!(py, "_sslobj"))?, name!(py, "_msg_callback")))
    };
    let (context, socket, callback) = attributes().ok()?;
    if context.getattr(callback).is_ok_and(|callback| !callback.is_none()) {
        return None;
    }
    if !socket.get_type().is(socket_class) || !word(&socket, SOCKET_SOCKET)?.is_null() {
        return None;
    }
    let ssl = NonNull::new(word(&socket, SOCKET_SSL)?)?;
    // SAFETY: the socket's class is the one whose layout `check` has verified, so this is its live SSL.
    let facts = unsafe { library.ssl_facts(ssl.as_ptr()) };
    if facts.application_data != socket.as_ptr().cast() {
        return None;
    }
    // SAFETY: as above; the handshake of a new object has not begun. The rest is the caller's promise.
    let session = unsafe { Session::attach(library, ssl) }?;
    Some((session, socket.unbind()))
}

/// A field of an object; `None` when the object is too small to have it.
fn word(object: &Bound<'_, PyAny>, index: usize) -> Option<*mut c_void> {
    let offset = size_of::<ffi::PyObject>() + index * size_of::<*mut c_void>();
    // SAFETY: reads a field of a live type object.
    let size = unsafe { (*object.get_type_ptr()).tp_basicsize };
    if usize::try_from(size).ok()? < offset + size_of::<*mut c_void>() {
        return None;
    }
    // SAFETY: the object has at least `tp_basicsize` bytes, and the offset is a multiple of a pointer's size.
    Some(unsafe { object.as_ptr().cast::<u8>().add(offset).cast::<*mut c_void>().read() })
}

fn check(py: Python<'_>) -> Result<Backend, Doubt> {
    ensure(std::env::var(VARIABLE).map_or(true, |choice| choice != "fallback"), "IRONLOOP_TLS says so")?;
    ensure(!cfg!(any(py_sys_config = "Py_DEBUG", py_sys_config = "Py_TRACE_REFS")), "a debug build of Python")?;
    let version = py.version_info();
    ensure(version.major == 3 && KNOWN_VERSIONS.contains(&version.minor), "an unknown version of Python")?;
    let object_size: usize = py.get_type::<PyAny>().getattr(name!(py, "__basicsize__"))?.extract()?;
    ensure(object_size == size_of::<ffi::PyObject>(), "objects have an unknown layout")?;
    let native = py.import(name!(py, "_ssl"))?;
    let path: String = native.getattr(name!(py, "__file__"))?.extract()?;
    let path = CString::new(path).map_err(|_| Doubt("_ssl has no path".to_owned()))?;
    let Some(library) = Library::loaded_by(&path) else {
        return Err(Doubt("_ssl is not linked with a shared libssl of a known version".to_owned()));
    };
    let ssl = py.import(name!(py, "ssl"))?;
    let number: std::ffi::c_ulong = ssl.getattr(name!(py, "OPENSSL_VERSION_NUMBER"))?.extract()?;
    let text: String = ssl.getattr(name!(py, "OPENSSL_VERSION"))?.extract()?;
    ensure(library.version_number() == number && library.version() == text, "two versions of OpenSSL are loaded")?;
    let socket_class = native.getattr(name!(py, "_SSLSocket"))?.cast_into::<PyType>().map_err(PyErr::from)?;
    for trial in &TRIALS {
        check_layout(&ssl, library, &socket_class, trial)?;
    }
    let object_class = ssl.getattr(name!(py, "SSLObject"))?.unbind();
    Ok(Backend::Direct { library, object_class, socket_class: socket_class.unbind() })
}

/// A context with settings that no other one has, and what OpenSSL calls them.
struct Trial {
    protocol: &'static str,
    server_side: bool,
    version: &'static str,
    version_number: i64,
    verify_mode: &'static str,
    verify_number: i32,
    option: &'static str,
}

const TRIALS: [Trial; 3] = [
    Trial {
        protocol: "PROTOCOL_TLS_CLIENT",
        server_side: false,
        version: "TLSv1_2",
        version_number: 0x303,
        verify_mode: "CERT_OPTIONAL",
        verify_number: 1,
        option: "OP_NO_TICKET",
    },
    Trial {
        protocol: "PROTOCOL_TLS_SERVER",
        server_side: true,
        version: "TLSv1_3",
        version_number: 0x304,
        verify_mode: "CERT_REQUIRED",
        verify_number: 3,
        option: "OP_CIPHER_SERVER_PREFERENCE",
    },
    Trial {
        protocol: "PROTOCOL_TLS_SERVER",
        server_side: true,
        version: "TLSv1_2",
        version_number: 0x303,
        verify_mode: "CERT_NONE",
        verify_number: 0,
        option: "OP_SINGLE_DH_USE",
    },
];

fn mapped(pointer: Option<*mut c_void>, what: &str) -> Result<*mut c_void, Doubt> {
    let pointer = pointer.unwrap_or(std::ptr::null_mut());
    let aligned = pointer.align_offset(align_of::<*mut c_void>()) == 0;
    ensure(aligned && is_mapped(pointer as usize, LEAST_SIZE), what)?;
    Ok(pointer)
}

/// Sets a context up through Python and compares what OpenSSL says, then the other way round; then the same for a
/// connection of it.
fn check_layout(
    ssl: &Bound<'_, PyModule>,
    library: &Library,
    socket_class: &Bound<'_, PyType>,
    trial: &Trial,
) -> Result<(), Doubt> {
    let py = ssl.py();
    let context = ssl.getattr("SSLContext")?.call1((ssl.getattr(trial.protocol)?,))?;
    context.setattr("check_hostname", false)?;
    context.setattr("verify_mode", ssl.getattr(trial.verify_mode)?)?;
    let version = ssl.getattr("TLSVersion")?.getattr(trial.version)?;
    context.setattr("minimum_version", &version)?;
    context.setattr("maximum_version", &version)?;
    let ctx: *mut SslCtx = mapped(word(&context, CONTEXT_CTX), "an _SSLContext has an unknown layout")?;
    let options = |context: &Bound<'_, PyAny>| -> PyResult<u64> { context.getattr("options")?.extract() };
    // SAFETY: mapped, at the place where all known versions have the SSL_CTX; its first bytes are as long as the fields
    // that these questions read are deep.
    let facts = unsafe { library.context_facts(ctx) };
    let agree = facts.verify_mode & 3 == trial.verify_number
        && facts.oldest == trial.version_number
        && facts.newest == trial.version_number
        && facts.options == options(&context)?;
    ensure(agree, "an SSL_CTX does not say what its SSLContext says")?;
    let option: u64 = ssl.getattr(trial.option)?.extract()?;
    // SAFETY: an SSL_CTX, as its answers above have shown.
    unsafe { library.add_context_options(ctx, option) };
    ensure(options(&context)? & option == option, "an SSLContext does not say what its SSL_CTX says")?;

    let bio = ssl.getattr("MemoryBIO")?;
    let keywords = PyDict::new(py);
    keywords.set_item("server_side", trial.server_side)?;
    let object = context.call_method("wrap_bio", (bio.call0()?, bio.call0()?), Some(&keywords))?;
    let socket = object.getattr("_sslobj")?;
    ensure(socket.get_type().is(socket_class), "an SSLObject is made of something else than _ssl._SSLSocket")?;
    let placed = word(&socket, SOCKET_SOCKET).is_some_and(<*mut c_void>::is_null)
        && word(&socket, SOCKET_CONTEXT) == Some(context.as_ptr().cast());
    ensure(placed, "an _SSLSocket has an unknown layout")?;
    let connection = mapped(word(&socket, SOCKET_SSL), "an _SSLSocket has no SSL where it should be")?;
    // SAFETY: mapped, between two fields that are what they should be.
    let facts = unsafe { library.ssl_facts(connection) };
    let agree = facts.application_data == socket.as_ptr().cast()
        && facts.context == ctx
        && facts.server_side == trial.server_side
        && facts.options == options(&context)?;
    ensure(agree, "an SSL does not say what its SSLObject says")
}
