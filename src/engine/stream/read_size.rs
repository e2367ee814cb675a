//! How to receive next: into the shared buffer, or straight into memory of the right size.
//!
//! A state of one number per connection, from what its recent reads brought. Small messages are copied once out of a
//! buffer that stays in the cache; large ones are not copied, at the price of asking the kernel how much there is.
//! Allocating a large block per read without asking costs more than either, as long as it is not filled: glibc maps and unmaps
//! it each time. Of a stream that fills whole blocks the kernel need not be asked, and what arrives meanwhile comes too.

/// A read of at least this many bytes is worth asking the kernel for the exact size, which saves a copy.
const LARGE: usize = 32 * 1024;
/// Small reads in a row until a stream counts as one of small messages again.
const SMALL_READS: u8 = 4;

/// Bytes of room for a read, at the least and at the most. The least is cheap to make and enough for most messages; the
/// most is what asyncio receives at once.
const LEAST_ROOM: usize = 2 * 1024;
pub const MOST_ROOM: usize = 256 * 1024;
/// A read that brought as much is followed by one that is offered the most: it will hardly bring much less, and has to be copied
/// then.
const NEARLY_MOST: usize = MOST_ROOM / 4 * 3;
/// A read that filled its room is followed by one that is offered so many times as much.
const GROWTH: usize = 8;

/// Where the next read goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadPlan {
    /// Into a shared buffer, then copied.
    Scratch,
    /// Into memory of exactly the size that is there; the kernel is asked.
    Exact,
    /// The same; the kernel has said already how many bytes there are.
    Known(usize),
    /// Into as much memory as asyncio receives at once.
    Most,
}

/// What recent reads suggest.
#[derive(Debug, Default)]
pub struct ReadSize {
    /// Small reads until `Scratch` is planned again; 0: it is.
    exact_for: u8,
    /// What the last read brought, or several times as much if it filled what it was offered.
    expected: usize,
    /// The last one brought nearly as much as one may.
    streams: bool,
}

impl ReadSize {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn plan(&self) -> ReadPlan {
        if self.streams {
            ReadPlan::Most
        } else if self.exact_for > 0 {
            ReadPlan::Exact
        } else {
            ReadPlan::Scratch
        }
    }

    /// How much to offer to a read into memory that grows, and is cut to what came.
    ///
    /// More than is expected: a read that leaves room is known to be the last. Not twice as much: memory that is more than
    /// half used is cut in place.
    pub fn room(&self) -> usize {
        (self.expected + self.expected / 2).clamp(LEAST_ROOM, MOST_ROOM)
    }

    /// A read brought `received` bytes of `offered`.
    pub fn record(&mut self, received: usize, offered: usize) {
        self.streams = received >= NEARLY_MOST;
        self.exact_for = if received >= LARGE { SMALL_READS } else { self.exact_for.saturating_sub(1) };
        self.expected = if received < offered { received } else { received.saturating_mul(GROWTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_read_makes_the_next_ones_exact_until_four_small_ones_came() {
        let mut size = ReadSize::new();
        assert_eq!(size.plan(), ReadPlan::Scratch);
        size.record(100, 2 * LARGE);
        assert_eq!(size.plan(), ReadPlan::Scratch);
        size.record(LARGE, 2 * LARGE);
        for _ in 0..SMALL_READS {
            assert_eq!(size.plan(), ReadPlan::Exact);
            size.record(LARGE - 1, 2 * LARGE);
        }
        assert_eq!(size.plan(), ReadPlan::Scratch);
    }

    #[test]
    fn the_kernel_is_not_asked_while_reads_bring_nearly_the_most() {
        let mut size = ReadSize::new();
        for _ in 0..3 {
            size.record(NEARLY_MOST, MOST_ROOM);
            assert_eq!(size.plan(), ReadPlan::Most);
        }
        size.record(NEARLY_MOST - 1, MOST_ROOM);
        assert_eq!(size.plan(), ReadPlan::Exact);
    }

    #[test]
    fn room_follows_the_last_read_and_grows_when_it_was_filled() {
        let mut size = ReadSize::new();
        assert_eq!(size.room(), LEAST_ROOM);
        size.record(10_000, LARGE);
        assert_eq!(size.room(), 15_000);
        size.record(15_000, 15_000);
        assert_eq!(size.room(), 15_000 * GROWTH * 3 / 2);
        size.record(MOST_ROOM, MOST_ROOM);
        assert_eq!(size.room(), MOST_ROOM);
        size.record(1, MOST_ROOM);
        assert_eq!(size.room(), LEAST_ROOM);
    }
}
