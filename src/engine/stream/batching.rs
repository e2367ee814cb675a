//! Whether what the callbacks of a turn write leaves at the end of the turn, all of it in a row.
//!
//! A peer on the same machine that waits for an answer is woken by it, and sleeps again when the next answer comes some ten
//! microseconds later: each wake costs the sender two to ten microseconds, most on a virtual machine. Answers in a row
//! find it awake. Where there is little to do for each this saves nothing, and memory is colder by the end of the turn; where
//! there is much, or a callback was slow lately, an answer would wait too long for what has nothing to do with it.
//!
//! ```text
//!   apart --most turns with several writes take twelve microseconds or more for each--> together
//!         <--less, or much more, or a slow callback------------------------------------
//! ```
//!
//! Knows times in ticks, and nothing of transports.

/// A turn takes so long for each of its writes, in nanoseconds, when they begin to leave together; while they do; and at the most.
const APART_NS: u64 = 12_000;
const STILL_APART_NS: u64 = 9_000;
const FAR_APART_NS: u64 = 100_000;
/// What is written waits so long at the most, and for the callback that runs then and the next one.
const LONGEST_WAIT_NS: u64 = 250_000;
/// Each turn with several writes is a vote for it, or two against it; at so many they begin to leave together, and below so
/// many they do not any more. No more are counted than this, and a slow callback takes away as many as that.
const ENOUGH: u32 = 32;
const STILL_ENOUGH: u32 = 16;
const MOST: u32 = 40;
const SLOW: u32 = 16;

/// See the module's documentation.
#[derive(Debug)]
pub struct Batching {
    /// The constants above, in ticks.
    apart: u64,
    still_apart: u64,
    far_apart: u64,
    longest_wait: u64,
    votes: u32,
    together: bool,
    waiting_since: Option<u64>,
}

impl Batching {
    pub fn new(ns_per_tick: f64) -> Self {
        let ticks = |ns: u64| (ns as f64 / ns_per_tick) as u64;
        Self {
            apart: ticks(APART_NS),
            still_apart: ticks(STILL_APART_NS),
            far_apart: ticks(FAR_APART_NS),
            longest_wait: ticks(LONGEST_WAIT_NS),
            votes: 0,
            together: false,
            waiting_since: None,
        }
    }

    /// The loop looks for events again after `ticks`, in which there were several writes; whether those that come now are to wait.
    pub fn turn(&mut self, ticks: u64, writes: u64) -> bool {
        let each = ticks / writes.max(1);
        let apart = if self.together { self.still_apart } else { self.apart };
        if (apart..=self.far_apart).contains(&each) {
            self.votes = (self.votes + 1).min(MOST);
        } else {
            self.votes = self.votes.saturating_sub(2);
        }
        self.together = self.votes >= if self.together { STILL_ENOUGH } else { ENOUGH };
        self.together
    }

    /// A callback was slow: nothing waits now.
    pub fn slow(&mut self) {
        self.votes = self.votes.saturating_sub(SLOW);
        self.together = false;
    }

    /// Something waits, and it is `now`; true: it has waited for long enough.
    pub fn is_due(&mut self, now: u64) -> bool {
        let since = *self.waiting_since.get_or_insert(now);
        now.saturating_sub(since) > self.longest_wait
    }

    /// What was written has left.
    pub fn left(&mut self) {
        self.waiting_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of ten writes; whether the next ones wait.
    fn turns(batching: &mut Batching, count: u32, each_ns: u64) -> bool {
        (0..count).fold(false, |_, _| batching.turn(10 * each_ns, 10))
    }

    #[test]
    fn writes_that_are_apart_wait_after_a_while() {
        let mut batching = Batching::new(1.0);
        assert!(!turns(&mut batching, ENOUGH - 1, 20_000));
        assert!(turns(&mut batching, 100, 20_000));
        assert!(turns(&mut batching, 100, 10_000), "a little less is enough to go on");
        assert!(turns(&mut batching, 10, 8_000), "a few turns are not");
        assert!(!turns(&mut batching, 20, 8_000));
        assert!(!turns(&mut batching, 100, 10_000));
        assert!(!turns(&mut batching, 100, 200_000));
    }

    #[test]
    fn turns_that_were_interrupted_decide_nothing() {
        let mut batching = Batching::new(1.0);
        for _ in 0..100 {
            assert!(!turns(&mut batching, 1, 50_000));
            assert!(!turns(&mut batching, 2, 4_000));
        }
    }

    #[test]
    fn after_a_slow_callback_nothing_waits_for_a_while() {
        let mut batching = Batching::new(1.0);
        assert!(turns(&mut batching, 100, 20_000));
        batching.slow();
        assert!(!turns(&mut batching, ENOUGH - (MOST - SLOW) - 1, 20_000));
        assert!(turns(&mut batching, 1, 20_000));
    }

    #[test]
    fn the_longest_wait_counts_from_the_first_look() {
        let mut batching = Batching::new(2.0);
        assert!(!batching.is_due(0));
        assert!(!batching.is_due(LONGEST_WAIT_NS / 2));
        assert!(batching.is_due(LONGEST_WAIT_NS / 2 + 1));
        batching.left();
        assert!(!batching.is_due(LONGEST_WAIT_NS));
    }
}
