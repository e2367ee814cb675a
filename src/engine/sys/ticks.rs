//! The processor's own clock, for measuring how long callbacks take.
//!
//! `clock_gettime` costs 23 ns, the processor's counter 10 (AMD EPYC, Linux 6.18); a callback of the fastest programs
//! takes 150. Where the counter is missing, or may stand still, the monotonic clock takes its place. Deadlines are not
//! measured in ticks. Intel SDM volume 3, 19.17.1 (invariant TSC).
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a processor instruction"))]

use std::sync::OnceLock;
use std::time::Duration;

use super::clock::monotonic_ns;

/// Apart enough for the rate to be right to a thousandth: reading both clocks takes about 50 ns.
const CALIBRATION: Duration = Duration::from_micros(50);

/// How ticks become nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct TickRate {
    ns_per_tick: f64,
}

impl TickRate {
    /// The rate of this machine; the first call takes up to 50 µs.
    pub fn of_this_machine() -> Self {
        static RATE: OnceLock<TickRate> = OnceLock::new();
        *RATE.get_or_init(|| {
            if !counter_is_invariant() {
                return Self { ns_per_tick: 1.0 };
            }
            let (ns, start) = both_clocks();
            loop {
                let (later, end) = both_clocks();
                if later - ns >= CALIBRATION.as_nanos() as u64 && end > start {
                    return Self { ns_per_tick: (later - ns) as f64 / (end - start) as f64 };
                }
            }
        })
    }

    pub fn ns(self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }

    pub fn ns_per_tick(self) -> f64 {
        self.ns_per_tick
    }

    /// Ticks in a duration, at least one.
    pub fn ticks_in(self, duration: Duration) -> u64 {
        ((duration.as_nanos() as f64 / self.ns_per_tick) as u64).max(1)
    }
}

/// Nanoseconds and ticks of one moment: of several readings the one that was interrupted least.
fn both_clocks() -> (u64, u64) {
    let reading = || {
        let before = ticks();
        let ns = monotonic_ns();
        let window = ticks().saturating_sub(before);
        (window, ns, before + window / 2)
    };
    let (_, ns, ticks) =
        (0..4).map(|_| reading()).fold(reading(), |best, next| if next.0 < best.0 { next } else { best });
    (ns, ticks)
}

/// Ticks since some moment; they may be a few behind those that another core counts.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if counter_is_invariant() {
        // SAFETY: every x86-64 processor has the instruction, and the systems that we build for allow it.
        return unsafe { core::arch::x86_64::_rdtsc() };
    }
    monotonic_ns()
}

/// Whether the processor's counter runs at one rate, also while the core sleeps, and is to be used: IRONLOOP_TSC=0 in the
/// environment says no.
#[inline]
#[cfg(target_arch = "x86_64")]
fn counter_is_invariant() -> bool {
    static INVARIANT: OnceLock<bool> = OnceLock::new();
    *INVARIANT.get_or_init(|| {
        const POWER_MANAGEMENT: u32 = 0x8000_0007;
        std::env::var_os("IRONLOOP_TSC").is_none_or(|value| value != "0")
            && core::arch::x86_64::__cpuid(0x8000_0000).eax >= POWER_MANAGEMENT
            && core::arch::x86_64::__cpuid(POWER_MANAGEMENT).edx & (1 << 8) != 0
    })
}

#[cfg(not(target_arch = "x86_64"))]
const fn counter_is_invariant() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_of_the_monotonic_clock() {
        let rate = TickRate::of_this_machine();
        let (ns, start) = (monotonic_ns(), ticks());
        while monotonic_ns() - ns < 2_000_000 {}
        let (counted, elapsed) = (ticks() - start, monotonic_ns() - ns);
        let measured = rate.ns(counted);
        // Between the pairs of readings the thread may have been interrupted, which only makes `elapsed` longer.
        assert!(measured <= elapsed + elapsed / 50, "{measured} {elapsed}");
        assert_eq!(rate.ticks_in(Duration::ZERO), 1);
    }
}
