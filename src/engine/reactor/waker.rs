//! The waker: ends a wait of the reactor from another thread.
//!
//! Registered edge-triggered, so every wake is an event and nobody needs to read the counter.

use std::os::fd::{AsRawFd, RawFd};

use super::super::sys::eventfd::EventFd;
use super::super::Result;

/// May be shared between threads.
#[derive(Debug)]
pub struct Waker(EventFd);

impl Waker {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        EventFd::new().map(Self)
    }

    pub fn wake(&self) {
        self.0.notify();
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
