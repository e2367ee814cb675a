//! Python objects that native code needs again and again: imported once, at module initialization.
//!
//! asyncio's own classes and helpers are used as they are, so what depends on the version of Python
//! (a repr, a log line) is that version's.

use crate::py::c_function::PlainFunction;
use crate::py::names::name;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

/// See the module's documentation.
pub struct Imports {
    /// `asyncio.Handle`, `asyncio.TimerHandle`, `asyncio.Protocol`: what `isinstance` shall see.
    pub handle: Py<PyAny>,
    pub timer_handle: Py<PyAny>,
    /// `asyncio.events._ThreadSafeHandle`, since 3.14.
    pub thread_safe_handle: Option<Py<PyAny>>,
    pub protocol: Py<PyAny>,
    /// asyncio's own transports, for the same: `loop.sendfile` asks for a base class that has no public name.
    pub stream_transport: Py<PyAny>,
    /// The one for datagrams is a `DatagramTransport` on every version of Python; asyncio's own is since 3.13.
    pub datagram_transport: Py<PyAny>,
    pub read_pipe_transport: Py<PyAny>,
    pub write_pipe_transport: Py<PyAny>,
    pub buffered_protocol: Py<PyAny>,
    /// The names of `asyncio.tasks` and `asyncio.futures`, where the classes may have been replaced.
    pub tasks: Py<PyDict>,
    pub futures: Py<PyDict>,
    pub accelerated: Option<Accelerated>,
    /// `asyncio.BaseEventLoop.create_task`: task factories, debug mode and unusual keywords.
    pub create_task: Py<PyAny>,
    /// `asyncio.BaseEventLoop.run_in_executor`: executors that are not ours.
    pub run_in_executor: Py<PyAny>,
    /// `asyncio.futures._convert_future_exc`.
    pub convert_future_exc: Py<PyAny>,
    pub set_result_unless_cancelled: Py<PyAny>,
    pub extract_stack: Py<PyAny>,
    pub transport_socket: Py<PyAny>,
    pub socket: Py<PyAny>,
    /// `asyncio`'s logger.
    pub logger: Py<PyAny>,
    /// `asyncio.constants._SendfileMode.TRY_NATIVE` and `FALLBACK`.
    pub sendfile_mode: Py<PyAny>,
    pub sendfile_fallback: Py<PyAny>,
    /// `()`.
    pub nothing: Py<PyTuple>,
    /// `("loop",)`: the keyword names of a call that passes only the loop.
    pub loop_keyword: Py<PyTuple>,
    /// `("loop", "name")` and `("loop", "eager_start")`.
    pub loop_and_name_keywords: Py<PyTuple>,
    pub loop_and_eager_start_keywords: Py<PyTuple>,
    /// Names of the methods that are called once per event.
    pub data_received: Py<PyString>,
    pub datagram_received: Py<PyString>,
    pub error_received: Py<PyString>,
    pub get_buffer: Py<PyString>,
    pub buffer_updated: Py<PyString>,
    pub connection_lost: Py<PyString>,
    /// The number -1, `get_buffer`'s size hint.
    pub minus_one: Py<PyAny>,
    /// `ironloop._report`: how failures of callbacks are put into words.
    pub report: Py<PyAny>,
}

/// asyncio's classes in C.
pub struct Accelerated {
    pub task: Py<PyAny>,
    pub future: Py<PyAny>,
    /// Its methods, which nobody can replace.
    pub future_cancelled: Py<PyAny>,
    pub future_set_result: Py<PyAny>,
    /// The classes take the loop that runs in their thread if they are given none; this says which it is. Since 3.14: before that,
    /// whoever asks for the running loop asks for the number of the process, too.
    pub running_loop: Option<PlainFunction>,
}

static IMPORTS: PyOnceLock<Imports> = PyOnceLock::new();

/// The imports.
///
/// # Errors
/// An `ImportError` or `AttributeError` when asyncio is not what it should be.
pub fn imports(py: Python<'_>) -> PyResult<&'static Imports> {
    IMPORTS.get_or_try_init(py, || load(py))
}

fn load(py: Python<'_>) -> PyResult<Imports> {
    let asyncio = py.import("asyncio")?;
    let get = |name: &str| -> PyResult<Py<PyAny>> { Ok(asyncio.getattr(name)?.unbind()) };
    let from = |module: &str, name: &str| -> PyResult<Py<PyAny>> { Ok(py.import(module)?.getattr(name)?.unbind()) };
    let names = |module: &str| -> PyResult<Py<PyDict>> { Ok(py.import(module)?.dict().unbind()) };
    let interned = |name: &str| PyString::intern(py, name).unbind();
    Ok(Imports {
        handle: get("Handle")?,
        timer_handle: get("TimerHandle")?,
        thread_safe_handle: py.import("asyncio.events")?.getattr_opt("_ThreadSafeHandle")?.map(Bound::unbind),
        protocol: get("Protocol")?,
        stream_transport: from("asyncio.selector_events", "_SelectorSocketTransport")?,
        datagram_transport: datagram_transport(py)?,
        read_pipe_transport: from("asyncio.unix_events", "_UnixReadPipeTransport")?,
        write_pipe_transport: from("asyncio.unix_events", "_UnixWritePipeTransport")?,
        buffered_protocol: get("BufferedProtocol")?,
        tasks: names("asyncio.tasks")?,
        futures: names("asyncio.futures")?,
        accelerated: accelerated(py),
        create_task: asyncio.getattr("BaseEventLoop")?.getattr("create_task")?.unbind(),
        run_in_executor: asyncio.getattr("BaseEventLoop")?.getattr("run_in_executor")?.unbind(),
        convert_future_exc: from("asyncio.futures", "_convert_future_exc")?,
        set_result_unless_cancelled: from("asyncio.futures", "_set_result_unless_cancelled")?,
        extract_stack: from("asyncio.format_helpers", "extract_stack")?,
        transport_socket: from("asyncio.trsock", "TransportSocket")?,
        socket: from("socket", "socket")?,
        logger: from("asyncio.log", "logger")?,
        sendfile_mode: py.import("asyncio.constants")?.getattr("_SendfileMode")?.getattr("TRY_NATIVE")?.unbind(),
        sendfile_fallback: py.import("asyncio.constants")?.getattr("_SendfileMode")?.getattr("FALLBACK")?.unbind(),
        nothing: PyTuple::empty(py).unbind(),
        loop_keyword: PyTuple::new(py, [name!(py, "loop")])?.unbind(),
        loop_and_name_keywords: PyTuple::new(py, [name!(py, "loop"), name!(py, "name")])?.unbind(),
        loop_and_eager_start_keywords: PyTuple::new(py, [name!(py, "loop"), name!(py, "eager_start")])?.unbind(),
        data_received: interned("data_received"),
        datagram_received: interned("datagram_received"),
        error_received: interned("error_received"),
        get_buffer: interned("get_buffer"),
        buffer_updated: interned("buffer_updated"),
        connection_lost: interned("connection_lost"),
        minus_one: (-1_i32).into_pyobject(py)?.into_any().unbind(),
        report: py.import("ironloop._report")?.into_any().unbind(),
    })
}

/// `None`: there is no `_asyncio`, or another one.
fn accelerated(py: Python<'_>) -> Option<Accelerated> {
    let module = py.import("_asyncio").ok()?;
    let future = module.getattr("Future").ok()?;
    Some(Accelerated {
        task: module.getattr("Task").ok()?.unbind(),
        future_cancelled: future.getattr("cancelled").ok()?.unbind(),
        future_set_result: future.getattr("set_result").ok()?.unbind(),
        future: future.unbind(),
        running_loop: PlainFunction::of(module.getattr("_get_running_loop").ok()?).filter(|_| cfg!(Py_3_14)),
    })
}

/// asyncio's class for sockets, which is a `Transport`, and `DatagramTransport` in one.
fn datagram_transport(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let name = "_SelectorDatagramTransport";
    let bases =
        (py.import("asyncio.selector_events")?.getattr(name)?, py.import("asyncio")?.getattr("DatagramTransport")?);
    Ok(py.get_type::<PyType>().call1((name, bases, PyDict::new(py)))?.unbind())
}
