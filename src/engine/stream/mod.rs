//! One stream's life, without I/O: which direction is open, and what is to be done next.
//!
//! ```text
//!   open --close, nothing queued--> lost
//!        --close, data queued----> closing --drained--> lost
//!        --abort, error----------> lost            "lost": connection_lost is scheduled, once
//!   reading <--pause/resume--> paused; nothing is read once closing or at the end of the stream
//! ```

pub mod batching;
pub mod flow;
pub mod read_size;
pub mod write_queue;

/// Writes after the loss of the connection that pass silently, as in asyncio
/// (`constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES`).
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

/// What `close` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseAction {
    /// It was closing before.
    Nothing,
    /// The queue is still to be sent; `drained` says when to lose the connection.
    DrainThenLose,
    LoseNow,
}

/// What `write_eof` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EofAction {
    Nothing,
    ShutdownNow,
    ShutdownAfterDrain,
}

/// What the emptied write queue makes possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainedAction {
    Nothing,
    Lose,
    ShutdownWrite,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct StreamCore {
    closing: bool,
    /// 0 while connected; then 1 plus the writes since.
    lost: u32,
    eof: bool,
    paused: bool,
    read_ended: bool,
}

impl StreamCore {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether `connection_lost` is scheduled or over.
    pub fn is_lost(&self) -> bool {
        self.lost > 0
    }

    /// Whether the write side is closed, or will be once the queue is sent.
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Whether data is wanted, as asyncio's `is_reading()` answers.
    pub fn is_reading(&self) -> bool {
        !self.closing && !self.paused
    }

    /// Whether reading was paused, and not resumed before the end.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the peer has closed its write side.
    pub fn is_at_end(&self) -> bool {
        self.read_ended
    }

    /// The peer has closed its write side.
    pub fn read_eof(&mut self) {
        self.read_ended = true;
    }

    /// True: it was reading.
    pub fn pause_reading(&mut self) -> bool {
        let changed = self.is_reading();
        self.paused |= changed;
        changed
    }

    /// True: it was paused.
    pub fn resume_reading(&mut self) -> bool {
        let changed = self.paused && !self.closing;
        self.paused &= !changed;
        changed
    }

    pub fn close(&mut self, queue_is_empty: bool) -> CloseAction {
        if self.closing {
            return CloseAction::Nothing;
        }
        self.closing = true;
        if !queue_is_empty {
            return CloseAction::DrainThenLose;
        }
        self.lost += 1;
        CloseAction::LoseNow
    }

    /// True: the connection is lost by this; schedule `connection_lost`.
    pub fn abort(&mut self) -> bool {
        self.closing = true;
        if self.lost > 0 {
            return false;
        }
        self.lost = 1;
        true
    }

    pub fn write_eof(&mut self, queue_is_empty: bool) -> EofAction {
        if self.closing || self.eof {
            return EofAction::Nothing;
        }
        self.eof = true;
        if queue_is_empty {
            EofAction::ShutdownNow
        } else {
            EofAction::ShutdownAfterDrain
        }
    }

    /// The queue has become empty.
    pub fn drained(&mut self) -> DrainedAction {
        if self.lost > 0 {
            DrainedAction::Nothing
        } else if self.closing {
            self.lost = 1;
            DrainedAction::Lose
        } else if self.eof {
            DrainedAction::ShutdownWrite
        } else {
            DrainedAction::Nothing
        }
    }

    /// A write after the loss: it is dropped. True: warn.
    pub fn write_after_lost(&mut self) -> bool {
        let warn = self.lost >= SILENT_WRITES_AFTER_LOSS;
        self.lost = self.lost.saturating_add(1);
        warn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_an_idle_stream_loses_it_once() {
        let mut stream = StreamCore::new();
        assert_eq!(stream.close(true), CloseAction::LoseNow);
        assert_eq!(stream.close(true), CloseAction::Nothing);
        assert!(!stream.abort());
        assert!(stream.is_closing() && stream.is_lost() && !stream.is_reading());
        assert_eq!(stream.drained(), DrainedAction::Nothing);
    }

    #[test]
    fn closing_a_busy_stream_drains_it_first() {
        let mut stream = StreamCore::new();
        assert_eq!(stream.close(false), CloseAction::DrainThenLose);
        assert!(stream.is_closing() && !stream.is_lost());
        assert_eq!(stream.drained(), DrainedAction::Lose);
        assert_eq!(stream.drained(), DrainedAction::Nothing);
        assert!(!stream.abort());
    }

    #[test]
    fn an_abort_does_not_wait_for_the_queue() {
        let mut stream = StreamCore::new();
        assert_eq!(stream.close(false), CloseAction::DrainThenLose);
        assert!(stream.abort());
        assert!(!stream.abort());
        assert_eq!(stream.drained(), DrainedAction::Nothing);
    }

    #[test]
    fn the_write_side_is_closed_once_and_behind_the_queue() {
        let mut stream = StreamCore::new();
        assert_eq!(stream.write_eof(false), EofAction::ShutdownAfterDrain);
        assert_eq!(stream.write_eof(true), EofAction::Nothing);
        assert!(stream.is_eof());
        assert_eq!(stream.drained(), DrainedAction::ShutdownWrite);
        let mut idle = StreamCore::new();
        assert_eq!(idle.write_eof(true), EofAction::ShutdownNow);
        let mut closing = StreamCore::new();
        closing.close(false);
        assert_eq!(closing.write_eof(false), EofAction::Nothing);
    }

    #[test]
    fn closing_wins_over_the_end_of_the_write_side() {
        let mut stream = StreamCore::new();
        stream.write_eof(false);
        assert_eq!(stream.close(false), CloseAction::DrainThenLose);
        assert_eq!(stream.drained(), DrainedAction::Lose);
    }

    #[test]
    fn pausing_and_resuming_are_idempotent() {
        let mut stream = StreamCore::new();
        assert!(!stream.resume_reading());
        assert!(stream.pause_reading());
        assert!(!stream.pause_reading());
        assert!(!stream.is_reading());
        assert!(stream.resume_reading());
        assert!(stream.is_reading());
        stream.close(true);
        assert!(!stream.pause_reading());
        assert!(!stream.resume_reading());
    }

    #[test]
    fn writes_after_the_loss_warn_from_the_fifth_on() {
        let mut stream = StreamCore::new();
        assert!(stream.abort());
        let warned: Vec<bool> = (0..7).map(|_| stream.write_after_lost()).collect();
        assert_eq!(warned, [false, false, false, false, true, true, true]);
    }

    #[test]
    fn the_end_of_the_read_side_is_remembered() {
        let mut stream = StreamCore::new();
        assert!(!stream.is_at_end());
        stream.read_eof();
        assert!(stream.is_at_end());
    }
}
