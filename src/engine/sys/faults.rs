//! Faults on request: system calls that fail, or do less than they could, by a schedule that a seed repeats.
//!
//! Exists only with the cargo feature `faults`, which releases do not have; without it `instead_of` and `length` are
//! constants, and nothing of them is left in the code. Each thread's calls draw from one sequence of the process.
//!
//! ```text
//!   IRONLOOP_FAULTS="seed=1,rate=0.02,calls=recv+send,errors=EINTR+EAGAIN+short,after=100,most=10"
//!     calls, errors    of these only; all calls, unless named, and EINTR, EAGAIN and short
//!     after, most      not the first 100 calls that could have failed; no more than 10 faults
//! ```
//!
//! Only what a call may do is done to it (`CALLS`). After EAGAIN, or after less than there is, an edge-triggered epoll
//! owes its user an edge when that changes, epoll(7). Nothing has changed after a false one, so the registration is
//! armed again, which makes epoll look anew: a user that waits is woken, a user that does not wait for edges hangs.
#![expect(unsafe_code, reason = "errno")]

use std::collections::{BTreeMap, HashMap};
use std::os::fd::RawFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::file::{self, FileKind};
use super::{poller, socket, system};

const SHORT: &str = "short";
const READ: &[&str] = &["EINTR", "EAGAIN", SHORT, "ENOBUFS", "ENOMEM"];
const WRITE: &[&str] = &["EINTR", "EAGAIN", SHORT, "ENOBUFS", "ENOMEM", "EPIPE"];
const FRESH_DESCRIPTOR: &[&str] = &["EMFILE", "ENFILE", "ENOMEM"];
/// What may happen to which call, from their manual pages.
const CALLS: [(&str, &[&str]); 14] = [
    ("recv", READ),
    ("recvmsg", READ),
    ("read", READ),
    ("send", WRITE),
    ("sendmsg", WRITE),
    ("write", WRITE),
    ("writev", WRITE),
    ("recvmmsg", READ),
    ("sendto", &["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EPIPE"]),
    ("sendmmsg", WRITE),
    ("accept4", &["EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]),
    ("epoll_wait", &["EINTR"]),
    ("epoll_create1", FRESH_DESCRIPTOR),
    ("eventfd", FRESH_DESCRIPTOR),
];
const NUMBERS: [(&str, libc::c_int); 8] = [
    ("EINTR", libc::EINTR),
    ("EAGAIN", libc::EAGAIN),
    ("ENOBUFS", libc::ENOBUFS),
    ("ENOMEM", libc::ENOMEM),
    ("EPIPE", libc::EPIPE),
    ("ECONNABORTED", libc::ECONNABORTED),
    ("EMFILE", libc::EMFILE),
    ("ENFILE", libc::ENFILE),
];
/// May happen to any call: no fault of the kernel's, but a mistake of ours.
const PANIC: &str = "panic";
/// Nobody can tell these from what happens without them.
const HARMLESS: [&str; 3] = ["EINTR", "EAGAIN", SHORT];

/// -1, and `errno` is set: what the call shall answer without being made.
#[inline(always)]
pub fn instead_of(call: &'static str, fd: RawFd) -> Option<libc::ssize_t> {
    if !cfg!(feature = "faults") {
        return None;
    }
    let error = process().draw(call, false)?;
    if error == "EAGAIN" && !may_wait(fd) {
        return None;
    }
    assert!(error != PANIC, "a mistake on request");
    let (_, number) = NUMBERS.iter().find(|(name, _)| *name == error)?;
    if *number == libc::EAGAIN {
        arm_again(fd);
    }
    // SAFETY: the place of the calling thread's own errno.
    unsafe { *system::__errno_location() = *number };
    Some(-1)
}

/// How much of `length` the call shall be told of.
#[inline(always)]
pub fn length(call: &'static str, fd: RawFd, length: usize) -> usize {
    if !cfg!(feature = "faults") || length < 2 || !may_be_cut(call, fd) || process().draw(call, true).is_none() {
        return length;
    }
    process().short.push(fd);
    1 + length / 7
}

/// After a call: if it was told of less than there is, whoever waits for an edge gets one.
#[inline(always)]
pub fn after(fd: RawFd) {
    if cfg!(feature = "faults") {
        let short = {
            let mut process = process();
            let before = process.short.len();
            process.short.retain(|known| *known != fd);
            process.short.len() < before
        };
        if short {
            arm_again(fd);
        }
    }
}

/// A registration was made or changed.
#[inline(always)]
pub fn registered(epoll: RawFd, fd: RawFd, data: u64, events: u32) {
    if cfg!(feature = "faults") {
        process().edges.insert(fd, (epoll, data, events));
    }
}

/// The first part of a message is another message, so streams and pipes only; of a batch it is a smaller batch.
fn may_be_cut(call: &'static str, fd: RawFd) -> bool {
    call.ends_with("mmsg") || socket::is_stream(fd) || file::kind(fd) == Ok(FileKind::Pipe)
}

/// Whether there is somebody who says when it is worth another attempt: nobody does for the null device.
fn may_wait(fd: RawFd) -> bool {
    matches!(file::kind(fd), Ok(FileKind::Pipe | FileKind::Socket))
}

fn arm_again(fd: RawFd) {
    let Some((epoll, data, events)) = process().edges.get(&fd).copied() else { return };
    poller::arm_again(epoll, fd, data, events);
}

/// What is to happen, and what has.
#[derive(Default)]
struct Faults {
    seed: u64,
    /// Of 2^64.
    rate: u64,
    calls: Vec<String>,
    errors: Vec<String>,
    after: u64,
    most: u64,
    asked: u64,
    made: u64,
    counts: BTreeMap<String, u64>,
    /// Registrations by descriptor: epoll, data, events.
    edges: HashMap<RawFd, (RawFd, u64, u32)>,
    /// Descriptors of calls under way that were told of less than there is.
    short: Vec<RawFd>,
}

fn process() -> std::sync::MutexGuard<'static, Faults> {
    static FAULTS: OnceLock<Mutex<Faults>> = OnceLock::new();
    let faults = FAULTS.get_or_init(|| {
        let mut faults = Faults::default();
        if let Ok(text) = std::env::var("IRONLOOP_FAULTS") {
            if let Err(error) = faults.read(&text) {
                eprintln!("IRONLOOP_FAULTS is not understood: {error}");
                std::process::abort();
            }
        }
        Mutex::new(faults)
    });
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on as `text` says, see the module's documentation; "" ends all faults.
///
/// # Errors
/// The part that is not understood; nothing has changed then.
pub fn set(text: &str) -> Result<(), String> {
    process().read(text)
}

/// How often what was done to which call since `set`, as ("recv EINTR", 5).
pub fn counts() -> Vec<(String, u64)> {
    process().counts.iter().map(|(fault, count)| (fault.clone(), *count)).collect()
}

impl Faults {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let errors = || CALLS.iter().flat_map(|(_, errors)| errors.iter().copied());
        let mut new = Self { most: u64::MAX, errors: HARMLESS.map(str::to_owned).to_vec(), ..Self::default() };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || part.to_owned();
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let number = || value.parse::<u64>().map_err(|_| wrong());
            let list = |known: &dyn Fn(&str) -> bool| {
                let names: Vec<String> = value.split('+').map(str::to_owned).collect();
                names.iter().all(|name| known(name)).then_some(names).ok_or_else(wrong)
            };
            match key {
                "seed" => new.seed = number()?,
                // Saturates: 1 is always.
                "rate" => new.rate = (value.parse::<f64>().map_err(|_| wrong())? * 2_f64.powi(64)) as u64,
                "calls" => new.calls = list(&|name| CALLS.iter().any(|(call, _)| *call == name))?,
                "errors" => new.errors = list(&|name| name == PANIC || errors().any(|known| known == name))?,
                "after" => new.after = number()?,
                "most" => new.most = number()?,
                _ => return Err(wrong()),
            }
        }
        new.edges = std::mem::take(&mut self.edges);
        *self = new;
        Ok(())
    }

    /// What happens to this call, if anything does: to be cut (`short`), or an error.
    fn draw(&mut self, call: &'static str, short: bool) -> Option<&'static str> {
        if self.rate == 0 || !(self.calls.is_empty() || self.calls.iter().any(|name| name == call)) {
            return None;
        }
        let (_, all) = CALLS.iter().find(|(name, _)| *name == call)?;
        let wanted = |error: &&&str| (**error == SHORT) == short && self.errors.iter().any(|name| name == **error);
        let possible: Vec<&'static str> = all.iter().chain(&[PANIC]).filter(wanted).copied().collect();
        if possible.is_empty() {
            return None;
        }
        self.asked += 1;
        let random = mixed(self.seed ^ mixed(self.asked));
        if self.asked <= self.after || self.made >= self.most || random > self.rate {
            return None;
        }
        self.made += 1;
        let error = possible[(mixed(random) % possible.len() as u64) as usize];
        *self.counts.entry(format!("{call} {error}")).or_default() += 1;
        Some(error)
    }
}

/// A number in which every bit depends on every bit of `number` (the finisher of SplitMix64, Steele and others, 2014).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, times: usize) -> Vec<Option<&'static str>> {
        let mut faults = Faults::default();
        faults.read(text).expect("is understood");
        (0..times).map(|_| faults.draw("send", false)).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_faults() {
        let first = drawn("seed=1,rate=0.25", 400);
        assert_eq!(first, drawn("seed=1,rate=0.25", 400));
        assert_ne!(first, drawn("seed=2,rate=0.25", 400));
        let made = first.iter().flatten().count();
        assert!((50..150).contains(&made), "{made} of 400");
        assert!(first.iter().flatten().all(|error| ["EINTR", "EAGAIN"].contains(error)));
    }

    #[test]
    fn faults_begin_and_end_where_they_are_told() {
        let all = drawn("rate=1,errors=EPIPE,after=2,most=3", 7);
        assert_eq!(all, [None, None, Some("EPIPE"), Some("EPIPE"), Some("EPIPE"), None, None]);
        assert_eq!(drawn("rate=1,calls=recv", 3), [None; 3]);
        assert_eq!(drawn("rate=1,errors=EMFILE", 3), [None; 3]);
        assert_eq!(drawn("", 3), [None; 3]);
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        let mut faults = Faults::default();
        faults.read("rate=1,errors=EPIPE").expect("is understood");
        for wrong in ["rate", "rate=x", "calls=open", "errors=EPERM", "colour=red"] {
            assert_eq!(faults.read(wrong), Err(wrong.to_owned()));
        }
        assert_eq!(faults.draw("send", false), Some("EPIPE"));
        assert_eq!(faults.draw("send", true), None);
    }
}
