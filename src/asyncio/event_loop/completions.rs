//! What other extensions post to a loop by `py::completion_api`: the queue is a reader of the loop's, like any other.
//!
//! So order, errors, debug mode and metrics are those of `add_reader`: a batch runs as one callback, in a copy of the context
//! in which the first extension asked for the queue, and what one of it raises goes to the exception handler while the
//! rest waits for the next turn. The loop owns the reader and closes the queue, extensions share the queue; a loop that
//! nobody posts to has neither.

use std::os::fd::RawFd;
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
pub struct Slot(Mutex<Option<Arc<Queue>>>);

impl Slot {
    fn queue(&self) -> Option<Arc<Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The queue that stays: the first.
    fn keep(&self, queue: Arc<Queue>) -> Arc<Queue> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(queue))
    }

    /// The loop goes on in a forked child.
    pub fn leave_parent(&self) {
        if let Some(queue) = self.queue() {
            queue.own();
        }
    }

    /// The loop is closed. Foreign code is told so, and may do what it likes: nothing is lent here.
    pub fn close(&self) {
        let queue = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    let reader = Bound::new(py, Reader(queue))?;
    let run = reader.getattr(name!(py, "run"))?;
    slf.call_method1(name!(py, "_add_reader"), (reader.get().descriptor(), run)).map(drop)
}

/// The callback of the queue's descriptor. Refers to no Python object: what is posted is the poster's.
#[pyclass(frozen, module = "ironloop._native")]
struct Reader(Arc<Queue>);

impl Reader {
    fn descriptor(&self) -> RawFd {
        self.0.descriptor().unwrap_or(-1)
    }
}

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
