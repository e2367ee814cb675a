//! epoll(7), with timeouts in nanoseconds where the kernel has epoll_pwait2(2) (Linux 5.11).
//!
//! Elsewhere, and under seccomp filters that do not know the call, timeouts are rounded up to milliseconds: a wait may
//! be longer than it was told, never shorter.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::eventfd::EventFd;
use super::events::Events;
use super::slack::ShortSlack;
use super::{attempt, check, faults, Error, Result};

/// The masks of registrations and events.
pub const IN: u32 = libc::EPOLLIN as u32;
pub const PRI: u32 = libc::EPOLLPRI as u32;
pub const OUT: u32 = libc::EPOLLOUT as u32;
pub const ERR: u32 = libc::EPOLLERR as u32;
pub const HUP: u32 = libc::EPOLLHUP as u32;
pub const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub const ET: u32 = libc::EPOLLET as u32;

/// epoll_pwait2 answered ENOSYS (an old kernel) or EPERM (a seccomp filter): wait in milliseconds.
static PWAIT2_MISSING: AtomicBool = AtomicBool::new(false);

/// Waits that are shorter than this end on time, as far as the kernel can. It costs three system calls, and with longer ones the default
/// slack of 50 us is not worth that; from 50 ms on the kernel adds a thousandth of its own
/// (`select_estimate_accuracy` in fs/select.c).
const PRECISE_BELOW_NS: u64 = 20_000_000;

/// Where a wait puts its events.
pub type EventBuffer = Events<libc::epoll_event>;

impl EventBuffer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self::filled_with(libc::epoll_event { events: 0, u64: 0 }, capacity)
    }

    /// The data given at registration, and the kernel's event mask.
    ///
    /// # Panics
    /// When `index` is not below `len()`.
    pub fn get(&self, index: usize) -> (u64, u32) {
        let event = self.memory[..self.length][index];
        (event.u64, event.events)
    }
}

/// An epoll instance.
pub struct Poller(OwnedFd);

impl Poller {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        // SAFETY: has no preconditions.
        let fd = attempt("epoll_create1", -1, || unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as libc::ssize_t)?;
        // SAFETY: a fresh descriptor, which is a small number, that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// # Errors
    /// EBADF, EEXIST, ENOMEM, ENOSPC, EPERM (a file that cannot be polled).
    pub fn add(&self, fd: RawFd, data: u64, events: u32) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, data, events)
    }

    /// # Errors
    /// EBADF, ENOENT, ENOMEM.
    pub fn modify(&self, fd: RawFd, data: u64, events: u32) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, data, events)
    }

    /// # Errors
    /// EBADF, ENOENT.
    pub fn delete(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, data: u64, events: u32) -> Result<()> {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: `event` is valid for the call; the kernel checks the descriptors.
        check("epoll_ctl", unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) })?;
        faults::registered(self.0.as_raw_fd(), fd, data, events);
        Ok(())
    }

    /// What ends a wait from another thread, each time; its events carry `data`.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn signal(&self, data: u64) -> Result<Signal> {
        let signal = EventFd::new()?;
        self.add(signal.as_raw_fd(), data, IN | ET)?;
        Ok(signal)
    }

    /// Waits up to `timeout_ns`; 0 looks and does not wait, `None` waits for ever.
    ///
    /// # Errors
    /// EINTR: a signal came.
    pub fn wait(&self, buffer: &mut EventBuffer, timeout_ns: Option<u64>) -> Result<usize> {
        buffer.length = 0;
        let result = match timeout_ns {
            // Does not sleep, so no signal interrupts it.
            Some(0) => self.wait_ms(buffer, 0),
            _ if faults::instead_of("epoll_wait", -1).is_some() => -1,
            None => self.wait_ms(buffer, -1),
            Some(nanoseconds) => self.wait_ns(buffer, nanoseconds),
        };
        let count = check("epoll_wait", result)?;
        buffer.length = usize::try_from(count).unwrap_or_default();
        Ok(buffer.length)
    }

    fn wait_ns(&self, buffer: &mut EventBuffer, nanoseconds: u64) -> libc::c_int {
        if !PWAIT2_MISSING.load(Ordering::Relaxed) {
            let timeout = libc::timespec {
                tv_sec: libc::time_t::try_from(nanoseconds / 1_000_000_000).unwrap_or(libc::time_t::MAX),
                tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
            };
            let slack = (nanoseconds < PRECISE_BELOW_NS).then(ShortSlack::new);
            // SAFETY: the buffer has room for as many events as the call is told; the timeout is valid for
            // the call; no signal mask is given.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.0.as_raw_fd(),
                    buffer.memory.as_mut_ptr(),
                    buffer.memory.len() as libc::c_int,
                    &raw const timeout,
                    std::ptr::null::<libc::sigset_t>(),
                    0,
                )
            };
            let missing = result < 0 && matches!(Error::last("epoll_pwait2").errno, libc::ENOSYS | libc::EPERM);
            drop(slack);
            if !missing {
                return result as libc::c_int;
            }
            PWAIT2_MISSING.store(true, Ordering::Relaxed);
        }
        // Rounded up: never early.
        let milliseconds = nanoseconds.div_ceil(1_000_000);
        self.wait_ms(buffer, libc::c_int::try_from(milliseconds).unwrap_or(libc::c_int::MAX))
    }

    fn wait_ms(&self, buffer: &mut EventBuffer, milliseconds: libc::c_int) -> libc::c_int {
        // SAFETY: the buffer has room for as many events as the call is told.
        unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                buffer.memory.as_mut_ptr(),
                buffer.memory.len() as libc::c_int,
                milliseconds,
            )
        }
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// See `Poller::signal`.
pub type Signal = EventFd;

/// Has edge-triggered registrations report once more what is ready.
pub fn arm_again(epoll: RawFd, fd: RawFd, data: u64, events: u32) {
    if events & ET != 0 {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: the event is valid for the call. ENOENT and EBADF, if the descriptor is another one by now, are as well.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_MOD, fd, &raw mut event) };
    }
}
