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
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::asyncio::event_loop::LoopCore;
    #[pymodule_export]
    use crate::asyncio::handle::{Handle, TimerHandle};
    #[pymodule_export]
    use crate::asyncio::jobs::JobQueue;
    #[pymodule_export]
    use crate::asyncio::transport::datagram::DatagramTransport;
    #[pymodule_export]
    use crate::asyncio::transport::listener::Listener;
    #[pymodule_export]
    use crate::asyncio::transport::pipe::{reading::ReadPipeTransport, writing::WritePipeTransport};
    #[pymodule_export]
    use crate::asyncio::transport::stream::StreamTransport;
    #[pymodule_export]
    use crate::asyncio::transport::tls::connection::TlsConnection;
    #[pymodule_export]
    use crate::asyncio::transport::tls::transport::TlsTransport;

    /// How TLS records are made: ("direct", "") by libssl itself, or ("fallback", why) by `ssl.SSLObject`.
    #[pyfunction]
    fn tls_backend(py: Python<'_>) -> (&'static str, &'static str) {
        match crate::py::ssl::backend(py) {
            crate::py::ssl::Backend::Direct { .. } => ("direct", ""),
            crate::py::ssl::Backend::Fallback(why) => ("fallback", why),
        }
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        use crate::asyncio::{event_loop, transport};
        use crate::py::class::{install_finalizer, install_free_list};

        let py = module.py();
        crate::py::imports::imports(py)?;
        event_loop::methods::add_to(&py.get_type::<LoopCore>())?;
        event_loop::executor::add_to(&py.get_type::<LoopCore>())?;
        install_free_list::<Handle>(&py.get_type::<Handle>());
        install_free_list::<TimerHandle>(&py.get_type::<TimerHandle>());
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
}
