//! Whether a loop only takes in what others send: then it asks for more now and then, and does not wait for it.
//!
//! Whoever waits for an answer is served sooner by a loop that spins. Whoever sends a stream waits for nobody, and the kernel
//! keeps what comes meanwhile. A loop that waits is woken by each piece, which costs the sender more than sending it; one
//! that spins burns a core to get the pieces one by one. One that sleeps for a moment without waiting is not woken, finds
//! many of them at once, and both sides have more time for the stream.
//!
//! It must not sleep for so long that the peer has to stop, because the receive buffer is full. From then on each
//! acknowledgement of ours sends the peer's next packets, in our time, and the buffer is full again at the next nap. Whether
//! it gets there depends on the peer, on the size of the buffer, which the kernel adapts, and on how late the thread is woken. So
//! a nap that has filled it is followed by a number of waits without.
//!
//! ```text
//!   napping --the buffer was full--> waiting, `PAUSE` times --> napping
//! ```
//!
//! No I/O; whoever waits says what has been received and sent so far, and what a nap has brought.

/// Bytes received between two waits that may be a part of a stream: half a TLS record, which is what many programs write at
/// once.
const MUCH: u64 = 8 * 1024;
/// So many of such waits more than others, with nothing sent in between, make it one. An answer of a few hundred KiB is none.
const WAITS: u32 = 8;
/// Waits without a nap after one that has filled the receive buffer.
const PAUSE: u32 = 8;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Bulk {
    received: u64,
    sent: u64,
    waits: u32,
    /// Waits until the next nap.
    nap_in: u32,
}

impl Bulk {
    pub const fn new() -> Self {
        Self { received: 0, sent: 0, waits: 0, nap_in: 0 }
    }

    /// The loop is about to wait; so many bytes were received and sent since it was made. True: it takes in a stream.
    #[inline]
    pub fn is_taken_in(&mut self, received: u64, sent: u64) -> bool {
        self.waits = match received.wrapping_sub(self.received) {
            _ if sent != self.sent => 0,
            MUCH.. => (self.waits + 1).min(2 * WAITS),
            _ => self.waits.saturating_sub(1),
        };
        (self.received, self.sent) = (received, sent);
        self.waits >= WAITS
    }

    /// Whether to nap in this wait, while a stream is taken in.
    #[inline]
    pub fn naps(&mut self) -> bool {
        let now = self.nap_in == 0;
        self.nap_in = self.nap_in.saturating_sub(1);
        now
    }

    /// A nap has lasted until the peer could not send.
    pub fn napped_too_long(&mut self) {
        self.nap_in = PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_number_of_large_reads_and_no_answer() {
        let mut bulk = Bulk::new();
        let taken_in = (1..=20).map(|wait| bulk.is_taken_in(wait * MUCH, 0)).filter(|&taken_in| taken_in).count();
        assert_eq!(taken_in, 20 - (WAITS as usize - 1));
        // Waits that have brought little end it slowly, an answer at once.
        assert_eq!((0..20).filter(|_| bulk.is_taken_in(20 * MUCH, 0)).count(), WAITS as usize);
        assert!((21..28).all(|wait| !bulk.is_taken_in(wait * MUCH, 0)));
        assert!(bulk.is_taken_in(28 * MUCH, 0));
        assert!(!bulk.is_taken_in(29 * MUCH, 1));
    }

    #[test]
    fn a_nap_that_stops_the_peer_is_followed_by_waits() {
        let mut bulk = Bulk::new();
        assert!((0..100).all(|_| bulk.naps()));
        bulk.napped_too_long();
        assert_eq!((0..).find(|_| bulk.naps()), Some(PAUSE));
        assert!(bulk.naps());
    }

    #[test]
    fn requests_and_answers_are_no_stream() {
        let mut bulk = Bulk::new();
        assert!((1..1000).all(|wait| !bulk.is_taken_in(wait * 100_000, wait * 100_000)));
        assert!((1000..2000).all(|wait| !bulk.is_taken_in(100_000_000 + wait * 100, 100_000_000)));
    }
}
