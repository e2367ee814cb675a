//! Whether a thread that wakes the loop lets go of the interpreter meanwhile.
//!
//! The loop that is woken wants the interpreter, which the other thread has. If that goes on posting, the loop had better
//! wait and then find all of it. If it has posted once and will wait for an answer, it had better let go at once: else the loop is
//! woken, often on the same core, only to wait until the other thread blocks, too. Nobody knows before; so what the
//! loop finds when it runs decides about the next wakes. No I/O.
//!
//! ```text
//!   keeping --the loop found one entry--> letting go, a number of times --> keeping, to look again
//!           --it found more--> keeping
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

/// A thread that begins to post without end is let run after so many wakes at the most.
const TIMES: u32 = 15;

/// See the module's documentation. Used by whoever has the interpreter.
#[derive(Debug, Default)]
pub struct HandOver {
    /// 0: the last wake was made without letting go; else one more than the wakes that are to let go.
    times: AtomicU32,
}

impl HandOver {
    pub const fn new() -> Self {
        Self { times: AtomicU32::new(0) }
    }

    /// The loop is about to be woken: whether to let go.
    pub fn lets_go(&self) -> bool {
        let times = self.times.load(Ordering::Relaxed).saturating_sub(1);
        self.times.store(times, Ordering::Relaxed);
        times > 0
    }

    /// The loop was woken and has found this many entries.
    pub fn found(&self, entries: usize) {
        match entries {
            // Something else has ended its sleep.
            0 => {}
            1 if self.times.load(Ordering::Relaxed) > 0 => {}
            1 => self.times.store(TIMES + 1, Ordering::Relaxed),
            _ => self.times.store(0, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_posts_once_at_a_time_lets_go_nearly_always() {
        let hand_over = HandOver::new();
        let let_go = (0..160).filter(|_| {
            let lets_go = hand_over.lets_go();
            hand_over.found(1);
            lets_go
        });
        assert!(let_go.count() >= 140);
    }

    #[test]
    fn who_goes_on_posting_is_soon_let_run() {
        let hand_over = HandOver::new();
        let waited = || {
            (0..100).filter(|_| {
                // Who lets go has posted one entry when the loop runs.
                let lets_go = hand_over.lets_go();
                hand_over.found(if lets_go { 1 } else { 10_000 });
                lets_go
            })
        };
        assert_eq!(waited().count(), 0);
        hand_over.found(1);
        assert_eq!(waited().count(), TIMES as usize);
    }
}
