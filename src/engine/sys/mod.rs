//! Every system call of the engine, each behind a safe function.
//!
//! Together with `crate::py` the only place with `unsafe` code. No call blocks but `epoll`'s wait; descriptors are
//! owned from birth (`OwnedFd`), or borrowed as numbers from whoever owns them.

pub mod addr;
pub mod clock;
pub mod datagram;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod openssl;
pub mod socket;
pub mod ticks;

use super::{Error, Result};

/// The result of a system call that answers -1 and sets `errno` when it fails.
fn check(operation: &'static str, result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 {
        Err(Error::last(operation))
    } else {
        Ok(result)
    }
}

/// As `check`, for calls that count bytes.
fn check_count(operation: &'static str, result: libc::ssize_t) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last(operation))
}
