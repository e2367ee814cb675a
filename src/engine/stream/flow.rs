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
