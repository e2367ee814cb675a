//! Every system call of the engine, each behind a safe function.
//!
//! Together with `crate::py` the only place with `unsafe` code. No call blocks but `poller`'s wait; descriptors are
//! owned from birth (`OwnedFd`), or borrowed as numbers from whoever owns them.

pub mod addr;
pub mod cache;
pub mod clock;
pub mod datagram;
pub mod events;
pub mod faults;
pub mod file;
pub mod openssl;
pub mod process;
pub mod socket;
pub mod ticks;

#[cfg(target_os = "linux")]
pub mod epoll;
#[cfg(target_os = "linux")]
mod eventfd;
#[cfg(target_os = "macos")]
pub mod kqueue;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(any(target_os = "macos", test))]
mod portable;
#[cfg(target_os = "linux")]
mod slack;

use std::os::fd::RawFd;

// Which system it is, is decided here: what waits for descriptors, and whose the calls are that not all systems have.
#[cfg(target_os = "linux")]
pub use self::{epoll as poller, eventfd::EventFd};
#[cfg(target_os = "macos")]
pub use self::{kqueue as poller, macos::EventFd};
#[cfg(target_os = "linux")]
use libc as system;
#[cfg(target_os = "macos")]
use macos as system;

use super::{Error, Result};

/// The result of a system call that answers -1 and sets `errno` when it fails.
fn check(operation: &'static str, result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 {
        Err(Error::last(operation))
    } else {
        Ok(result)
    }
}

/// Makes a call on `fd` that answers a count or a descriptor, again if a signal came in between: an edge-triggered user
/// who took that for "nothing is there" would wait for an edge that never comes.
#[inline(always)]
fn attempt(operation: &'static str, fd: RawFd, mut call: impl FnMut() -> libc::ssize_t) -> Result<usize> {
    loop {
        let result = faults::instead_of(operation, fd).unwrap_or_else(&mut call);
        if let Ok(count) = usize::try_from(result) {
            faults::after(fd);
            return Ok(count);
        }
        let error = Error::last(operation);
        if error.errno != libc::EINTR {
            return Err(error);
        }
    }
}
