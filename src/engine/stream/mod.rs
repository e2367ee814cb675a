//! One stream's life, without I/O: which direction is open, and what is to be done next.
//!
//! ```text
//!   open --close, nothing queued--> lost
//!        --close, data queued----> closing --drained--> lost
//!        --abort, error----------> lost            "lost": connection_lost is scheduled, once
//!   reading <--pause/resume--> paused; nothing is read once closing or at the end of the stream
//! ```

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
        if queue_is_empty { EofAction::ShutdownNow } else { EofAction::ShutdownAfterDrain }
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
