//! Flow control: when a protocol is told to pause writing, and when to resume.
//!
//! The rules are those of `asyncio.transports._FlowControlMixin`: pause above the high-water mark,
//! resume at the low one or below, each told once.

/// Bytes; asyncio's default high-water mark.
const DEFAULT_HIGH: usize = 64 * 1024;
/// The low-water mark is this part of the high one, unless it is given.
const LOW_PART: usize = 4;

/// Water marks in bytes, and whether the protocol is paused.
#[derive(Debug)]
pub struct FlowControl {
    high: usize,
    low: usize,
    paused: bool,
}

impl Default for FlowControl {
    fn default() -> Self {
        Self::new()
    }
}

impl FlowControl {
    pub const fn new() -> Self {
        Self { high: DEFAULT_HIGH, low: DEFAULT_HIGH / LOW_PART, paused: false }
    }

    /// Sets the marks; what is not given follows from the other one.
    ///
    /// # Errors
    /// The pair (high, low) when high is below low; nothing is changed then.
    pub fn set_limits(&mut self, high: Option<usize>, low: Option<usize>) -> Result<(), (usize, usize)> {
        let high = high.unwrap_or_else(|| low.map_or(DEFAULT_HIGH, |low| low.saturating_mul(LOW_PART)));
        let low = low.unwrap_or(high / LOW_PART);
        if high < low {
            return Err((high, low));
        }
        (self.high, self.low) = (high, low);
        Ok(())
    }

    /// (low, high).
    pub fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    /// The queue has grown to `size` bytes. True: call `pause_writing` now.
    pub fn after_push(&mut self, size: usize) -> bool {
        let pause = !self.paused && size > self.high;
        self.paused |= pause;
        pause
    }

    /// The queue has shrunk to `size` bytes. True: call `resume_writing` now.
    pub fn after_drain(&mut self, size: usize) -> bool {
        let resume = self.paused && size <= self.low;
        self.paused &= !resume;
        resume
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_paused_and_resumed_once() {
        let mut flow = FlowControl::new();
        assert_eq!(flow.limits(), (16 * 1024, 64 * 1024));
        assert!(!flow.after_push(64 * 1024));
        assert!(flow.after_push(64 * 1024 + 1));
        assert!(!flow.after_push(1 << 20));
        assert!(flow.is_paused());
        assert!(!flow.after_drain(16 * 1024 + 1));
        assert!(flow.after_drain(16 * 1024));
        assert!(!flow.after_drain(0));
        assert!(!flow.is_paused());
    }

    #[test]
    fn marks_follow_from_each_other() {
        let mut flow = FlowControl::new();
        for (high, low, limits) in [
            (Some(1000), None, (250, 1000)),
            (None, Some(100), (100, 400)),
            (Some(7), Some(7), (7, 7)),
            (Some(0), None, (0, 0)),
            (None, None, (16 * 1024, 64 * 1024)),
        ] {
            assert_eq!(flow.set_limits(high, low), Ok(()));
            assert_eq!(flow.limits(), limits);
        }
        assert_eq!(flow.set_limits(Some(1), Some(2)), Err((1, 2)));
        assert_eq!(flow.limits(), (16 * 1024, 64 * 1024));
    }

    #[test]
    fn a_queue_at_zero_pauses_with_the_first_byte_when_the_mark_is_zero() {
        let mut flow = FlowControl::new();
        assert_eq!(flow.set_limits(Some(0), None), Ok(()));
        assert!(!flow.after_push(0));
        assert!(flow.after_push(1));
        assert!(flow.after_drain(0));
    }
}
