//! `LoopCore`: the native half of `ironloop.Loop`.
//!
//! Owned by the thread that runs it. `State` is lent to short closures that never run Python code;
//! other threads reach the loop through the inbox. What happens once per callback, timer, event or
//! task is here; what happens once per loop or per connect call is Python code, most of it the
//! running interpreter's own (`python/ironloop/_loop.py`).
//!
//! ```text
//!   open --run_forever--> running --stop, exception--> open --close--> closed
//! ```

mod bindings;
mod completions;
mod connect;
mod create_task_doc;
mod crowd;
pub mod discarded;
pub mod executor;
mod forked;
mod inbox;
mod inspect;
pub mod methods;
pub mod observe;
mod polling;
pub mod ready;
pub mod report;
mod scheduling;
pub mod sock;
pub mod source;
mod tasks;
mod timers;
mod turn;
pub mod watchers;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyString};

use self::inbox::Inbox;
use self::ready::Entry;
use self::source::{Source, Sources};
use crate::asyncio::timer_handle::TimerHandle;
use crate::asyncio::transport::listener::Listener;
use crate::asyncio::transport::stream::StreamTransport;
use crate::asyncio::transport::tls::buffers::Buffers;
use crate::engine;
use crate::engine::hand_over::HandOver;
use crate::engine::metrics::{Count, Metrics};
use crate::engine::reactor::Reactor;
use crate::engine::sys::clock::monotonic_ns;
use crate::engine::sys::datagram::ReceiveBatch;
use crate::engine::sys::poller::EventBuffer;
use crate::engine::time::timer_heap::TimerHeap;
use crate::py::buffer::Reserve;
use crate::py::call::{self, thread_ident};
use crate::py::kept_bytes::KeptBytes;
use crate::py::loop_owned::LoopOwned;
use crate::py::names::name;
use crate::py::objects;
use crate::py::thread_end::StayHere;

/// Where small messages are received before they become `bytes` of their own size. It also bounds what one
/// read takes from a connection, and thereby how long one peer can keep the others waiting.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The state of the loop's thread.
pub struct State {
    pub ready: VecDeque<Entry>,
    pub timers: TimerHeap<Py<TimerHandle>>,
    pub sources: Sources,
    /// Transports that gathered writes during the callback that runs now.
    pub flush: Vec<Gathered>,
    /// Listeners that stopped for lack of descriptors.
    pub starved: Vec<Py<Listener>>,
    task_factory: Option<Py<PyAny>>,
    /// `{"loop": self}`, until the loop is closed: see `tasks`.
    loop_keywords: Option<Py<PyDict>>,
    events: Option<EventBuffer>,
}

/// A transport with something to send, and a copy of the context that it was written in.
pub struct Gathered {
    pub transport: Py<StreamTransport>,
    pub context: Option<Py<PyAny>>,
}

/// What a transport has to know of the callback that writes.
#[derive(Clone, Copy)]
pub struct Writing {
    /// The number of the callback.
    pub epoch: u64,
    /// What is small is to wait for the end of the turn.
    pub together: bool,
}

/// See the module's documentation.
#[pyclass(frozen, subclass, weakref, module = "ironloop._native")]
pub struct LoopCore {
    state: LoopOwned<State>,
    scratch: LoopOwned<Box<[u8]>>,
    /// Of what was received, and forgotten by whom it was given to.
    pub kept_bytes: KeptBytes,
    /// For what `sock_recv` has received by way of `scratch`.
    received_bytes: Reserve,
    /// What TLS connections use one after the other.
    pub tls_buffers: LoopOwned<Buffers>,
    /// Where datagrams are received; made with the first socket that receives some.
    datagrams: LoopOwned<Option<ReceiveBatch>>,
    inbox: Inbox,
    hand_over: HandOver,
    closed: AtomicBool,
    stopping: AtomicBool,
    /// It has got a reactor of its own in a forked child, and not yet what Python code has to replace.
    has_left_parent: AtomicBool,
    debug: AtomicBool,
    /// A trace is kept.
    tracing: AtomicBool,
    /// Each callback is run by `ironloop._report`: debug mode, or a trace.
    observed: AtomicBool,
    /// The next `_run_once` is that of our `run_forever`; the others are somebody else's.
    until_stop: AtomicBool,
    /// `threading.get_ident()` of the thread that runs the loop, 0 when it is not running.
    thread: AtomicU64,
    /// Turns are run: the loop, and what is in its queue, is alive.
    turning: AtomicBool,
    /// Counts callbacks; tells a transport whether two writes belong to the same one.
    epoch: AtomicU64,
    /// `State::flush` is not empty, and is to be flushed when the callback is over, or the turn.
    flush_pending: AtomicBool,
    flush_at_end: AtomicBool,
    /// What is written is to wait for the end of the turn, `engine::stream::batching`.
    batching: AtomicBool,
    /// How often a transport was written to since the last poll.
    writes: Count,
    pub metrics: Metrics,
    /// For how long to look for events before the thread blocks (`engine::reactor::spin`); 0: not at all.
    busy_poll_ns: AtomicU64,
    /// What extensions post to; made for the first that asks.
    completions: completions::Slot,
}

impl LoopCore {
    /// Lends the state to a closure that does not run Python code.
    #[inline]
    pub fn state<R>(&self, py: Python<'_>, body: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(py, body)
    }

    /// Lends the receive buffer.
    pub fn scratch<R>(&self, py: Python<'_>, body: impl FnOnce(&mut [u8]) -> R) -> R {
        self.scratch.with(py, |scratch| body(scratch))
    }

    /// Lends the memory for datagrams.
    pub fn datagrams<R>(&self, py: Python<'_>, body: impl FnOnce(&mut ReceiveBatch) -> R) -> R {
        self.datagrams.with(py, |batch| body(batch.get_or_insert_default()))
    }

    /// `time.monotonic()`, in seconds.
    pub fn now() -> f64 {
        monotonic_ns() as f64 / 1e9
    }

    #[inline]
    pub fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn is_tracing(&self) -> bool {
        self.tracing.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Relaxed)
    }

    fn set_modes(&self, debug: bool, tracing: bool) {
        self.debug.store(debug, Ordering::Relaxed);
        self.tracing.store(tracing, Ordering::Relaxed);
        self.observed.store(debug || tracing, Ordering::Relaxed);
    }

    #[inline]
    pub fn is_loop_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What has no reactor any more stays closed, also when `__init__` is called again: a run would never end.
    pub fn mark_closed(&self, py: Python<'_>, closed: bool) {
        let for_good = self.state(py, |state| state.sources.reactor.is_none());
        self.closed.store(closed || for_good, Ordering::Release);
    }

    #[inline]
    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_loop_closed() {
            return Err(report::with_hint(py, PyRuntimeError::new_err("Event loop is closed")));
        }
        Ok(())
    }

    /// Whether the calling thread is the one that runs the loop right now.
    #[inline]
    pub fn runs_here(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == thread_ident()
    }

    /// `threading.get_ident()` of the thread that runs this loop, which is the calling one.
    #[inline]
    pub fn this_thread(&self) -> u64 {
        match self.thread.load(Ordering::Relaxed) {
            // A turn outside of `run_forever`.
            0 => thread_ident(),
            thread => thread,
        }
    }

    /// Whether handles in the queue can do without the collector, see `Handle::scheduled`.
    #[inline]
    fn spares_handles(&self) -> bool {
        self.turning.load(Ordering::Relaxed) && !self.is_observed()
    }

    /// The number of the callback that runs now.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Queues an entry behind everything that was queued before, by whatever thread.
    ///
    /// From a thread that is not the loop's it wakes the loop. Where there is a GIL, whoever has it may add to the queue:
    /// the loop looks there before it lets go of the GIL to sleep, and announces that it sleeps.
    ///
    /// `entry` is made next to its place in the queue: on the way there it would be copied, each time in larger pieces than it was
    /// just written in, which has to wait for the writes.
    #[inline(always)]
    pub fn push(&self, py: Python<'_>, entry: impl FnOnce() -> Entry) {
        if cfg!(Py_GIL_DISABLED) {
            let running = self.thread.load(Ordering::Relaxed);
            if running != 0 && running != thread_ident() {
                return self.post(entry());
            }
        }
        if self.inbox.is_occupied() {
            self.drain_inbox(py);
        }
        self.state(py, |state| state.ready.push_back(entry()));
        if cfg!(not(Py_GIL_DISABLED)) && self.inbox.is_sleeping() {
            self.wake(py);
        }
    }

    /// Ends the loop's sleep, with or without the interpreter.
    #[cold]
    fn wake(&self, py: Python<'_>) {
        let Some(reactor) = self.inbox.end_sleep() else { return };
        if !self.hand_over.lets_go() {
            return reactor.waker().wake();
        }
        let guard = StayHere::new();
        py.detach(|| reactor.waker().wake());
        guard.leave();
    }

    /// Queues an entry from any thread and wakes the loop.
    pub fn post(&self, entry: Entry) {
        self.inbox.post(entry);
    }

    #[inline]
    fn count_threadsafe_call(&self) {
        if cfg!(Py_GIL_DISABLED) {
            self.metrics.threadsafe_calls.add_together(1);
        } else {
            self.metrics.threadsafe_calls.add(1);
        }
    }

    /// Queues an entry from any thread; gives what wakes the loop, if it sleeps.
    pub fn post_quietly(&self, entry: Entry) -> Option<Arc<Reactor>> {
        self.inbox.post_quietly(entry)
    }

    fn drain_inbox(&self, py: Python<'_>) {
        let entries = self.inbox.take();
        self.state(py, |state| state.ready.extend(entries));
    }

    /// `loop.call_soon(function, argument)` for transports, without a handle if nobody would see it.
    ///
    /// It runs in `context`, or in a copy of the current one. An override of `call_soon`, in a subclass or on the
    /// instance, is honoured.
    pub fn schedule(
        slf: &Bound<'_, Self>,
        function: Bound<'_, PyAny>,
        argument: Option<Bound<'_, PyAny>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_debug() || overrides(slf, name!(py, "call_soon"))? {
            let function = function.into_any();
            let arguments = match argument {
                Some(argument) => objects::tuple(py, [function, argument].iter().map(Bound::as_borrowed))?,
                None => objects::tuple(py, [function].iter().map(Bound::as_borrowed))?,
            };
            let keywords = context.map(|context| [("context", context)].into_py_dict(py)).transpose()?;
            return slf.call_method(name!(py, "call_soon"), arguments, keywords.as_ref()).map(drop);
        }
        this.check_open(py)?;
        let context = context.map_or_else(|| call::copy_context(py), Ok)?;
        this.push(py, || Entry::Call { function: function.unbind(), argument: argument.map(Bound::unbind), context });
        Ok(())
    }

    /// Takes note of a write by the callback that runs now. `None`: by none of this loop's, and nobody would send what is held.
    #[inline]
    pub fn note_write(&self) -> Option<Writing> {
        if !self.runs_here() {
            return None;
        }
        self.writes.add(1);
        Some(Writing { epoch: self.epoch(), together: self.batching.load(Ordering::Relaxed) })
    }

    /// Asks for `transport` to be flushed when the callback that runs now returns, or at the end of the turn.
    pub fn flush_later(&self, py: Python<'_>, transport: Py<StreamTransport>) {
        // Fails only for lack of memory; what is sent is worth more than the context then.
        let context = call::copy_context(py).ok();
        self.state(py, |state| state.flush.push(Gathered { transport, context }));
        let at_end = self.batching.load(Ordering::Relaxed);
        (if at_end { &self.flush_at_end } else { &self.flush_pending }).store(true, Ordering::Relaxed);
    }
}

/// Whether a method of `LoopCore` is replaced by a subclass or by an attribute of the instance.
///
/// `name` is interned: only then does the interpreter remember where it has found it, and this is asked per connection.
fn overrides(event_loop: &Bound<'_, LoopCore>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    let py = event_loop.py();
    let class = event_loop.get_type();
    if !class.getattr(name)?.is(py.get_type::<LoopCore>().getattr(name)?) {
        return Ok(true);
    }
    match event_loop.getattr(name!(py, "__dict__")) {
        Ok(attributes) => attributes.cast::<PyDict>()?.contains(name),
        Err(_) => Ok(false),
    }
}

impl LoopCore {
    fn create() -> engine::Result<Self> {
        let reactor = Arc::new(Reactor::new()?);
        Ok(Self {
            state: LoopOwned::new(State {
                ready: VecDeque::new(),
                timers: TimerHeap::new(),
                sources: Sources::new(Arc::clone(&reactor)),
                flush: Vec::new(),
                starved: Vec::new(),
                task_factory: None,
                loop_keywords: None,
                events: Some(EventBuffer::with_capacity(crowd::EVENTS_PER_POLL)),
            }),
            scratch: LoopOwned::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            kept_bytes: KeptBytes::new(),
            received_bytes: Reserve::new(SCRATCH_BYTES + 1),
            tls_buffers: LoopOwned::new(Buffers::new()),
            datagrams: LoopOwned::new(None),
            inbox: Inbox::new(reactor),
            hand_over: HandOver::new(),
            closed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            has_left_parent: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            tracing: AtomicBool::new(false),
            observed: AtomicBool::new(false),
            until_stop: AtomicBool::new(false),
            thread: AtomicU64::new(0),
            turning: AtomicBool::new(false),
            epoch: AtomicU64::new(1),
            flush_pending: AtomicBool::new(false),
            flush_at_end: AtomicBool::new(false),
            batching: AtomicBool::new(false),
            writes: Count::new(),
            metrics: Metrics::default(),
            busy_poll_ns: AtomicU64::new(0),
            completions: completions::Slot::default(),
        })
    }

    /// Drops everything that is scheduled or registered and closes the reactor.
    fn close_core(&self, py: Python<'_>) {
        self.closed.store(true, Ordering::Release);
        // All of it is dropped at the end of this function, where nothing is lent any more.
        let _inbox = self.inbox.close();
        let _state = self.state(py, State::drain);
        self.completions.close();
    }

    /// While turns are run, what the loop holds is alive: a reference that is not visited says the same, and a long queue
    /// is not gone through in each collection that its callbacks bring about.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.turning.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(result) = self.state.visit(|state| state.visit(visit)) {
            result?;
        }
        self.inbox.visit(|entries| entries.iter().try_for_each(|entry| entry.visit(visit))).unwrap_or(Ok(()))
    }

    /// Breaks all cycles through the loop.
    fn clear(&self) {
        let _inbox = self.inbox.take();
        let _state = self.state.visit(|state| (state.drain(), state.task_factory.take()));
    }
}

/// What a closed loop leaves behind, to be dropped where nothing is lent.
type Leftovers = (
    VecDeque<Entry>,
    Vec<Py<TimerHandle>>,
    (Vec<Source>, Option<Arc<Reactor>>),
    Vec<Gathered>,
    Vec<Py<Listener>>,
    Option<Py<PyDict>>,
);

impl State {
    fn drain(&mut self) -> Leftovers {
        (
            std::mem::take(&mut self.ready),
            self.timers.clear(),
            self.sources.close(),
            std::mem::take(&mut self.flush),
            std::mem::take(&mut self.starved),
            self.loop_keywords.take(),
        )
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.ready.iter().try_for_each(|entry| entry.visit(visit))?;
        self.timers.iter().try_for_each(|timer| visit.call(timer))?;
        for Gathered { transport, context } in &self.flush {
            visit.call(transport)?;
            visit.call(context)?;
        }
        self.starved.iter().try_for_each(|listener| visit.call(listener))?;
        visit.call(&self.task_factory)?;
        visit.call(&self.loop_keywords)?;
        self.sources.visit(visit)
    }
}
