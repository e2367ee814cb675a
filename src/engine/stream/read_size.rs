//! How to receive next: into the shared buffer, or straight into memory of the right size.
//!
//! A state of one number per connection, from what its recent reads brought. Small messages are copied once out of a
//! buffer that stays in the cache; large ones are not copied, at the price of asking the kernel how much there is.
//! Allocating a large block per read without asking costs more than either: glibc maps and unmaps it each time.

/// A read of at least this many bytes is worth asking the kernel for the exact size, which saves a copy.
const LARGE: usize = 32 * 1024;
/// Small reads in a row until a stream counts as one of small messages again.
const SMALL_READS: u8 = 4;

/// Where the next read goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadPlan {
    /// Into a shared buffer, then copied.
    Scratch,
    /// Into memory of exactly the size that is there.
    Exact,
}

/// What recent reads suggest.
#[derive(Debug, Default)]
pub struct ReadSize {
    /// Small reads until `Scratch` is planned again; 0: it is.
    exact_for: u8,
}

impl ReadSize {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn plan(&self) -> ReadPlan {
        if self.exact_for > 0 {
            ReadPlan::Exact
        } else {
            ReadPlan::Scratch
        }
    }

    /// A read brought `received` bytes.
    pub fn record(&mut self, received: usize) {
        self.exact_for = if received >= LARGE { SMALL_READS } else { self.exact_for.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_read_makes_the_next_ones_exact_until_four_small_ones_came() {
        let mut size = ReadSize::new();
        assert_eq!(size.plan(), ReadPlan::Scratch);
        size.record(100);
        assert_eq!(size.plan(), ReadPlan::Scratch);
        size.record(LARGE);
        for _ in 0..SMALL_READS {
            assert_eq!(size.plan(), ReadPlan::Exact);
            size.record(LARGE - 1);
        }
        assert_eq!(size.plan(), ReadPlan::Scratch);
    }
}
