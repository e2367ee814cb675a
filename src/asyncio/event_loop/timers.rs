//! `call_later` and `call_at`: from seconds on asyncio's clock to the heap of nanoseconds.
//!
//! The heap holds integers; the handle is found by its key and leaves at once when it is cancelled.

use pyo3::prelude::*;

use super::ready::Entry;
use super::{LoopCore, State};
use crate::asyncio::handle::HandleCore;
use crate::asyncio::timer_handle::TimerHandle;
use crate::engine::time::timer_heap::TimerKey;
use crate::py::recycled;

/// Later than any clock will ever show.
const NEVER: u64 = u64::MAX;

/// The first nanosecond at which `loop.time()` is not before `when`.
fn deadline_ns(when: f64) -> u64 {
    let nanoseconds = (when * 1e9).ceil();
    if nanoseconds.is_nan() || nanoseconds >= u64::MAX as f64 {
        return NEVER;
    }
    // Times before the clock's start saturate to 0: due at once.
    let mut deadline = nanoseconds as u64;
    // The product was rounded; make sure that the timer is not early by the clock that users see.
    while deadline > 0 && (deadline as f64 / 1e9) < when {
        deadline += 1;
    }
    deadline
}

impl LoopCore {
    /// Schedules a callback for the time `when`, in seconds; `given` is the object it came from.
    pub fn add_timer<'py>(
        slf: &Bound<'py, Self>,
        core: HandleCore,
        when: f64,
        given: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        let py = slf.py();
        let tracked = !slf.get().spares_handles();
        let timer = recycled::make(py, || TimerHandle::new(core, when, given), tracked)?;
        let deadline = deadline_ns(when);
        let entry = timer.clone().unbind();
        let key = slf.get().state(py, |state| state.timers.insert(deadline, entry));
        timer.get().set_key(Some(key));
        Ok(timer)
    }

    /// Takes a cancelled timer out.
    pub fn forget_timer(&self, py: Python<'_>, key: TimerKey) {
        // Dropped here, outside of the closure.
        let timer = self.state(py, |state| state.timers.cancel(key)).map(|timer| timer.into_bound(py));
        if timer.is_some() {
            self.metrics.timers_cancelled.add(1);
        }
    }

    /// Moves all timers that are due at `now_ns` into the ready queue.
    pub fn queue_due_timers(&self, py: Python<'_>, now_ns: u64) {
        self.state(py, |state| {
            let State { timers, ready, .. } = state;
            timers.take_due(now_ns, |deadline_ns, timer| {
                self.metrics.timers_fired.add(1);
                self.metrics.lag.record(now_ns.saturating_sub(deadline_ns));
                timer.get().set_key(None);
                ready.push_back(Entry::Timer(timer));
            });
        });
    }
}
