//! What macOS lacks of the calls that we make, under the names and with the arguments that they have on Linux.
//!
//! `sys` calls what differs as `system::accept4` and so on: libc on Linux, this file here, with what needs nothing of the
//! system in `portable`. Calls made of several are not atomic: a child that another thread starts between accept and
//! fcntl inherits the descriptor. Compiled, and not run by anybody yet.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use libc::c_int;

pub use super::portable::{mmsghdr, recvmmsg, sendmmsg, EventFd};

/// Where the calling thread's `errno` is.
pub use libc::__error as __errno_location;

/// Accepted sockets are what these stand for, always.
pub const SOCK_NONBLOCK: c_int = 0;
pub const SOCK_CLOEXEC: c_int = 0;

/// accept(2) for a socket that does not block, is not inherited and sends no signals.
///
/// # Safety
/// `address` and `length` are as accept(2) wants them.
pub unsafe fn accept4(fd: RawFd, address: *mut libc::sockaddr, length: *mut libc::socklen_t, _flags: c_int) -> c_int {
    // SAFETY: the caller's.
    let accepted = unsafe { libc::accept(fd, address, length) };
    if accepted < 0 {
        return accepted;
    }
    let on: c_int = 1;
    let (place, size) = ((&raw const on).cast(), size_of::<c_int>() as libc::socklen_t);
    // SAFETY: an int, valid for the call. It fails when the peer has gone already, and nothing will be sent then.
    unsafe { libc::setsockopt(accepted, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, place, size) };
    // SAFETY: have no preconditions.
    let set = unsafe { libc::fcntl(accepted, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: as above.
    if set < 0 || unsafe { libc::fcntl(accepted, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        // SAFETY: the descriptor is new, and nobody knows it.
        unsafe { libc::close(accepted) };
        return -1;
    }
    accepted
}
