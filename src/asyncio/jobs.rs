//! `JobQueue`: the work queue of `ironloop._executor.ThreadPool`, with the loop's jobs in it, and what its threads do.
//!
//! ```text
//!   run_in_executor -> Job::Call -> a worker thread -> Entry::Finished -> the loop sets the future's result
//!   submit()        -> Job::Item -> a worker thread, which calls its run()
//! ```
//!
//! A job of the loop's needs no `concurrent.futures.Future`: it knows its asyncio future, and is passed over if that is
//! cancelled by the time a worker takes it. A worker that runs out of jobs lets go of the interpreter before it wakes the
//! loop, which then need not wait for it. Starting threads, their names and their end are `ThreadPoolExecutor`'s.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::callback::{Args, Call};
use super::event_loop::ready::{Entry, Outcome};
use super::event_loop::LoopCore;
use crate::engine::pool::{After, Next, Pool, Refused, Worker};
use crate::engine::reactor::Reactor;
use crate::py::call;
use crate::py::names::name;
use crate::py::thread_end::StayHere;

/// Something for a worker to do.
pub enum Job {
    /// A call whose outcome is that of a future of the loop's.
    Call { event_loop: Py<LoopCore>, future: Py<PyAny>, call: Call },
    /// An object with a method `run()`, which raises nothing, and a `future`.
    Item(Py<PyAny>),
}

/// See the module's documentation.
#[pyclass(frozen, module = "ironloop._native")]
pub struct JobQueue {
    pool: Pool<Job>,
}

impl JobQueue {
    /// Adds a job of `executor`'s, whose queue this is; `false` if it takes no more.
    ///
    /// # Errors
    /// What `add_worker` raises: there is no memory for a thread, or the interpreter ends.
    pub fn push(&self, executor: &Bound<'_, PyAny>, mut job: Job) -> PyResult<bool> {
        loop {
            job = match self.pool.push(job) {
                Ok(()) => return Ok(true),
                Err(Refused::Ended(_)) => return Ok(false),
                Err(Refused::WorkerNeeded(job)) => job,
            };
            if !executor.call_method0(name!(executor.py(), "add_worker"))?.is_truthy()? {
                return Ok(self.pool.push_anyway(job).is_ok());
            }
        }
    }
}

#[pymethods]
impl JobQueue {
    #[new]
    const fn new(max_workers: usize) -> Self {
        Self { pool: Pool::new(max_workers) }
    }

    /// Adds an item for a worker to run(); None: there will be no more, the workers end when they are done.
    fn put(&self, item: Option<Py<PyAny>>) -> PyResult<()> {
        let Some(item) = item else {
            self.pool.end();
            return Ok(());
        };
        match self.pool.push_anyway(Job::Item(item)) {
            Ok(()) => Ok(()),
            Err(_) => Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown")),
        }
    }

    /// Takes an item that no worker has begun, to be cancelled. `queue.Empty` if there is none.
    ///
    /// A job of the loop's is cancelled here: None.
    fn get_nowait(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.pool.take() {
            Some(Job::Item(item)) => Ok(Some(item)),
            Some(Job::Call { event_loop, future, .. }) => {
                let function = future.getattr(py, name!(py, "cancel"))?;
                let context = call::copy_context(py)?;
                event_loop.get().post(Entry::Call { function, argument: None, context });
                Ok(None)
            }
            None => Err(PyErr::from_value(py.import("queue")?.getattr("Empty")?.call0()?)),
        }
    }

    /// (jobs that wait for a thread, jobs that run).
    fn load(&self) -> (usize, usize) {
        self.pool.load()
    }

    /// Whether one more job would need a worker more.
    fn lacks_worker(&self) -> bool {
        self.pool.lacks_worker()
    }

    /// A thread has been started that run()s.
    fn worker_started(&self) {
        self.pool.worker_started();
    }

    /// What a worker thread does: runs jobs until there will be no more.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let worker = Worker::current();
        let mut after = After::Start;
        let mut to_wake: Option<Arc<Reactor>> = None;
        let guard = StayHere::new();
        let outcome = loop {
            match self.pool.next(&worker, after) {
                Next::Run(job) => {
                    after = After::Job;
                    wake(to_wake.take());
                    match job.run(py) {
                        Ok(reactor) => to_wake = reactor,
                        Err(error) => error.write_unraisable(py, None),
                    }
                }
                Next::Wait => {
                    let finished = to_wake.take();
                    py.detach(|| {
                        wake(finished);
                        worker.wait();
                    });
                    after = After::Wait;
                }
                Next::End => break Ok(()),
            }
        };
        wake(to_wake);
        guard.leave();
        outcome
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.pool.visit(|jobs| jobs.iter().try_for_each(|job| job.visit(&visit))).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _jobs = self.pool.clear();
    }
}

/// Ends the sleep of the loop that waits for the last job's outcome.
fn wake(reactor: Option<Arc<Reactor>>) {
    if let Some(reactor) = reactor {
        reactor.waker().wake();
    }
}

impl Job {
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Call { event_loop, future, call: Call { function, args } } => {
                visit.call(event_loop)?;
                visit.call(future)?;
                visit.call(function)?;
                args.visit(visit)
            }
            Self::Item(item) => visit.call(item),
        }
    }

    /// Runs it; gives what has to be woken to tell the loop, if it sleeps.
    ///
    /// # Errors
    /// What is not the job's own failure.
    fn run(self, py: Python<'_>) -> PyResult<Option<Arc<Reactor>>> {
        match self {
            Self::Item(item) => item.call_method0(py, name!(py, "run")).map(|_| None),
            Self::Call { event_loop, future, call } => {
                if call::call_method0(py, &future, name!(py, "cancelled").as_unbound())?.is_truthy()? {
                    return Ok(None);
                }
                let outcome = match call.make(py) {
                    Ok(value) => Outcome::Result(value),
                    Err(error) => Outcome::Exception(error.into_value(py).into_any()),
                };
                // Whoever sees the outcome finds nothing of the job alive.
                drop(call);
                let event_loop = event_loop.into_bound(py);
                if event_loop.get().is_loop_closed() {
                    return Ok(None);
                }
                Ok(event_loop.get().post_quietly(Entry::Finished { future, outcome }))
            }
        }
    }
}

impl Call {
    /// Makes the call in the current context.
    fn make(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.args {
            Args::None => call::call0(py, &self.function),
            Args::One(argument) => call::call1(py, &self.function, argument),
            Args::Many(arguments) => call::call_tuple(py, &self.function, arguments),
        }
        .map(Bound::unbind)
    }
}
