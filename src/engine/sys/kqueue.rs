//! kqueue(2) with the functions of `epoll`, for systems that have no epoll. Compiled for macOS; nobody has run it yet.
//!
//! ```text
//!   READ, WRITE   EVFILT_READ, EVFILT_WRITE: two events where epoll has one
//!   edge          EV_CLEAR
//!   EPOLLRDHUP    EV_EOF of EVFILT_READ; that of EVFILT_WRITE may be our own shutdown(2), and only says "write"
//!   EPOLLPRI      EV_OOBAND
//!   the waker     EVFILT_USER, which needs no descriptor
//! ```
//!
//! A registration without an interest reports nothing, not even errors. Timeouts are in nanoseconds. A child of fork(2)
//! does not inherit queues: the numbers of theirs that it knows may be other descriptors there, and are left alone.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, RawFd};
use std::{process, ptr};

use super::events::Events;
use super::{attempt, check, faults, Error, Result};

/// The masks of registrations and events; the numbers mean nothing to the kernel.
pub const IN: u32 = 1 << 0;
pub const PRI: u32 = 1 << 1;
pub const OUT: u32 = 1 << 2;
pub const ERR: u32 = 1 << 3;
pub const HUP: u32 = 1 << 4;
pub const RDHUP: u32 = 1 << 13;
pub const ET: u32 = 1 << 31;

/// The kernel refuses timeouts of some years. After a shorter wait without events, the loop waits again.
const LONGEST_WAIT_SECONDS: u64 = 365 * 24 * 60 * 60;

/// Where a wait puts its events.
pub type EventBuffer = Events<libc::kevent>;

// SAFETY: `udata`, a pointer to the kernel, is a number here.
unsafe impl Send for EventBuffer {}

impl EventBuffer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self::filled_with(change(0, 0, 0, 0), capacity)
    }

    /// The data given at registration, and what the descriptor is ready for.
    ///
    /// # Panics
    /// When `index` is not below `len()`.
    pub fn get(&self, index: usize) -> (u64, u32) {
        let event = &self.memory[..self.length][index];
        (event.udata as u64, readiness(event.filter, event.flags, event.fflags))
    }
}

fn readiness(filter: i16, flags: u16, socket_error: u32) -> u32 {
    let ended = flags & libc::EV_EOF != 0;
    let mut mask = if filter == libc::EVFILT_WRITE { OUT } else { IN };
    if ended && socket_error != 0 {
        mask |= ERR;
    }
    if filter == libc::EVFILT_READ {
        mask |= if ended { RDHUP } else { 0 };
        mask |= if flags & libc::EV_OOBAND != 0 { PRI } else { 0 };
    }
    mask
}

/// The descriptor of a queue, in the process that made it.
#[derive(Debug)]
struct Queue {
    fd: RawFd,
    process: u32,
}

impl Queue {
    fn own(fd: RawFd) -> Self {
        Self { fd, process: process::id() }
    }

    /// Another descriptor for the same queue.
    fn duplicate(&self) -> Result<Self> {
        // SAFETY: has no preconditions; the kernel checks the descriptor.
        check("fcntl", unsafe { libc::fcntl(self.fd, libc::F_DUPFD_CLOEXEC, 0) }).map(Self::own)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.process == process::id() {
            // SAFETY: the descriptor is this value's own, and nobody uses it after.
            unsafe { libc::close(self.fd) };
        }
    }
}

/// A kernel queue.
pub struct Poller(Queue);

impl Poller {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        // SAFETY: has no preconditions.
        let queue = Queue::own(check("kqueue", unsafe { libc::kqueue() })?);
        // SAFETY: as above.
        check("fcntl", unsafe { libc::fcntl(queue.fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        Ok(Self(queue))
    }

    /// Also changes a registration that is there.
    ///
    /// # Errors
    /// EBADF, ENOMEM, EPIPE (a pipe that nobody reads, to be written only), EINVAL (a file that cannot be polled).
    pub fn add(&self, fd: RawFd, data: u64, events: u32) -> Result<()> {
        set(self.0.fd, fd, data, events)?;
        faults::registered(self.0.fd, fd, data, events);
        Ok(())
    }

    /// # Errors
    /// As for `add`: a registration that is not there is made.
    pub fn modify(&self, fd: RawFd, data: u64, events: u32) -> Result<()> {
        self.add(fd, data, events)
    }

    /// # Errors
    /// EBADF, ENOENT.
    pub fn delete(&self, fd: RawFd) -> Result<()> {
        match apply(self.0.fd, removals(fd))? {
            [0, _] | [_, 0] => Ok(()),
            [errno, _] => Err(Error { operation: "kevent", errno }),
        }
    }

    /// What ends a wait from another thread, each time; its events carry `data`. One of a queue.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn signal(&self, data: u64) -> Result<Signal> {
        match apply(self.0.fd, [change(0, libc::EVFILT_USER, libc::EV_ADD | libc::EV_CLEAR, data)])? {
            [0] => self.0.duplicate().map(Signal),
            [errno] => Err(Error { operation: "kevent", errno }),
        }
    }

    /// Waits up to `timeout_ns`; 0 looks and does not wait, `None` waits for ever.
    ///
    /// # Errors
    /// EINTR: a signal came.
    pub fn wait(&self, buffer: &mut EventBuffer, timeout_ns: Option<u64>) -> Result<usize> {
        buffer.length = 0;
        let timeout = timeout_ns.map(|nanoseconds| libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000).min(LONGEST_WAIT_SECONDS) as libc::time_t,
            tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
        });
        // SAFETY: the buffer has room for as many events as the call is told; the timeout is valid for the call, or null.
        let count = check("kevent", unsafe {
            libc::kevent(
                self.0.fd,
                ptr::null(),
                0,
                buffer.memory.as_mut_ptr(),
                libc::c_int::try_from(buffer.memory.len()).unwrap_or(libc::c_int::MAX),
                timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
            )
        })?;
        buffer.length = usize::try_from(count).unwrap_or_default();
        Ok(buffer.length)
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd
    }
}

/// See `Poller::signal`. May be shared between threads.
#[derive(Debug)]
pub struct Signal(Queue);

impl Signal {
    pub fn notify(&self) {
        let mut event = change(0, libc::EVFILT_USER, 0, 0);
        event.fflags = libc::NOTE_TRIGGER;
        // SAFETY: one change that is valid for the call, and no room for events. It cannot fail: the event exists as long
        // as the queue.
        unsafe { libc::kevent(self.0.fd, &raw const event, 1, ptr::null_mut(), 0, ptr::null()) };
    }
}

/// Has edge-triggered registrations report once more what is ready.
pub fn arm_again(queue: RawFd, fd: RawFd, data: u64, events: u32) {
    if events & ET != 0 {
        // EBADF, if the descriptor was closed meanwhile, is as well.
        let _ = set(queue, fd, data, events);
    }
}

/// Makes the registration anew, whatever was there: a filter keeps the trigger that it was made with.
fn set(queue: RawFd, fd: RawFd, data: u64, events: u32) -> Result<()> {
    let add = libc::EV_ADD | if events & ET != 0 { libc::EV_CLEAR } else { 0 };
    let [no_read, no_write] = removals(fd);
    let read = if events & IN != 0 { change(fd, libc::EVFILT_READ, add, data) } else { no_read };
    let write = if events & OUT != 0 { change(fd, libc::EVFILT_WRITE, add, data) } else { no_write };
    let [_, _, read, write] = apply(queue, [no_read, no_write, read, write])?;
    // The last reader of a pipe has gone: the other filter reports that.
    let write = if write == libc::EPIPE && events & IN != 0 { 0 } else { write };
    let Some(errno) = [read, write].into_iter().find(|errno| !matches!(*errno, 0 | libc::ENOENT)) else {
        return Ok(());
    };
    // Half a registration would be an owner's that does not know of it.
    apply(queue, removals(fd))?;
    Err(Error { operation: "kevent", errno })
}

fn removals(fd: RawFd) -> [libc::kevent; 2] {
    [libc::EVFILT_READ, libc::EVFILT_WRITE].map(|filter| change(fd, filter, libc::EV_DELETE, 0))
}

fn change(fd: RawFd, filter: i16, flags: u16, data: u64) -> libc::kevent {
    libc::kevent { ident: fd as libc::uintptr_t, filter, flags, fflags: 0, data: 0, udata: data as *mut libc::c_void }
}

/// Makes changes, in order, and says of each what its `errno` is; 0: none.
fn apply<const N: usize>(queue: RawFd, mut changes: [libc::kevent; N]) -> Result<[i32; N]> {
    for change in &mut changes {
        change.flags |= libc::EV_RECEIPT;
    }
    let mut receipts = changes;
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    attempt("kevent", -1, || {
        // SAFETY: changes and receipts are as many as the call is told, and valid for it, as is the timeout.
        let count = unsafe {
            libc::kevent(
                queue,
                changes.as_ptr(),
                N as libc::c_int,
                receipts.as_mut_ptr(),
                N as libc::c_int,
                &raw const now,
            )
        };
        count as libc::ssize_t
    })?;
    Ok(receipts.map(|receipt| receipt.data as i32))
}
