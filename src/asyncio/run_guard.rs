//! What makes the handles of `call_soon_threadsafe` safe to cancel from any thread, since Python 3.14.
//!
//! ```text
//!   the callback runs        runner = its thread, then 0
//!   cancel, cancelled        wait while another thread is the runner
//! ```
//!
//! So whoever has cancelled such a handle knows that the callback is not running, and will not. asyncio has a
//! `threading.RLock` in each of them for this; here nobody pays but who has to wait, which hardly ever happens.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::py::call::{check_signals, thread_ident};

/// All who wait, for whatever handle, wait here.
static LOCK: Mutex<()> = Mutex::new(());
static ENDED: Condvar = Condvar::new();
static WAITING: AtomicU32 = AtomicU32::new(0);

/// The runner of a handle that only the loop's thread may cancel. No thread's number: they are addresses.
const ANYBODY: u64 = u64::MAX;

/// How long a signal may have to wait for its handler while the main thread waits here.
const SIGNALS_INTERVAL: Duration = Duration::from_millis(50);

/// See the module's documentation. One word, as there is one in every handle.
pub struct RunGuard {
    /// `threading.get_ident()` of the thread that runs the callback, or 0; or `ANYBODY`.
    runner: AtomicU64,
}

/// Ends the run, also if it panics.
struct Running<'a>(&'a RunGuard);

impl RunGuard {
    /// Whether this version of asyncio has such handles.
    pub const IS_USED: bool = cfg!(Py_3_14);

    pub const fn new(wanted: bool) -> Self {
        Self { runner: AtomicU64::new(if wanted { 0 } else { ANYBODY }) }
    }

    /// Whether the handle is one of those that can be cancelled from any thread.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        Self::IS_USED && self.runner.load(Ordering::Relaxed) != ANYBODY
    }

    /// Runs `body` in `this_thread`, the calling one, as the runner.
    #[inline]
    pub fn run<R>(&self, this_thread: u64, body: impl FnOnce() -> R) -> R {
        if self.runner.load(Ordering::Relaxed) == this_thread {
            // A callback that runs its own handle.
            return body();
        }
        self.runner.store(this_thread, Ordering::SeqCst);
        let _running = Running(self);
        body()
    }

    /// Waits while another thread is the runner.
    ///
    /// # Errors
    /// What a signal handler raises.
    #[inline]
    pub fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_wanted() {
            while self.runs_elsewhere() {
                py.detach(|| self.wait_a_while());
                check_signals(py)?;
            }
        }
        Ok(())
    }

    fn runs_elsewhere(&self) -> bool {
        let runner = self.runner.load(Ordering::SeqCst);
        runner != 0 && runner != thread_ident()
    }

    #[cold]
    fn wait_a_while(&self) {
        // Who waits says so before it looks whether the run is over, and the runner does it the other way round: one of them
        // sees the other.
        WAITING.fetch_add(1, Ordering::SeqCst);
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        if self.runs_elsewhere() {
            drop(ENDED.wait_timeout(lock, SIGNALS_INTERVAL).unwrap_or_else(PoisonError::into_inner));
        }
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.runner.store(0, Ordering::SeqCst);
        if WAITING.load(Ordering::SeqCst) > 0 {
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            ENDED.notify_all();
        }
    }
}
