//! Whether to look for events for a moment before the thread blocks.
//!
//! To be woken costs more than many a callback, so a loop whose events come at once is better off asking again and again.
//! One whose events come later only burns its core, or the one that the other side needs to run on. No I/O, and no clock:
//! whoever waits says how the wait went.
//!
//! ```text
//!   blocking --`due_in` short waits in a row--> spinning (on probation: credit for one miss)
//!   spinning --hit: credit grows--> spinning --miss: pays--> ... --no credit left--> blocking, twice as long as before
//! ```
//!
//! What hits earn bounds what misses may cost; what probing costs shrinks with every probe that fails.
//!
//! It is for a loop that waits for the answer of somebody who waits for it: a connection or two, and what is behind them.
//! Where many take turns (`Recent`), one is busy while another waits, nobody becomes faster by a loop that spins, and its
//! core is better left to others: such an event counts as a miss.

/// How many times the limit a wait of a blocked thread may last and still suggest that spinning would have met the event:
/// the time it takes to be woken is in it, and may be longer than the limit.
const SHORT: u64 = 4;
/// Short waits in a row until spinning is tried for the first time, and at the most after it has failed.
const FIRST_PROBE: u32 = 16;
const LAST_PROBE: u32 = 16 * 1024;
/// Hits that pay for one miss: being woken costs about this part of the default limit.
const HITS_PER_MISS: u64 = 8;
/// Misses in a row that a long series of hits pays for.
const MOST_CREDIT: u64 = 4;
/// Hits in a row after which a failure is the first one again.
const FORGIVING: u32 = 256;

/// See the module's documentation. Times are in nanoseconds; the limit is how long to spin.
#[derive(Debug)]
pub struct Spin {
    /// What misses may still cost, in eighths of the limit (`HITS_PER_MISS`); 0: block at once.
    credit: u64,
    due_in: u32,
    /// What `due_in` was last set to.
    backoff: u32,
    hits: u32,
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

impl Spin {
    pub const fn new() -> Self {
        Self { credit: 0, due_in: FIRST_PROBE, backoff: FIRST_PROBE, hits: 0 }
    }

    /// Whether to spin before the next wait.
    #[inline]
    pub fn is_worthwhile(&self) -> bool {
        self.credit > 0
    }

    /// The thread was blocked for `waited` until an event came; `None`: until something else ended the wait.
    pub fn blocked(&mut self, waited: Option<u64>, limit: u64) {
        if self.credit > 0 {
            // A miss that was paid for already, followed by the wait for the event itself.
            return;
        }
        if waited.is_none_or(|waited| waited > limit.saturating_mul(SHORT)) {
            self.due_in = self.backoff;
            return;
        }
        self.due_in = self.due_in.saturating_sub(1);
        if self.due_in == 0 {
            self.credit = HITS_PER_MISS;
            self.hits = 0;
        }
    }

    /// An event came while the thread was spinning.
    #[inline]
    pub fn hit(&mut self) {
        self.credit = (self.credit + 1).min(MOST_CREDIT * HITS_PER_MISS);
        self.hits = self.hits.saturating_add(1);
        if self.hits == FORGIVING {
            self.backoff = FIRST_PROBE;
        }
    }

    /// No event came in time.
    pub fn miss(&mut self) {
        self.hits = 0;
        self.credit = self.credit.saturating_sub(HITS_PER_MISS);
        if self.credit < HITS_PER_MISS {
            self.credit = 0;
            self.backoff = self.backoff.saturating_mul(2).min(LAST_PROBE);
            self.due_in = self.backoff;
        }
    }
}

/// How many descriptors may take turns with each other until they are a crowd.
const FEW: usize = 4;

/// The slots of the descriptors whose events ended the last waits, the latest first.
#[derive(Debug)]
pub struct Recent([u32; FEW]);

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

impl Recent {
    pub const fn new() -> Self {
        Self([u32::MAX; FEW])
    }

    /// Remembers the slot; whether it was one of the last few.
    pub fn knew(&mut self, slot: u32) -> bool {
        let place = self.0.iter().position(|&recent| recent == slot);
        self.0[..=place.unwrap_or(FEW - 1)].rotate_right(1);
        self.0[0] = slot;
        place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 50_000;

    /// Lets a spin live through waits: event after event, each so long after the wait began. Returns what was wasted.
    fn wasted(spin: &mut Spin, waits: impl Iterator<Item = u64>) -> u64 {
        let mut wasted = 0;
        for wait in waits {
            if !spin.is_worthwhile() {
                spin.blocked(Some(wait), LIMIT);
            } else if wait <= LIMIT {
                spin.hit();
            } else {
                spin.miss();
                wasted += LIMIT;
                spin.blocked(Some(wait - LIMIT), LIMIT);
            }
        }
        wasted
    }

    #[test]
    fn a_loop_whose_events_come_at_once_soon_spins_and_goes_on() {
        let mut spin = Spin::new();
        assert!(!spin.is_worthwhile());
        assert_eq!(wasted(&mut spin, std::iter::repeat_n(LIMIT, 1000)), 0);
        assert!(spin.is_worthwhile());
        // Now and then one is late.
        assert_eq!(wasted(&mut spin, (0..1000).map(|n| if n % 20 == 19 { 10 * LIMIT } else { 10_000 })), 50 * LIMIT);
        assert!(spin.is_worthwhile());
    }

    #[test]
    fn a_loop_with_little_to_do_never_spins() {
        let mut spin = Spin::new();
        assert_eq!(wasted(&mut spin, std::iter::repeat_n(10_000_000, 1000)), 0);
        // Nor one whose events come in pairs, or are timeouts.
        assert_eq!(wasted(&mut spin, (0..1000).map(|n| if n % 2 == 0 { 10_000_000 } else { 1_000 })), 0);
        for _ in 0..1000 {
            spin.blocked(None, LIMIT);
        }
        assert!(!spin.is_worthwhile());
    }

    #[test]
    fn the_end_of_a_busy_time_costs_a_few_misses() {
        let mut spin = Spin::new();
        wasted(&mut spin, std::iter::repeat_n(1_000, 10_000));
        assert!(wasted(&mut spin, std::iter::repeat_n(10_000_000, 1000)) <= MOST_CREDIT * LIMIT);
        assert!(!spin.is_worthwhile());
    }

    #[test]
    fn events_that_come_only_to_those_who_block_are_probed_for_less_and_less() {
        // The other side runs on our core: blocked, we get its answer at once; spinning, never.
        let mut spin = Spin::new();
        let (mut probes, mut waits) = (0, 0);
        while waits < 1_000_000 {
            waits += 1;
            if spin.is_worthwhile() {
                spin.miss();
                probes += 1;
            }
            spin.blocked(Some(20_000), LIMIT);
        }
        assert!((10..100).contains(&probes), "{probes}");
    }

    #[test]
    fn a_few_descriptors_are_known_and_a_crowd_is_not() {
        let known = |slots: u32| {
            let mut recent = Recent::new();
            (0..1000).filter(|n| recent.knew(n % slots)).count()
        };
        for slots in 1..=4 {
            assert_eq!(known(slots), 1000 - slots as usize);
        }
        assert_eq!(known(5), 0);
        // A stranger now and then takes the place of the one that was silent for longest.
        let mut recent = Recent::new();
        let strangers = (0..1000).filter(|n| !recent.knew(if n % 50 == 49 { 1000 + n } else { n % 2 })).count();
        assert_eq!(strangers, 2 + 20);
    }

    #[test]
    fn misses_never_cost_more_than_hits_have_earned() {
        for every in [2, 3, 5, 8, 9, 10, 20] {
            let mut spin = Spin::new();
            let count = 100_000;
            let wasted = wasted(&mut spin, (0..count).map(|n| if n % every == 0 { 100_000 } else { 1_000 }));
            assert!(wasted <= count / HITS_PER_MISS * LIMIT + 100 * LIMIT, "{every}: {wasted}");
        }
    }
}
