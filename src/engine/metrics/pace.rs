//! How often to look at the clock while callbacks run.
//!
//! Looking costs a tenth of the shortest callback. So callbacks are timed one by one as long as they are long enough for
//! that not to matter, and in groups while many short ones follow each other without a wait in between; each of a group
//! counts with the mean. After a group with a slow one among them, and after each wait, they are timed one by one again.

/// Callbacks that take less than this many nanoseconds are timed in groups.
const SHORT_NS: f64 = 800.0;
/// Callbacks in a group.
const GROUP: u32 = 8;
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
    last_look: u64,
    callbacks: u32,
    group: u32,
    /// Short ones since the last long one or wait, while they are timed one by one.
    short_ones: u32,
    settled: bool,
}

impl Pace {
    pub fn new(ns_per_tick: f64, now: u64) -> Self {
        Self {
            short_ticks: (SHORT_NS / ns_per_tick) as u64,
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

    /// The time is `now`: what happened since the last look, and nothing has since this one.
    #[inline]
    pub fn look(&mut self, now: u64) -> Lap {
        let lap = Lap { ticks: now.saturating_sub(self.last_look), callbacks: self.callbacks };
        if lap.callbacks > 0 {
            if lap.ticks >= self.short_ticks * u64::from(lap.callbacks) {
                self.rest();
            } else if self.group == 1 {
                self.short_ones += lap.callbacks;
                if self.short_ones >= SHORT_ONES {
                    self.group = GROUP;
                }
            }
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

    #[test]
    fn many_short_callbacks_are_timed_in_groups() {
        let mut pace = Pace::new(1.0, 0);
        let now = short_ones(&mut pace);
        for _ in 1..GROUP {
            assert!(!pace.callback_done());
        }
        assert!(pace.callback_done());
        assert_eq!(pace.look(now + 800), Lap { ticks: 800, callbacks: GROUP });
    }

    #[test]
    fn after_a_slow_one_they_are_timed_one_by_one() {
        let mut pace = Pace::new(1.0, 0);
        short_ones(&mut pace);
        for _ in 1..GROUP {
            assert!(!pace.callback_done());
        }
        pace.look(5_000_000);
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
