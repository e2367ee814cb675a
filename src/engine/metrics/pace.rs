//! How often to look at the clock while callbacks run.
//!
//! Looking costs a tenth of the shortest callback. So callbacks are timed one by one as long as they are long enough for
//! that not to matter, and in groups while many short ones follow each other without a wait in between: the shorter they
//! are, the more share a look. After a group with a long one among them, and after each wait, they are timed one by one
//! again.

/// Callbacks that take less than this many nanoseconds are timed in groups.
const SHORT_NS: f64 = 800.0;
/// A group takes about so many nanoseconds, of which looking at the clock is a hundredth.
const GROUP_NS: f64 = 1600.0;
/// No more callbacks in a group than 2 to the power of this: should one be slow, nobody knows which.
const LARGEST_GROUP_LOG2: u32 = 4;
/// So many short ones must have followed each other before they are grouped.
const SHORT_ONES: u32 = 32;

/// What one look at the clock found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lap {
    /// Ticks since the last look.
    pub ticks: u64,
    /// Callbacks since then.
    pub callbacks: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Pace {
    short_ticks: u64,
    group_ticks_log2: u32,
    last_look: u64,
    callbacks: u32,
    group: u32,
    /// Short ones since the last long one or wait, until they are grouped.
    short_ones: u32,
    settled: bool,
}

impl Pace {
    pub fn new(ns_per_tick: f64, now: u64) -> Self {
        Self {
            short_ticks: (SHORT_NS / ns_per_tick) as u64,
            group_ticks_log2: ((GROUP_NS / ns_per_tick) as u64 | 1).ilog2(),
            last_look: now,
            callbacks: 0,
            group: 1,
            short_ones: 0,
            settled: false,
        }
    }

    /// A callback is over: whether the clock is to be looked at.
    #[inline]
    pub fn callback_done(&mut self) -> bool {
        self.callbacks += 1;
        self.callbacks >= self.group
    }

    /// Callbacks are over that no look has counted.
    pub fn is_in_group(&self) -> bool {
        self.callbacks > 0
    }

    /// The time is `now`: what happened since the last look, at least one callback; nothing has since this one.
    #[inline]
    pub fn look(&mut self, now: u64) -> Lap {
        let lap = Lap { ticks: now.saturating_sub(self.last_look), callbacks: self.callbacks };
        if lap.ticks >= self.short_ticks * u64::from(lap.callbacks) {
            self.rest();
        } else if self.short_ones < SHORT_ONES {
            self.short_ones += lap.callbacks;
        } else {
            // In powers of two: a division takes as long as all the rest.
            let each_log2 = (lap.ticks | 1).ilog2().saturating_sub(lap.callbacks.ilog2());
            self.group = 1 << self.group_ticks_log2.saturating_sub(each_log2).min(LARGEST_GROUP_LOG2);
        }
        self.last_look = now;
        self.callbacks = 0;
        lap
    }

    /// When somebody looked last.
    pub fn last_look(&self) -> u64 {
        self.last_look
    }

    /// Whether the callback that was just timed has left nothing to be let go of: until the next one, nothing happens.
    pub fn settle(&mut self, settled: bool) {
        self.settled = settled;
    }

    /// The last look, if nothing that takes time has happened since.
    pub fn settled_at(&self) -> Option<u64> {
        (self.settled && self.callbacks == 0).then_some(self.last_look)
    }

    /// Time passed that belongs to no callback: the loop looked for events until `now`.
    pub fn skip_to(&mut self, now: u64) {
        self.last_look = now;
        self.settled = false;
    }

    /// The loop waits for events.
    pub fn rest(&mut self) {
        self.short_ones = 0;
        self.group = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_callbacks_are_timed_one_by_one() {
        let mut pace = Pace::new(1.0, 0);
        for round in 1..5 {
            assert!(pace.callback_done());
            assert_eq!(pace.look(round * 1000), Lap { ticks: 1000, callbacks: 1 });
        }
    }

    /// Times so many short ones, one by one.
    fn short_ones(pace: &mut Pace) -> u64 {
        for round in 1..=u64::from(SHORT_ONES) {
            assert!(pace.callback_done());
            pace.look(round * 100);
        }
        u64::from(SHORT_ONES) * 100
    }

    /// After so many short ones of 100 ticks, the next look is due when this many are over.
    const GROUP: u32 = 1 << LARGEST_GROUP_LOG2;

    fn finish_group(pace: &mut Pace, callbacks: u32) {
        for _ in 1..callbacks {
            assert!(!pace.callback_done());
        }
        assert!(pace.callback_done());
    }

    #[test]
    fn the_shorter_callbacks_are_the_more_share_a_look() {
        let mut pace = Pace::new(1.0, 0);
        let mut now = short_ones(&mut pace);
        for (each, group) in [(100, 1), (10, GROUP), (100, GROUP), (200, GROUP), (300, 8), (600, 4), (100, 2)] {
            finish_group(&mut pace, group);
            now += each * u64::from(group);
            assert_eq!(pace.look(now), Lap { ticks: each * u64::from(group), callbacks: group });
        }
    }

    #[test]
    fn after_a_long_one_they_are_timed_one_by_one() {
        let mut pace = Pace::new(1.0, 0);
        let now = short_ones(&mut pace);
        assert!(pace.callback_done());
        pace.look(now + 100);
        finish_group(&mut pace, GROUP);
        pace.look(now + 5_000_000);
        assert!(pace.callback_done());
    }

    #[test]
    fn after_a_wait_they_are_timed_one_by_one() {
        let mut pace = Pace::new(1.0, 0);
        let now = short_ones(&mut pace);
        pace.rest();
        pace.skip_to(now + 1_000_000);
        assert!(pace.callback_done());
        assert_eq!(pace.look(now + 1_000_100), Lap { ticks: 100, callbacks: 1 });
    }

    #[test]
    fn a_look_holds_until_something_happens() {
        let mut pace = Pace::new(1.0, 0);
        assert_eq!(pace.settled_at(), None);
        pace.callback_done();
        pace.look(1000);
        assert_eq!(pace.settled_at(), None);
        pace.settle(true);
        assert_eq!(pace.settled_at(), Some(1000));
        pace.callback_done();
        assert_eq!(pace.settled_at(), None);
        pace.settle(true);
        pace.skip_to(2000);
        assert_eq!(pace.settled_at(), None);
    }

    #[test]
    fn looking_for_events_is_no_callbacks_time() {
        let mut pace = Pace::new(1.0, 0);
        pace.skip_to(10_000);
        assert!(pace.callback_done());
        assert_eq!(pace.look(12_000), Lap { ticks: 2000, callbacks: 1 });
    }
}
