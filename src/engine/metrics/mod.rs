//! What a loop counts about itself, always.
//!
//! Written by the loop's thread alone, by a load and a store instead of a locked instruction; any thread may read, and
//! sees each number as it was a moment ago. Times are in ticks (`sys::ticks`) until somebody asks.

pub mod histogram;
pub mod pace;

use std::sync::atomic::{AtomicU64, Ordering};

use histogram::Histogram;

/// A number that one thread changes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// As `add`, for a number that several threads change at the same time; all of them must use this.
    #[inline]
    pub fn add_together(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Metrics {
    pub io_events: Count,
    pub timers_fired: Count,
    pub timers_cancelled: Count,
    /// Calls of `call_soon_threadsafe`.
    pub threadsafe_calls: Count,
    /// Times that the loop was woken from its sleep by another thread.
    pub wakeups: Count,
    pub connections_accepted: Count,
    /// Stream transports of either side that were made and are lost.
    pub connections_opened: Count,
    pub connections_closed: Count,
    pub bytes_received: Count,
    pub bytes_sent: Count,
    pub tls_handshakes: Count,
    /// Times that a listener stopped accepting for lack of descriptors.
    pub accept_pauses: Count,
    /// Ticks in polls that blocked, and in polls that looked again and again before they would have.
    pub idle_ticks: Count,
    pub spin_ticks: Count,
    /// Ticks in runs of the loop that are over, and when the present one began (0: it is not running).
    pub run_ticks: Count,
    pub run_started: Count,
    /// Ticks per callback.
    pub callback_time: Histogram,
    /// Ticks per turn, without its poll.
    pub turn_time: Histogram,
    /// Nanoseconds from a timer's deadline to its run.
    pub lag: Histogram,
}
