//! What `_ready` and `_scheduled` show: the handles that wait, for debuggers and for code that counts them.
//!
//! The answers are copies. Callbacks that the loop keeps without a handle (the steps of tasks) get one for the
//! answer; events of the reactor have none and are left out.

use pyo3::prelude::*;

use super::ready::Entry;
use super::{executor, LoopCore};
use crate::asyncio::callback::{Args, Call};
use crate::asyncio::handle::{Handle, HandleCore};

impl LoopCore {
    /// The handles in the ready queue, then those that other threads have posted.
    pub fn ready_handles(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let mut entries: Vec<Entry> =
            this.state(py, |state| state.ready.iter().map(|entry| entry.clone_ref(py)).collect());
        if let Some(posted) =
            this.inbox.visit(|posted| posted.iter().map(|entry| entry.clone_ref(py)).collect::<Vec<_>>())
        {
            entries.extend(posted);
        }
        let handles = entries.into_iter().map(|entry| handle_of(slf, entry));
        handles.filter_map(Result::transpose).collect()
    }

    /// The handles of the timers that wait, in no order.
    pub fn timer_handles(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.state(py, |state| state.timers.iter().map(|timer| timer.clone_ref(py).into_any()).collect())
    }
}

fn handle_of(event_loop: &Bound<'_, LoopCore>, entry: Entry) -> PyResult<Option<Py<PyAny>>> {
    let py = event_loop.py();
    Ok(match entry {
        Entry::Call { function, argument, context } => {
            let call = Call { function, args: argument.map_or(Args::None, Args::One) };
            let core = HandleCore::new(py, event_loop.clone().unbind(), call, context)?;
            Some(Handle::new(py, core)?.unbind().into_any())
        }
        Entry::Handle(handle) => Some(handle.into_any()),
        Entry::Timer(timer) => Some(timer.into_any()),
        Entry::Foreign(handle) => Some(handle),
        Entry::Finished { future, outcome } => {
            Some(executor::handle_of_outcome(event_loop, &future, outcome)?.into_any().unbind())
        }
        Entry::Io(..) => None,
    })
}
