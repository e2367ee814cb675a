//! One TLS connection's life, without I/O and without cryptography: which state it is in, and what is to be done next.
//!
//! ```text
//!   unwrapped --start--> handshake --done--> wrapped --close, close_notify, EOF--> flushing --> shutdown
//!       ^                    |                  |                                      |            |
//!       +--------------------+------------------+--- abort, error, connection lost ----+------------+
//!
//!   protocol:  fresh --connection_made--> connected --eof_received--> at the end --connection_lost--> lost
//! ```
//!
//! The states are those of `asyncio.sslproto`. `record_layer` is what encrypts, `pump` moves data through it.

pub mod flow;
pub mod pump;
pub mod record_layer;

/// Writes after the end of the connection that pass silently, as in asyncio
/// (`constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES`).
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

/// What the connection does with the bytes it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// Not begun, or over: nothing is encrypted any more.
    #[default]
    Unwrapped,
    /// Keys are agreed upon.
    Handshake,
    /// Data flows.
    Wrapped,
    /// Closing: what the peer sent before is still read.
    Flushing,
    /// close_notify is sent; waits for the peer's.
    Shutdown,
}

/// What the protocol was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Told {
    #[default]
    Nothing,
    /// `connection_made`, or it was connected before TLS began (`start_tls`).
    Connected,
    /// `eof_received`.
    AtEnd,
    /// `connection_lost`.
    Lost,
}

/// What bytes from the peer, or the wish for more of them, are good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drive {
    Nothing,
    Handshake,
    Read,
    Flush,
    Shutdown,
}

/// What the end of the peer's stream asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EofAction {
    Nothing,
    /// It came in the handshake.
    FailHandshake,
    Flush,
    /// The protocol does not read: what it has not seen must wait for it.
    KeepOpen,
    WriteAndShutdown,
    Shutdown,
}

/// What `close` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseAction {
    /// It was closing before.
    Nothing,
    /// There is nothing yet that could be closed in order.
    Abort,
    /// Read what is there, then shut down.
    Flush,
    /// What is there waits for a protocol that wants no more of it.
    Shutdown,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct TlsCore {
    state: State,
    told: Told,
    /// The peer's stream is at its end; it can answer nothing.
    eof: bool,
    /// 1 and the writes since, once the connection below is lost or writes were refused.
    lost: u32,
    reading_paused: bool,
    /// The last read has left something over.
    undelivered: bool,
}

impl TlsCore {
    /// `connected`: the protocol had its `connection_made` before TLS began.
    pub fn new(connected: bool) -> Self {
        Self { told: if connected { Told::Connected } else { Told::Nothing }, ..Self::default() }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// The connection below is made. False: it is too late for that.
    pub fn start(&mut self) -> bool {
        let fresh = self.state == State::Unwrapped && self.lost == 0;
        if fresh {
            self.state = State::Handshake;
        }
        fresh
    }

    /// Ciphertext has come, or the protocol reads again.
    pub fn drive(&self) -> Drive {
        match self.state {
            State::Unwrapped => Drive::Nothing,
            State::Handshake => Drive::Handshake,
            State::Wrapped => Drive::Read,
            State::Flushing => Drive::Flush,
            State::Shutdown => Drive::Shutdown,
        }
    }

    /// False: the connection ended while the last step ran.
    pub fn handshake_done(&mut self) -> bool {
        let expected = self.state == State::Handshake;
        if expected {
            self.state = State::Wrapped;
        }
        expected
    }

    /// True: call `connection_made` now.
    pub fn tell_connected(&mut self) -> bool {
        let tell = self.told == Told::Nothing;
        if tell {
            self.told = Told::Connected;
        }
        tell
    }

    /// True: call `eof_received` now.
    pub fn tell_eof(&mut self) -> bool {
        let tell = self.told == Told::Connected;
        if tell {
            self.told = Told::AtEnd;
        }
        tell
    }

    /// The peer's stream has ended.
    pub fn read_eof(&mut self) -> EofAction {
        self.eof = true;
        match self.state {
            State::Unwrapped => EofAction::Nothing,
            State::Handshake => EofAction::FailHandshake,
            State::Wrapped => {
                self.state = State::Flushing;
                if self.reading_paused {
                    EofAction::KeepOpen
                } else {
                    EofAction::Flush
                }
            }
            State::Flushing => EofAction::WriteAndShutdown,
            State::Shutdown => EofAction::Shutdown,
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.eof
    }

    /// The program closes the transport, or the peer has sent close_notify.
    pub fn close(&mut self) -> CloseAction {
        match self.state {
            State::Flushing if self.eof => CloseAction::Shutdown,
            State::Unwrapped | State::Flushing | State::Shutdown => CloseAction::Nothing,
            State::Handshake => CloseAction::Abort,
            State::Wrapped => {
                self.state = State::Flushing;
                CloseAction::Flush
            }
        }
    }

    pub fn read_begins(&mut self) {
        self.undelivered = false;
    }

    /// The protocol has enough, or its buffer is full, and there may be more.
    pub fn read_stopped_early(&mut self) {
        self.undelivered = true;
    }

    /// What the peer sent before the end of the stream is not read yet: the protocol has enough for now.
    pub fn flush_waits(&self) -> bool {
        self.state == State::Flushing && self.eof && self.undelivered
    }

    /// What the peer sent before the end is read. False: the connection ended meanwhile.
    pub fn flushed(&mut self) -> bool {
        let expected = self.state == State::Flushing;
        if expected {
            self.state = State::Shutdown;
        }
        expected
    }

    /// The end, at once.
    pub fn abort(&mut self) {
        self.state = State::Unwrapped;
    }

    /// The connection below is lost. True: schedule the protocol's `connection_lost`.
    pub fn connection_lost(&mut self) -> bool {
        self.lost = self.lost.saturating_add(1);
        let tell = self.state != State::Handshake && matches!(self.told, Told::Connected | Told::AtEnd);
        if tell {
            self.told = Told::Lost;
        }
        self.state = State::Unwrapped;
        tell
    }

    /// Whether what is written is still sent.
    pub fn takes_writes(&self) -> bool {
        matches!(self.state, State::Handshake | State::Wrapped)
    }

    /// A write that is dropped. True: warn.
    pub fn refuse_write(&mut self) -> bool {
        let warn = self.lost >= SILENT_WRITES_AFTER_LOSS;
        self.lost = self.lost.saturating_add(1);
        warn
    }

    /// Whether a handshake that has taken its time is still not over.
    pub fn handshake_overdue(&self) -> bool {
        self.state == State::Handshake
    }

    /// Whether a shutdown that has taken its time is still not over.
    pub fn shutdown_overdue(&self) -> bool {
        matches!(self.state, State::Flushing | State::Shutdown)
    }

    pub fn is_reading_paused(&self) -> bool {
        self.reading_paused
    }

    pub fn pause_reading(&mut self) {
        self.reading_paused = true;
    }

    /// True: it was paused.
    pub fn resume_reading(&mut self) -> bool {
        std::mem::replace(&mut self.reading_paused, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped() -> TlsCore {
        let mut core = TlsCore::new(false);
        assert!(core.start());
        assert_eq!(core.drive(), Drive::Handshake);
        assert!(core.handshake_done());
        assert!(core.tell_connected());
        assert!(!core.tell_connected());
        core
    }

    #[test]
    fn an_orderly_life_goes_through_all_states() {
        let mut core = wrapped();
        assert_eq!((core.state(), core.drive()), (State::Wrapped, Drive::Read));
        assert_eq!(core.close(), CloseAction::Flush);
        assert_eq!((core.close(), core.drive()), (CloseAction::Nothing, Drive::Flush));
        assert!(core.shutdown_overdue() && !core.takes_writes());
        assert!(core.flushed());
        assert!(!core.flushed());
        assert_eq!(core.drive(), Drive::Shutdown);
        assert!(core.tell_eof());
        assert!(!core.tell_eof());
        assert!(core.connection_lost());
        assert!(!core.connection_lost());
        assert_eq!((core.state(), core.drive()), (State::Unwrapped, Drive::Nothing));
        assert!(!core.shutdown_overdue());
    }

    #[test]
    fn a_handshake_that_ends_early_tells_the_protocol_nothing() {
        let mut core = TlsCore::new(false);
        assert!(core.start());
        assert!(core.handshake_overdue() && core.takes_writes());
        assert_eq!(core.read_eof(), EofAction::FailHandshake);
        core.abort();
        assert!(!core.handshake_overdue() && !core.handshake_done());
        assert!(!core.connection_lost());
        assert!(!core.start());
        let mut closed = TlsCore::new(false);
        closed.start();
        assert_eq!(closed.close(), CloseAction::Abort);
    }

    #[test]
    fn a_protocol_that_was_connected_before_tls_is_told_of_the_loss_only() {
        let mut core = TlsCore::new(true);
        assert!(core.start());
        assert!(core.handshake_done());
        assert!(!core.tell_connected());
        assert!(core.connection_lost());
        // Lost in the middle of the handshake: whoever waits for `start_tls` gets the error instead.
        let mut cut = TlsCore::new(true);
        cut.start();
        assert!(!cut.connection_lost());
    }

    #[test]
    fn the_end_of_the_stream_waits_for_a_protocol_that_does_not_read() {
        let mut core = wrapped();
        core.pause_reading();
        assert_eq!(core.read_eof(), EofAction::KeepOpen);
        assert!(core.is_at_end() && core.is_reading_paused());
        assert!(core.resume_reading());
        assert!(!core.resume_reading());
        assert_eq!(core.drive(), Drive::Flush);
        let mut reading = wrapped();
        assert_eq!(reading.read_eof(), EofAction::Flush);
        assert_eq!(reading.read_eof(), EofAction::WriteAndShutdown);
        assert!(reading.flushed());
        assert_eq!(reading.read_eof(), EofAction::Shutdown);
        reading.abort();
        assert_eq!(reading.read_eof(), EofAction::Nothing);
    }

    #[test]
    fn what_came_before_the_end_of_the_stream_waits_for_a_protocol_that_has_enough() {
        let mut core = wrapped();
        core.read_stopped_early();
        assert!(!core.flush_waits());
        assert_eq!(core.read_eof(), EofAction::Flush);
        assert!(core.flush_waits());
        assert_eq!((core.drive(), core.close()), (Drive::Flush, CloseAction::Shutdown));
        core.read_begins();
        assert!(!core.flush_waits() && core.flushed());
        assert_eq!(core.close(), CloseAction::Nothing);
    }

    #[test]
    fn an_abort_ends_every_state() {
        let mut core = wrapped();
        core.abort();
        assert_eq!(core.close(), CloseAction::Nothing);
        assert!(!core.takes_writes() && !core.flushed());
        assert!(core.connection_lost());
    }

    #[test]
    fn writes_after_the_end_warn_from_the_fifth_on() {
        let mut core = wrapped();
        core.abort();
        assert!(core.connection_lost());
        let warned: Vec<bool> = (0..7).map(|_| core.refuse_write()).collect();
        assert_eq!(warned, [false, false, false, false, true, true, true]);
    }
}
