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

    /// What tells it from all others, whatever their numbers; `None` before Linux 5.2, and without procfs.
    pub fn identity(&self) -> Option<u64> {
        identity(self.as_raw_fd())
    }

    /// Another one in the place of one that came by a fork, which nobody uses any more, nor closes: under its number, unless
    /// the child has closed it and has something else under that number by now.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn in_place_of(inherited: RawFd, known: Option<u64>) -> Result<Self> {
        let new = Self::new()?;
        if known.is_none() || identity(inherited) != known {
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

/// The number that the kernel has given to an eventfd, proc_pid_fdinfo(5); `None` for what is none.
fn identity(fd: RawFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("eventfd-id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    /// One of which nothing is left but what a child inherits: a number that is open.
    fn inherited() -> (RawFd, Option<u64>) {
        let signal = EventFd::new().expect("descriptors");
        let identity = signal.identity();
        assert!(identity.is_some(), "Linux 5.2 or later, with procfs");
        (signal.0.into_raw_fd(), identity)
    }

    #[test]
    fn one_in_place_of_another_has_its_number_and_is_another() {
        let (number, identity) = inherited();
        let own = EventFd::in_place_of(number, identity).expect("descriptors");
        assert_eq!(own.as_raw_fd(), number);
        assert!(own.identity().is_some() && own.identity() != identity);
    }

    #[test]
    fn what_has_the_number_now_stays() {
        let (number, identity) = inherited();
        let mut file = File::open("/proc/self/exe").expect("exists");
        // SAFETY: have no preconditions; the number is that of `inherited`.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
        // SAFETY: as above, a copy of `file`'s.
        let mut copy = unsafe { File::from_raw_fd(number) };
        let own = EventFd::in_place_of(number, identity).expect("descriptors");
        assert_ne!(own.as_raw_fd(), number);
        let mut magic = [0; 4];
        copy.read_exact(&mut magic).expect("the file is there");
        assert_eq!(&magic, b"\x7fELF");
        file.read_exact(&mut magic).expect("the file is there");
    }

    #[test]
    fn another_eventfd_of_that_number_stays() {
        let (number, identity) = inherited();
        let other = EventFd::new().expect("descriptors");
        // SAFETY: have no preconditions; the number is that of `inherited`.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        // SAFETY: as above, a copy of `other`'s.
        let copy = EventFd(unsafe { OwnedFd::from_raw_fd(number) });
        let own = EventFd::in_place_of(number, identity).expect("descriptors");
        assert_ne!(own.as_raw_fd(), number);
        assert_eq!(copy.identity(), other.identity());
    }

    #[test]
    fn of_an_unknown_one_the_number_is_left_alone() {
        let (number, identity) = inherited();
        let own = EventFd::in_place_of(number, None).expect("descriptors");
        assert_ne!(own.as_raw_fd(), number);
        assert_eq!(super::identity(number), identity);
        // SAFETY: the number is that of `inherited`.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}
