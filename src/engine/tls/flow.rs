//! Water marks of a TLS connection: when the protocol, or the connection below, is told to pause and to resume.
//!
//! The rules are those of `asyncio.sslproto`, where a size *at* the high mark pauses; plain transports pause above it
//! (`engine::stream::flow`).

/// Bytes; what is encrypted or waits for it (`constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE`).
pub const WRITE_HIGH: usize = 512 * 1024;
/// Bytes; ciphertext received while the protocol does not read (`constants.FLOW_CONTROL_HIGH_WATER_SSL_READ`).
pub const READ_HIGH: usize = 256 * 1024;
/// The low mark is this part of the high one, unless it is given.
const LOW_PART: usize = 4;

/// What a new size asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowAction {
    Nothing,
    Pause,
    Resume,
}

/// A pair of marks in bytes, and whether whoever fills the buffer is paused.
#[derive(Debug)]
pub struct Marks {
    default_high: usize,
    high: usize,
    low: usize,
    paused: bool,
}

impl Marks {
    pub const fn new(default_high: usize) -> Self {
        Self { default_high, high: default_high, low: default_high / LOW_PART, paused: false }
    }

    /// Sets the marks; what is not given follows from the other one.
    ///
    /// # Errors
    /// The pair (high, low) unless high >= low >= 0; nothing is changed then.
    pub fn set_limits(&mut self, high: Option<i64>, low: Option<i64>) -> Result<(), (i64, i64)> {
        let default_high = i64::try_from(self.default_high).unwrap_or(i64::MAX);
        let high = high.unwrap_or_else(|| low.map_or(default_high, |low| low.saturating_mul(LOW_PART as i64)));
        let low = low.unwrap_or(high.div_euclid(LOW_PART as i64));
        match (usize::try_from(high), usize::try_from(low)) {
            (Ok(unsigned_high), Ok(unsigned_low)) if high >= low => {
                (self.high, self.low) = (unsigned_high, unsigned_low);
                Ok(())
            }
            _ => Err((high, low)),
        }
    }

    /// (low, high).
    pub fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whoever fills the buffer was paused by somebody else already.
    pub fn set_paused(&mut self) {
        self.paused = true;
    }

    /// The buffer holds `size` bytes now.
    #[inline]
    pub fn note(&mut self, size: usize) -> FlowAction {
        if size >= self.high && !self.paused {
            self.paused = true;
            FlowAction::Pause
        } else if size <= self.low && self.paused {
            self.paused = false;
            FlowAction::Resume
        } else {
            FlowAction::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_high_mark_the_writer_is_paused_and_at_the_low_one_resumed() {
        let mut marks = Marks::new(WRITE_HIGH);
        assert_eq!(marks.limits(), (128 * 1024, 512 * 1024));
        assert_eq!(marks.note(WRITE_HIGH - 1), FlowAction::Nothing);
        assert_eq!(marks.note(WRITE_HIGH), FlowAction::Pause);
        assert_eq!(marks.note(WRITE_HIGH + 1), FlowAction::Nothing);
        assert_eq!(marks.note(128 * 1024 + 1), FlowAction::Nothing);
        assert_eq!(marks.note(128 * 1024), FlowAction::Resume);
        assert_eq!(marks.note(0), FlowAction::Nothing);
    }

    #[test]
    fn marks_follow_from_each_other_and_must_be_in_order() {
        let mut marks = Marks::new(READ_HIGH);
        assert_eq!(marks.set_limits(None, Some(100)), Ok(()));
        assert_eq!(marks.limits(), (100, 400));
        assert_eq!(marks.set_limits(Some(1000), None), Ok(()));
        assert_eq!(marks.limits(), (250, 1000));
        assert_eq!(marks.set_limits(Some(1), Some(2)), Err((1, 2)));
        assert_eq!(marks.set_limits(Some(-1), None), Err((-1, -1)));
        assert_eq!(marks.limits(), (250, 1000));
        assert_eq!(marks.set_limits(None, None), Ok(()));
        assert_eq!(marks.limits(), (64 * 1024, READ_HIGH));
    }
}
