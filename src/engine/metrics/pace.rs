//! How often to look at the clock while callbacks run.
//!
//! Looking costs a tenth of the shortest callback. So callbacks are timed one by one as long as they are long enough for
//! that not to matter, and in groups while they are short; each of a group counts with the mean. After a group with a
//! slow one among them they are timed one by one again.

/// Callbacks that take less than this many nanoseconds are timed in groups.
const SHORT_NS: f64 = 800.0;
/// Callbacks in a group.
pub const GROUP: u32 = 8;

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
}

impl Pace {
    pub fn new(ns_per_tick: f64, now: u64) -> Self {
        Self { short_ticks: (SHORT_NS / ns_per_tick) as u64, last_look: now, callbacks: 0, group: 1 }
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
            self.group = if lap.ticks < self.short_ticks * u64::from(lap.callbacks) { GROUP } else { 1 };
        }
        self.last_look = now;
        self.callbacks = 0;
        lap
    }

    /// Time passed that belongs to no callback: the loop looked for events, or waited, until `now`.
    pub fn skip_to(&mut self, now: u64) {
        self.last_look = now;
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

    #[test]
    fn short_callbacks_are_timed_in_groups() {
        let mut pace = Pace::new(1.0, 0);
        assert!(pace.callback_done());
        pace.look(100);
        for _ in 1..GROUP {
            assert!(!pace.callback_done());
        }
        assert!(pace.callback_done());
        assert_eq!(pace.look(900), Lap { ticks: 800, callbacks: GROUP });
    }

    #[test]
    fn after_a_slow_one_they_are_timed_one_by_one() {
        let mut pace = Pace::new(1.0, 0);
        assert!(pace.callback_done());
        pace.look(100);
        for _ in 1..GROUP {
            assert!(!pace.callback_done());
        }
        pace.look(5_000_000);
        assert!(pace.callback_done());
    }

    #[test]
    fn waiting_is_no_callbacks_time() {
        let mut pace = Pace::new(1.0, 0);
        pace.skip_to(10_000);
        assert!(pace.callback_done());
        assert_eq!(pace.look(12_000), Lap { ticks: 2000, callbacks: 1 });
    }
}
