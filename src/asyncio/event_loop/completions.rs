//! What other extensions post to a loop by `py::completion_api`: the queue is a reader of the loop's, like any other.
//!
//! So order, errors, debug mode and metrics are those of `add_reader`: a batch runs as one callback, in a copy of the context
//! in which the first extension asked for the queue, and what one of it raises goes to the exception handler while the
//! rest waits for the next turn. The loop owns the reader and closes the queue, extensions share the queue; a loop that
//! nobody posts to has neither.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use super::LoopCore;
use crate::engine::completions::Completions;
use crate::py::completion_api::{Completion, Postable};
use crate::py::error::os_error;
use crate::py::names::name;

type Queue = Completions<Completion>;

/// Run at once, before other callbacks get their turn.
const BATCH: usize = 256;

/// The loop's queue, once somebody has asked for it.
#[derive(Default)]
pub struct Slot {
    queue: Mutex<Option<Arc<Queue>>>,
    /// The descriptor that the loop watches for it.
    watched: AtomicI32,
}

impl Slot {
    fn queue(&self) -> Option<Arc<Queue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The queue that stays: the first.
    fn keep(&self, queue: Arc<Queue>) -> Arc<Queue> {
        Arc::clone(self.queue.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(queue))
    }

    /// The loop goes on in a forked child: the descriptor that it has watched, and the one to watch instead, if that is
    /// another. There is none if the child had none left.
    pub fn leave_parent(&self) -> Option<(RawFd, Option<RawFd>)> {
        let own = self.queue()?.descriptor();
        let watched = self.watched.swap(own.unwrap_or(-1), Ordering::Relaxed);
        (own != Some(watched)).then_some((watched, own))
    }

    /// The loop is closed. Foreign code is told so, and may do what it likes: nothing is lent here.
    pub fn close(&self) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(queue.map(|queue| queue.close()));
    }
}

impl Drop for Slot {
    /// Of a loop that was never closed.
    fn drop(&mut self) {
        self.close();
    }
}

impl Postable for LoopCore {
    fn completions(slf: &Bound<'_, Self>) -> PyResult<Arc<Queue>> {
        let py = slf.py();
        slf.get().check_open(py)?;
        if let Some(queue) = slf.get().completions.queue() {
            return Ok(queue);
        }
        let queue = Arc::new(Queue::new().map_err(|error| os_error(py, &error))?);
        let kept = slf.get().completions.keep(Arc::clone(&queue));
        if Arc::ptr_eq(&kept, &queue) {
            // Nobody would read a queue that stays without its reader.
            read(slf, queue).inspect_err(|_| slf.get().completions.close())?;
        }
        Ok(kept)
    }
}

/// Has the loop run what is posted to its queue.
fn read(slf: &Bound<'_, LoopCore>, queue: Arc<Queue>) -> PyResult<()> {
    let py = slf.py();
    // It is open: nobody else knows it yet.
    let descriptor = queue.descriptor().unwrap_or(-1);
    slf.get().completions.watched.store(descriptor, Ordering::Relaxed);
    let run = Bound::new(py, Reader(queue))?.getattr(name!(py, "run"))?;
    slf.call_method1(name!(py, "_add_reader"), (descriptor, run)).map(drop)
}

/// The callback of the queue's descriptor. Refers to no Python object: what is posted is the poster's.
#[pyclass(frozen, module = "ironloop._native")]
struct Reader(Arc<Queue>);

#[pymethods]
impl Reader {
    /// Runs what has been posted.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let mut batch = self.0.take(BATCH);
        while let Some(completion) = batch.pop_front() {
            if let Err(error) = completion.run(py) {
                drop(self.0.put_back(batch));
                return Err(error);
            }
        }
        Ok(())
    }
}
