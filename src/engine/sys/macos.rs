//! What macOS lacks of the calls that we make, under the names and with the arguments that they have on Linux.
//!
//! `sys` calls what differs as `system::accept4` and so on: libc on Linux, this file here. Calls that are made of several
//! are not atomic: a child that another thread starts between accept and fcntl inherits the descriptor. Compiled, and not
//! run by anybody yet.
#![expect(unsafe_code, reason = "system calls")]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use libc::{c_int, c_uint};

use super::{Error, Result};

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

/// A message of several, and how much of it there was.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct mmsghdr {
    pub msg_hdr: libc::msghdr,
    pub msg_len: c_uint,
}

/// Receives one by one. An error behind the first message is not kept for the next call.
///
/// # Safety
/// `headers` are `count` headers that recvmsg(2) may fill.
pub unsafe fn recvmmsg(
    fd: RawFd,
    headers: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    _timeout: *mut libc::timespec,
) -> c_int {
    // SAFETY: the caller's.
    let headers = unsafe { std::slice::from_raw_parts_mut(headers, count as usize) };
    // SAFETY: as above.
    one_by_one(headers, |header| unsafe { libc::recvmsg(fd, header, flags) })
}

/// Sends one by one.
///
/// # Safety
/// `headers` are `count` headers that sendmsg(2) may read.
pub unsafe fn sendmmsg(fd: RawFd, headers: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    // SAFETY: the caller's.
    let headers = unsafe { std::slice::from_raw_parts_mut(headers, count as usize) };
    // SAFETY: as above.
    one_by_one(headers, |header| unsafe { libc::sendmsg(fd, header, flags) })
}

/// How many calls succeeded before the first that did not; -1 if that was the first of all.
fn one_by_one(headers: &mut [mmsghdr], mut call: impl FnMut(&mut libc::msghdr) -> libc::ssize_t) -> c_int {
    let mut done = 0;
    for header in headers {
        let Ok(length) = c_uint::try_from(call(&mut header.msg_hdr)) else {
            return if done == 0 { -1 } else { done };
        };
        header.msg_len = length;
        done += 1;
    }
    done
}

/// A descriptor that another thread can make readable, as eventfd(2): one end of a pair of sockets.
#[derive(Debug)]
pub struct EventFd {
    ours: UnixStream,
    other: UnixStream,
}

impl EventFd {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        let make = || {
            let (ours, other) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            other.set_nonblocking(true)?;
            Ok(Self { ours, other })
        };
        make().map_err(|error: std::io::Error| Error {
            operation: "socketpair",
            errno: error.raw_os_error().unwrap_or_default(),
        })
    }

    pub fn notify(&self) {
        // Fails only when there is no room (EAGAIN), and then the descriptor is readable anyway.
        let _ = (&self.other).write(&[1]);
    }

    /// Makes it unreadable until the next notification.
    pub fn reset(&self) {
        let mut bytes = [0; 64];
        while (&self.ours).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.ours.as_raw_fd()
    }
}
