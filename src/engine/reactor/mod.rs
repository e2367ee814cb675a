//! The reactor: which descriptors are ready, and whose they are.
//!
//! The contract, narrow enough that another backend could keep it:
//! * a registration is a descriptor, a token, an interest and a trigger; events carry the token;
//! * `Trigger::Edge`: one event per change and direction, the owner remembers what it has not consumed;
//! * `Trigger::Level`: an event in every wait for as long as the descriptor is ready;
//! * the end of the read side and errors are reported to every interest;
//! * what can be read and what can be written may come as one event or as two;
//! * an event may be about a registration that has ended: tokens have generations to tell;
//! * after a fork it is the parent's: in the child registrations are left as they are, see `is_inherited`.
//!
//! Kept by `sys::poller`: `epoll`, or `kqueue` on macOS. The reactor may be waited on by one thread at a time;
//! registering is possible meanwhile.

pub mod bulk;
pub mod registry;
pub mod spin;
pub mod waker;

use std::os::fd::{AsRawFd, RawFd};

use self::registry::Token;
use self::waker::Waker;
use super::sys::poller::{EventBuffer, Poller, ERR, ET, HUP, IN, OUT, PRI, RDHUP};
use super::sys::process;
use super::Result;

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

/// See epoll_ctl(2): no event has this number.
const OWN: u32 = 1 << 20;

impl Readiness {
    pub const READABLE: Self = Self(IN);

    /// The owner told itself to go on reading: not from the kernel, whose masks never have this bit.
    pub const READ_ON: Self = Self(IN | OWN);
    /// The owner told itself to go on writing.
    pub const WRITE_ON: Self = Self(OUT | OWN);

    /// Whether the owner queued it itself.
    pub const fn is_own(self) -> bool {
        self.0 & OWN != 0
    }

    pub const fn from_kernel(events: u32) -> Self {
        Self(events & !OWN)
    }

    /// A read will not block: there is data, the end of the stream, or an error.
    pub const fn readable(self) -> bool {
        self.0 & (IN | HUP | ERR | RDHUP) != 0
    }

    /// A write will not block: there is room, or an error.
    pub const fn writable(self) -> bool {
        self.0 & (OUT | HUP | ERR) != 0
    }

    /// Something that no other event will tell of is behind what can be read: the end of the stream, an error, or a place
    /// where reads stop (urgent data, see tcp(7)).
    pub const fn read_closed(self) -> bool {
        self.0 & (HUP | ERR | RDHUP | PRI) != 0
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
    Event { token: Token::from_u64(data), readiness: Readiness::from_kernel(events) }
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
        Trigger::Edge => mask | RDHUP | PRI | ET,
        Trigger::Level => mask,
    }
}

/// See the module's documentation.
pub struct Reactor {
    poller: Poller,
    waker: Waker,
    made_in: u32,
}

impl Reactor {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        let poller = Poller::new()?;
        let waker = Waker::new(&poller)?;
        Ok(Self { poller, waker, made_in: process::generation() })
    }

    /// # Errors
    /// EPERM for a file that cannot be polled, EEXIST, EBADF, ENOMEM, ENOSPC; with kqueue, what it says.
    pub fn register(&self, fd: RawFd, token: Token, interest: Interest, trigger: Trigger) -> Result<()> {
        self.poller.add(fd, token.to_u64(), mask(interest, trigger))
    }

    /// Changes a registration.
    ///
    /// # Errors
    /// ENOENT when there is none, EBADF, ENOMEM.
    pub fn reregister(&self, fd: RawFd, token: Token, interest: Interest, trigger: Trigger) -> Result<()> {
        self.poller.modify(fd, token.to_u64(), mask(interest, trigger))
    }

    /// # Errors
    /// ENOENT when there is none, EBADF.
    pub fn deregister(&self, fd: RawFd) -> Result<()> {
        self.poller.delete(fd)
    }

    /// Whether this process got it by a fork: the parent goes on with the same epoll instance, and what is changed there
    /// changes for both.
    #[inline]
    pub fn is_inherited(&self) -> bool {
        self.made_in != process::current()
    }

    /// Waits for events, up to `timeout_ns`; 0 looks and does not wait, `None` waits for ever.
    ///
    /// # Errors
    /// EINTR: a signal came.
    pub fn wait(&self, buffer: &mut EventBuffer, timeout_ns: Option<u64>) -> Result<usize> {
        self.poller.wait(buffer, timeout_ns)
    }

    /// Ends a wait from another thread.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl AsRawFd for Reactor {
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::registry::Registry;
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    fn ready(reactor: &Reactor, buffer: &mut EventBuffer) -> Vec<(Token, bool, bool, bool)> {
        let count = reactor.wait(buffer, Some(0)).expect("no signal comes");
        let mut seen: Vec<(Token, bool, bool, bool)> = Vec::new();
        for Event { token, readiness } in (0..count).map(|index| event(buffer, index)) {
            let next = (token, readiness.readable(), readiness.writable(), readiness.read_closed());
            match seen.iter_mut().find(|known| known.0 == token) {
                Some(known) => *known = (token, known.1 | next.1, known.2 | next.2, known.3 | next.3),
                None => seen.push(next),
            }
        }
        seen
    }

    #[test]
    fn level_triggered_readiness_is_repeated_and_edges_are_not() {
        let reactor = Reactor::new().expect("descriptors");
        let mut buffer = EventBuffer::with_capacity(8);
        let mut owners = Registry::new();
        for (trigger, repeats) in [(Trigger::Level, true), (Trigger::Edge, false)] {
            let (mut ours, mut peer) = UnixStream::pair().expect("descriptors");
            let token = owners.insert(());
            reactor.register(ours.as_raw_fd(), token, Interest::READ, trigger).expect("registers");
            assert_eq!(ready(&reactor, &mut buffer), []);
            peer.write_all(b"xy").expect("writes");
            assert_eq!(ready(&reactor, &mut buffer), [(token, true, false, false)]);
            ours.read_exact(&mut [0]).expect("reads");
            assert_eq!(ready(&reactor, &mut buffer).len(), usize::from(repeats));
            reactor.deregister(ours.as_raw_fd()).expect("was registered");
            assert_eq!(ready(&reactor, &mut buffer), []);
        }
    }

    #[test]
    fn the_end_of_a_stream_is_announced() {
        let reactor = Reactor::new().expect("descriptors");
        let mut buffer = EventBuffer::with_capacity(8);
        let (ours, peer) = UnixStream::pair().expect("descriptors");
        let token = Registry::new().insert(());
        reactor.register(ours.as_raw_fd(), token, Interest::READ | Interest::WRITE, Trigger::Edge).expect("registers");
        assert_eq!(ready(&reactor, &mut buffer), [(token, false, true, false)]);
        drop(peer);
        assert_eq!(ready(&reactor, &mut buffer), [(token, true, true, true)]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_regular_file_cannot_be_registered() {
        let reactor = Reactor::new().expect("descriptors");
        let file = std::fs::File::open("/proc/self/exe").expect("exists");
        let token = Registry::new().insert(());
        let error = reactor.register(file.as_raw_fd(), token, Interest::READ, Trigger::Level);
        assert_eq!(error.map_err(|error| error.errno), Err(libc::EPERM));
    }

    #[test]
    fn another_thread_ends_a_wait_every_time() {
        let reactor = Arc::new(Reactor::new().expect("descriptors"));
        let mut buffer = EventBuffer::with_capacity(8);
        for _ in 0..3 {
            let other = Arc::clone(&reactor);
            let thread = std::thread::spawn(move || other.waker().wake());
            assert_eq!(reactor.wait(&mut buffer, None), Ok(1));
            assert_eq!(event(&buffer, 0).token, Token::WAKER);
            thread.join().expect("does not panic");
        }
    }

    #[test]
    fn a_wait_lasts_at_least_as_long_as_it_was_told() {
        let reactor = Reactor::new().expect("descriptors");
        let mut buffer = EventBuffer::with_capacity(8);
        for timeout in [1, 1_000, 250_000, 3_000_000] {
            let start = super::super::sys::clock::monotonic_ns();
            assert_eq!(reactor.wait(&mut buffer, Some(timeout)), Ok(0));
            assert!(super::super::sys::clock::monotonic_ns() - start >= timeout);
        }
    }
}
