//! The reactor: which descriptors are ready, and whose they are.
//!
//! The contract, narrow enough that another backend could keep it:
//! * a registration is a descriptor, a token, an interest and a trigger; events carry the token;
//! * `Trigger::Edge`: one event per change, the owner remembers what it has not consumed;
//! * `Trigger::Level`: an event in every wait for as long as the descriptor is ready;
//! * the end of the read side and errors are always reported;
//! * an event may be about a registration that has ended: tokens have generations to tell.
//!
//! The reactor may be waited on by one thread at a time; registering is possible meanwhile.

pub mod registry;
pub mod waker;

use std::os::fd::{AsRawFd, RawFd};

use self::registry::Token;
use self::waker::Waker;
use super::Result;
use super::sys::epoll::{Epoll, EventBuffer};

/// What a registration waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest(u8);

impl Interest {
    pub const NONE: Self = Self(0);
    pub const READ: Self = Self(1);
    pub const WRITE: Self = Self(2);

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// When a ready descriptor is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Edge,
    Level,
}

/// What a descriptor is ready for: the kernel's event mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness(u32);

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const ERR: u32 = libc::EPOLLERR as u32;
const RDHUP: u32 = libc::EPOLLRDHUP as u32;
const ET: u32 = libc::EPOLLET as u32;

impl Readiness {
    pub const READABLE: Self = Self(IN);
    pub const WRITABLE: Self = Self(OUT);

    pub const fn from_epoll(events: u32) -> Self {
        Self(events)
    }

    /// A read will not block: there is data, the end of the stream, or an error.
    pub const fn readable(self) -> bool {
        self.0 & (IN | HUP | ERR | RDHUP) != 0
    }

    /// A write will not block: there is room, or an error.
    pub const fn writable(self) -> bool {
        self.0 & (OUT | HUP | ERR) != 0
    }

    /// The end of the stream, or an error, is behind what can be read.
    pub const fn read_closed(self) -> bool {
        self.0 & (HUP | ERR | RDHUP) != 0
    }
}

/// A reported event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub token: Token,
    pub readiness: Readiness,
}

/// The event at `index`, which is below `buffer.len()`.
pub fn event(buffer: &EventBuffer, index: usize) -> Event {
    let (data, events) = buffer.get(index);
    Event { token: Token::from_u64(data), readiness: Readiness::from_epoll(events) }
}

fn mask(interest: Interest, trigger: Trigger) -> u32 {
    let mut mask = 0;
    if interest.contains(Interest::READ) {
        mask |= IN;
    }
    if interest.contains(Interest::WRITE) {
        mask |= OUT;
    }
    match trigger {
        Trigger::Edge => mask | RDHUP | ET,
        Trigger::Level => mask,
    }
}

/// See the module's documentation.
pub struct Reactor {
    epoll: Epoll,
    waker: Waker,
}

impl Reactor {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        let reactor = Self { epoll: Epoll::new()?, waker: Waker::new()? };
        reactor.register(reactor.waker.as_raw_fd(), Token::WAKER, Interest::READ, Trigger::Edge)?;
        Ok(reactor)
    }

    /// # Errors
    /// EPERM for a file that cannot be polled, EEXIST, EBADF, ENOMEM, ENOSPC.
    pub fn register(&self, fd: RawFd, token: Token, interest: Interest, trigger: Trigger) -> Result<()> {
        self.epoll.add(fd, token.to_u64(), mask(interest, trigger))
    }

    /// Changes a registration.
    ///
    /// # Errors
    /// ENOENT when there is none, EBADF, ENOMEM.
    pub fn reregister(&self, fd: RawFd, token: Token, interest: Interest, trigger: Trigger) -> Result<()> {
        self.epoll.modify(fd, token.to_u64(), mask(interest, trigger))
    }

    /// # Errors
    /// ENOENT when there is none, EBADF.
    pub fn deregister(&self, fd: RawFd) -> Result<()> {
        self.epoll.delete(fd)
    }

    /// Waits for events, up to `timeout_ns`; 0 looks and does not wait, `None` waits for ever.
    ///
    /// # Errors
    /// EINTR: a signal came.
    pub fn wait(&self, buffer: &mut EventBuffer, timeout_ns: Option<u64>) -> Result<usize> {
        self.epoll.wait(buffer, timeout_ns)
    }

    /// Ends a wait from another thread.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl AsRawFd for Reactor {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}
