//! `native_jobs`: Rust that works beside an event loop.
//!
//! * `sleep`, `ask`: tokio futures, by pyo3-async-runtimes. Good for programs in async Rust; each future costs a
//!   `call_soon_threadsafe`, and with it the GIL, in tokio's thread.
//! * `Jobs`: threads of its own, whose results reach the loop through `completions::Queue`. No thread waits for the GIL,
//!   and the loop wakes up once for many results.

mod completions;

use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use completions::Queue;

/// Sleeps in tokio, and returns the value.
#[pyfunction]
fn sleep(py: Python<'_>, seconds: f64, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(value)
    })
}

/// Sends a question to 127.0.0.1 with tokio's sockets, and returns the answer.
#[pyfunction]
fn ask(py: Python<'_>, port: u16, question: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(&question).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    })
}

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads for one loop.
#[pyclass(frozen)]
struct Jobs {
    queue: Queue,
    jobs: Sender<Job>,
}

#[pymethods]
impl Jobs {
    /// Threads that work for `event_loop`, an ironloop loop.
    #[new]
    fn new(event_loop: &Bound<'_, PyAny>, threads: usize) -> PyResult<Self> {
        let (jobs, waiting) = channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = next else { break };
                job();
            });
        }
        Ok(Self { queue: Queue::of(event_loop)?, jobs })
    }

    /// An asyncio future of the number of primes below `limit`, counted by one of the threads.
    fn count_primes<'py>(&self, event_loop: &Bound<'py, PyAny>, limit: u32) -> PyResult<Bound<'py, PyAny>> {
        let future = event_loop.call_method0("create_future")?;
        let (queue, to_finish) = (self.queue.clone(), future.clone().unbind());
        let job = move || {
            let count = (2..limit).filter(|&n| (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0)).count();
            // The loop is closed: nobody waits any more.
            let _ = queue.post(move |py| finish(py, &to_finish, count));
        };
        let _ = self.jobs.send(Box::new(job));
        Ok(future)
    }

    /// Each thread of `threads` posts `each` calls of `function(thread, number)`; returns when all are posted.
    fn flood(&self, py: Python<'_>, threads: usize, each: usize, function: Py<PyAny>) -> usize {
        let function = Arc::new(function);
        py.detach(|| {
            let posting: Vec<_> = (0..threads)
                .map(|thread| {
                    let (queue, function) = (self.queue.clone(), Arc::clone(&function));
                    thread::spawn(move || {
                        (0..each)
                            .filter(|&number| {
                                let function = Arc::clone(&function);
                                queue.post(move |py| function.call1(py, (thread, number)).map(drop)).is_ok()
                            })
                            .count()
                    })
                })
                .collect();
            posting.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        })
    }

    /// Goes on posting calls of `function()` until the loop is closed, in a thread that nobody waits for.
    fn post_until_closed(&self, function: Py<PyAny>) {
        let (queue, function) = (self.queue.clone(), Arc::new(function));
        thread::spawn(move || loop {
            let function = Arc::clone(&function);
            if queue.post(move |py| function.call0(py).map(drop)).is_err() {
                break;
            }
            thread::sleep(Duration::from_micros(20));
        });
    }
}

/// Gives the future its result, unless it was cancelled meanwhile.
fn finish(py: Python<'_>, future: &Py<PyAny>, count: usize) -> PyResult<()> {
    if !future.call_method0(py, "cancelled")?.is_truthy(py)? {
        future.call_method1(py, "set_result", (count,))?;
    }
    Ok(())
}

#[pymodule(gil_used = false)]
fn native_jobs(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Jobs>()?;
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(ask, module)?)
}
