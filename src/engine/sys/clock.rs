//! The monotonic clock, clock_gettime(2).
//!
//! Deadlines and `loop.time()` are read from the same clock as Python's `time.monotonic()`, so that neither is ever
//! early by the other. It stands still while the machine sleeps.
#![expect(unsafe_code, reason = "system calls")]

#[cfg(target_os = "linux")]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
/// CLOCK_MONOTONIC counts in microseconds there, also while the machine sleeps; Python reads mach_absolute_time().
#[cfg(target_os = "macos")]
const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;

/// Nanoseconds of the clock of Python's `time.monotonic()`.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result. The call cannot fail: the clock exists.
    unsafe { libc::clock_gettime(CLOCK, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps for about that many nanoseconds, less than a second; a signal ends it.
pub fn nap(nanoseconds: u64) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds as libc::c_long };
    // SAFETY: `time` is valid, and nobody asks how much of it was left.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::{monotonic_ns, nap};

    #[test]
    fn a_nap_takes_its_time() {
        let start = monotonic_ns();
        nap(10_000);
        assert!(monotonic_ns() >= start + 10_000);
    }

    #[test]
    fn time_does_not_go_backwards() {
        let first = monotonic_ns();
        assert!(first > 0);
        assert!(monotonic_ns() >= first);
    }
}
