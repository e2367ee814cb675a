//! Stand-ins for calls of Linux, made of what every system has: recvmmsg(2), sendmmsg(2) and eventfd(2).
//!
//! `macos` gives them to `sys` under these names. On Linux they are compiled for their tests only. They differ from the
//! real ones in that each message is a system call.
#![expect(unsafe_code, reason = "system calls")]

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

use libc::{c_int, c_uint};

use super::{attempt, Error, Result};

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

    /// What tells it from all others, whatever their numbers.
    pub fn identity(&self) -> Option<u64> {
        identity(self.as_raw_fd())
    }

    /// Another one in the place of one that came by a fork, which nobody uses any more, nor closes: under its number, unless
    /// the child has closed it and has something else under that number by now.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn in_place_of(inherited: RawFd, known: Option<u64>) -> Result<Self> {
        let Self { ours, other } = Self::new()?;
        if known.is_none() || identity(inherited) != known {
            return Ok(Self { ours, other });
        }
        // SAFETY: has no preconditions; the number is the caller's.
        attempt("dup2", -1, || unsafe { libc::dup2(ours.as_raw_fd(), inherited) } as libc::ssize_t)?;
        // SAFETY: a copy of `ours`, which nobody else owns.
        let ours = unsafe { UnixStream::from_raw_fd(inherited) };
        // SAFETY: has no preconditions. Fails for no open descriptor.
        unsafe { libc::fcntl(inherited, libc::F_SETFD, libc::FD_CLOEXEC) };
        Ok(Self { ours, other })
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

/// The number of a socket's inode; `None` for what is no socket.
fn identity(fd: RawFd) -> Option<u64> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the place has the size that the call writes.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } < 0 {
        return None;
    }
    // SAFETY: filled by the successful call.
    let status = unsafe { status.assume_init() };
    (status.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(status.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::ptr;

    /// A header for each part, without addresses.
    fn headers_of(parts: &mut [libc::iovec]) -> Vec<mmsghdr> {
        let header = |part: &mut libc::iovec| {
            // SAFETY: all zeroes is a valid header.
            let mut header: mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        parts.iter_mut().map(header).collect()
    }

    fn send(socket: &UnixDatagram, messages: &[&[u8]]) -> c_int {
        let part = |data: &&[u8]| libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let mut parts: Vec<libc::iovec> = messages.iter().map(part).collect();
        let mut headers = headers_of(&mut parts);
        // SAFETY: the headers point to the parts, and they to the messages; nothing writes to them.
        unsafe { sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as c_uint, libc::MSG_NOSIGNAL) }
    }

    fn receive(socket: &UnixDatagram, most: usize) -> (c_int, Vec<Vec<u8>>) {
        let mut memory = vec![[0_u8; 16]; most];
        let part = |slot: &mut [u8; 16]| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let mut parts: Vec<libc::iovec> = memory.iter_mut().map(part).collect();
        let mut headers = headers_of(&mut parts);
        // SAFETY: the headers point to the parts, and they to the memory, which nobody else uses.
        let count = unsafe { recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), most as c_uint, 0, ptr::null_mut()) };
        let received = headers.iter().zip(&memory).take(count.max(0) as usize);
        (count, received.map(|(header, slot)| slot[..header.msg_len as usize].to_vec()).collect())
    }

    fn pair() -> (UnixDatagram, UnixDatagram) {
        let (left, right) = UnixDatagram::pair().expect("descriptors");
        left.set_nonblocking(true).expect("a socket");
        right.set_nonblocking(true).expect("a socket");
        (left, right)
    }

    #[test]
    fn messages_arrive_as_many_as_there_is_room_for() {
        let (left, right) = pair();
        assert_eq!(send(&left, &[b"one", b"", b"three"]), 3);
        assert_eq!(receive(&right, 2), (2, vec![b"one".to_vec(), Vec::new()]));
        assert_eq!(receive(&right, 2), (1, vec![b"three".to_vec()]));
        assert_eq!(receive(&right, 2), (-1, Vec::new()));
        assert!(Error::last("recvmmsg").would_block());
    }

    #[test]
    fn a_message_that_fails_ends_a_batch_and_leads_the_next_one() {
        let (left, _right) = pair();
        let huge = vec![0; 64 << 20];
        assert_eq!(send(&left, &[b"fits", &huge, b"fits too"]), 1);
        assert_eq!(send(&left, &[&huge, b"fits too"]), -1);
        assert_eq!(Error::last("sendmmsg").errno, libc::EMSGSIZE);
    }

    fn is_readable(descriptor: &impl AsRawFd) -> bool {
        let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, valid for the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    #[test]
    fn a_notified_descriptor_is_readable_until_it_is_reset() {
        let signal = EventFd::new().expect("descriptors");
        assert!(!is_readable(&signal));
        // More than one reading takes, and more than there is room for.
        for count in [1, 64, 1000] {
            (0..count).for_each(|_| signal.notify());
            assert!(is_readable(&signal));
            signal.reset();
            assert!(!is_readable(&signal));
        }
    }

    #[test]
    fn one_in_place_of_another_has_its_number_and_shares_nothing_with_it() {
        let inherited = EventFd::new().expect("descriptors");
        let number = inherited.as_raw_fd();
        let (parents, identity) = (inherited.ours.try_clone().expect("a descriptor"), inherited.identity());
        std::mem::forget(inherited);
        let own = EventFd::in_place_of(number, identity).expect("descriptors");
        assert_eq!(own.as_raw_fd(), number);
        assert_ne!(own.identity(), identity);
        own.notify();
        assert!(is_readable(&own) && !is_readable(&parents));
        // What has the number now is no longer what `identity` was of.
        let next = EventFd::in_place_of(number, identity).expect("descriptors");
        assert_ne!(next.as_raw_fd(), number);
        assert!(is_readable(&own) && !is_readable(&next));
    }
}
