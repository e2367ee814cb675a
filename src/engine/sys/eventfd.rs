//! eventfd(2): a descriptor that another thread can make readable.
//!
//! The reactor's waker is one. Any thread may signal it; its counter is never read, since it is registered
//! edge-triggered and each signal is an edge. `engine::completions` has another, which is reset when it has been seen to.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{attempt, Result};

/// A counter of notifications. May be shared between threads.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        // SAFETY: has no preconditions.
        let make = || unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let fd = attempt("eventfd", -1, || make() as libc::ssize_t)?;
        // SAFETY: a fresh descriptor, which is a small number, that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Another one under the descriptor of one that came by a fork, which nobody uses any more, nor closes.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn in_place_of(inherited: RawFd) -> Result<Self> {
        let new = Self::new()?;
        if new.as_raw_fd() == inherited {
            // The child had closed it.
            return Ok(new);
        }
        // SAFETY: has no preconditions; the number is the caller's.
        attempt("dup3", -1, || unsafe { libc::dup3(new.as_raw_fd(), inherited, libc::O_CLOEXEC) } as libc::ssize_t)?;
        // SAFETY: a copy of `new`'s, which nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(inherited) }))
    }

    /// Adds one. Every call is an edge for an edge-triggered registration.
    pub fn notify(&self) {
        let one: u64 = 1;
        // SAFETY: eight bytes, as eventfd wants them. It fails only when the counter is full (EAGAIN),
        // and then the descriptor is readable anyway.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Makes it unreadable until the next notification.
    pub fn reset(&self) {
        let mut count: u64 = 0;
        // SAFETY: room for eight bytes, as eventfd wants it. It fails only when there was no notification (EAGAIN).
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
