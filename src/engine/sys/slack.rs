//! The timer slack of the calling thread, prctl(2): by how much the kernel may put off the end of a wait.
//!
//! Usually it is 50 microseconds, half of a sleep of 100. It belongs to the thread, and what the thread forks inherits it;
//! so it is shortened for the length of one wait, in which this thread runs nothing else, and put back.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::c_ulong;

/// What is as short as that is late by less than a microsecond more than it has to be.
const SHORTEST_NS: c_ulong = 1;

/// The slack is as short as can be until this is dropped.
pub struct ShortSlack {
    before_ns: Option<c_ulong>,
}

impl ShortSlack {
    /// Where prctl is not allowed, nothing changes.
    pub fn new() -> Self {
        // SAFETY: takes no pointers.
        let before_ns = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        let before_ns = c_ulong::try_from(before_ns).ok().filter(|&before_ns| before_ns > SHORTEST_NS);
        if before_ns.is_some() {
            set(SHORTEST_NS);
        }
        Self { before_ns }
    }
}

impl Drop for ShortSlack {
    fn drop(&mut self) {
        if let Some(before_ns) = self.before_ns {
            set(before_ns);
        }
    }
}

fn set(slack_ns: c_ulong) {
    // SAFETY: takes no pointers. If it fails, the slack is what it was.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slack_ns() -> c_ulong {
        // SAFETY: takes no pointers.
        c_ulong::try_from(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }).expect("the kernel has it")
    }

    #[test]
    fn the_slack_is_put_back() {
        set(40_000);
        let short = ShortSlack::new();
        assert_eq!(slack_ns(), SHORTEST_NS);
        drop(short);
        assert_eq!(slack_ns(), 40_000);
    }
}
