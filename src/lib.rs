//! ironloop: a complete asyncio event loop in Rust.
//!
//! ```text
//!   asyncio/   what asyncio sees: the loop, handles, transports         imports py, engine
//!   py/        how this crate talks to CPython; no event loop in it     imports engine (data types)
//!   engine/    reactor, timers, streams, system calls; no Python in it  imports nothing of the above
//! ```
//!
//! Python code imports `ironloop` (python/ironloop), which builds `ironloop.Loop` from the classes
//! that `_native` exports below. Without the feature `python` only the engine is built.

pub mod engine;

#[cfg(feature = "python")]
mod asyncio;
#[cfg(feature = "python")]
mod py;

/// `ironloop._native`: the native classes, and nothing that a program needs to name itself.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
fn _native(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    use pyo3::prelude::*;

    use crate::asyncio::event_loop::{self, LoopCore};
    use crate::asyncio::handle::Handle;
    use crate::asyncio::jobs::JobQueue;
    use crate::asyncio::streams::{Introduction, StreamCoroutine};
    use crate::asyncio::timer_handle::TimerHandle;
    use crate::asyncio::transport;
    use crate::asyncio::transport::datagram::DatagramTransport;
    use crate::asyncio::transport::listener::Listener;
    use crate::asyncio::transport::pipe::{reading::ReadPipeTransport, writing::WritePipeTransport};
    use crate::asyncio::transport::stream::StreamTransport;
    use crate::asyncio::transport::tls::{connection::TlsConnection, transport::TlsTransport};
    use crate::py::class::install_finalizer;

    /// How TLS records are made: ("direct", "") by libssl itself, or ("fallback", why) by `ssl.SSLObject`.
    #[pyfunction]
    fn tls_backend(py: Python<'_>) -> (&'static str, &'static str) {
        match crate::py::ssl::backend(py) {
            crate::py::ssl::Backend::Direct { .. } => ("direct", ""),
            crate::py::ssl::Backend::Fallback(why) => ("fallback", why),
        }
    }

    /// Gives a reader of a child process's output the native methods of `streams`.
    #[pyfunction]
    fn adopt_reader(event_loop: &Bound<'_, LoopCore>, reader: &Bound<'_, PyAny>) -> PyResult<()> {
        crate::asyncio::streams::adopt_reader(reader, event_loop.get().is_debug()).map(drop)
    }

    #[cfg(feature = "faults")]
    fn add_faults(module: &Bound<'_, PyModule>) -> PyResult<()> {
        use crate::engine::sys::faults;

        /// From now on as `text` says (src/engine/sys/faults.rs); "" ends all faults.
        #[pyfunction]
        fn set_faults(text: &str) -> PyResult<()> {
            faults::set(text).map_err(pyo3::exceptions::PyValueError::new_err)
        }

        /// How often what was done to which call since `set_faults`.
        #[pyfunction]
        fn faults_made() -> Vec<(String, u64)> {
            faults::counts()
        }

        module.add_function(wrap_pyfunction!(set_faults, module)?)?;
        module.add_function(wrap_pyfunction!(faults_made, module)?)
    }

    let py = module.py();
    // Before any class is made: there is one of each per process, made from this interpreter's `asyncio`.
    crate::py::interpreter::require_main(py)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(tls_backend, module)?)?;
    module.add_function(wrap_pyfunction!(adopt_reader, module)?)?;
    #[cfg(feature = "faults")]
    add_faults(module)?;
    module.add_class::<LoopCore>()?;
    module.add_class::<Handle>()?;
    module.add_class::<TimerHandle>()?;
    module.add_class::<JobQueue>()?;
    module.add_class::<DatagramTransport>()?;
    module.add_class::<Listener>()?;
    module.add_class::<ReadPipeTransport>()?;
    module.add_class::<WritePipeTransport>()?;
    module.add_class::<Introduction>()?;
    module.add_class::<StreamCoroutine>()?;
    module.add_class::<StreamTransport>()?;
    module.add_class::<TlsConnection>()?;
    module.add_class::<TlsTransport>()?;

    module.add("completion_api", crate::py::completion_api::capsule::<LoopCore>(py)?)?;

    crate::py::imports::imports(py)?;
    event_loop::discarded::learn(py)?;
    crate::py::current_context::set_up(py)?;
    event_loop::methods::add_to(&py.get_type::<LoopCore>())?;
    event_loop::executor::add_to(&py.get_type::<LoopCore>())?;
    event_loop::observe::add_to(&py.get_type::<LoopCore>())?;
    crate::asyncio::handle::set_up(py)?;
    crate::asyncio::timer_handle::set_up(py)?;
    crate::asyncio::streams::set_up(py)?;
    transport::stream::add_methods(&py.get_type::<StreamTransport>())?;
    transport::datagram::add_methods(&py.get_type::<DatagramTransport>())?;
    transport::pipe::writing::add_methods(&py.get_type::<WritePipeTransport>())?;
    install_finalizer::<StreamTransport>(&py.get_type::<StreamTransport>());
    install_finalizer::<DatagramTransport>(&py.get_type::<DatagramTransport>());
    install_finalizer::<ReadPipeTransport>(&py.get_type::<ReadPipeTransport>());
    install_finalizer::<WritePipeTransport>(&py.get_type::<WritePipeTransport>());
    transport::tls::transport::add_methods(&py.get_type::<TlsTransport>())?;
    install_finalizer::<TlsTransport>(&py.get_type::<TlsTransport>());
    Ok(())
}
