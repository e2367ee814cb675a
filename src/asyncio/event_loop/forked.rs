//! A loop in a process that was forked from the one that made it.
//!
//! ```text
//!   inherited --registers something, runs--> the child's own
//! ```
//!
//! The epoll instance of an inherited loop is the parent's: what the child closes, mostly because finalizers do, ends
//! in the child only. Registrations stay, nothing that waited at the fork is sent and no connection is shut down;
//! descriptors are closed, which are the child's. A child that goes on with the loop gets a reactor of its own, with the
//! same registrations, and a queue of its own for other extensions' completions. What it does then to connections that it
//! shares with its parent is its own affair.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use pyo3::prelude::*;

use super::LoopCore;
use crate::engine::reactor::Reactor;
use crate::py::error::os_error;

impl LoopCore {
    /// Whether this process got the loop by a fork and has not gone on with it.
    pub fn is_inherited(&self, py: Python<'_>) -> bool {
        self.state(py, |state| state.sources.is_inherited())
    }

    /// Gives an inherited loop a reactor of its own; any other has one.
    ///
    /// # Errors
    /// `OSError` when there are no descriptors; the loop is closed then.
    #[inline]
    pub fn own_reactor(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_inherited(py) {
            self.replace_reactor(py)?;
        }
        Ok(())
    }

    /// The loop's reactor, which is this process's own; `None` once it is closed.
    ///
    /// # Errors
    /// As `own_reactor`.
    pub fn reactor(&self, py: Python<'_>) -> PyResult<Option<Arc<Reactor>>> {
        self.own_reactor(py)?;
        Ok(self.state(py, |state| state.sources.reactor.clone()))
    }

    /// As `own_reactor`; true, once, if that or an earlier call has replaced the parent's.
    pub fn leave_parent(&self, py: Python<'_>) -> PyResult<bool> {
        self.own_reactor(py)?;
        Ok(self.has_left_parent.swap(false, Ordering::Relaxed))
    }

    #[cold]
    fn replace_reactor(&self, py: Python<'_>) -> PyResult<()> {
        // While it is known to be inherited: what is held is the parent's to send.
        self.flush_gathered(py)?;
        // The old one goes first, and with it its numbers: one that the child has closed may be given to the new one.
        drop(self.inbox.replace_reactor(None));
        drop(self.state(py, |state| state.sources.reactor.take()));
        if let Some((from, to)) = self.completions.leave_parent() {
            let dropped = self.state(py, |state| state.sources.renumber(from, to));
            dropped.map_or(Ok(()), |dropped| dropped.replaced(py))?;
        }
        let reactor = Reactor::new().map(Arc::new).map_err(|error| {
            self.closed.store(true, Ordering::Release);
            os_error(py, &error)
        })?;
        drop(self.inbox.replace_reactor(Some(Arc::clone(&reactor))));
        self.state(py, |state| state.sources.move_to(reactor));
        self.has_left_parent.store(true, Ordering::Relaxed);
        Ok(())
    }
}
