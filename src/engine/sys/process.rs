//! Which process this is: forks are counted, in the child.
//!
//! What fork(2) copies goes on sharing with the parent whatever lies behind its descriptors, such as an epoll instance.
//! Who owns such a thing keeps the number of the generation it was made in, and one comparison tells whether this
//! process has inherited it. Children by vfork(2) run no code of ours, and are not counted.
#![expect(unsafe_code, reason = "pthread_atfork(3)")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Once;

/// Forks between the first process that has asked and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);
static COUNTING: Once = Once::new();

/// The number of this generation of processes; forks are counted from the first call on.
pub fn generation() -> u32 {
    COUNTING.call_once(|| {
        // SAFETY: `count` is a function for as long as the process lives, and does nothing that a child must not. It fails
        // for lack of memory only; then children are taken for their parents, as they are without it.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    });
    current()
}

/// As `generation()`, for who has called that before.
#[inline]
pub fn current() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Runs in the child, before fork(2) returns.
extern "C" fn count() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_knows_that_it_is_another_process() {
        let before = generation();
        // SAFETY: the child calls nothing but what a child of a process with threads may.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let counted = libc::c_int::from(current() == before + 1);
            // SAFETY: has no preconditions.
            unsafe { libc::_exit(counted) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((reaped, libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (child, true, 1));
        assert_eq!(generation(), before);
    }
}
