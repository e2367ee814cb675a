//! How to receive next: into the shared buffer, or straight into memory of the right size.

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
        if self.exact_for > 0 { ReadPlan::Exact } else { ReadPlan::Scratch }
    }

    /// A read brought `received` bytes.
    pub fn record(&mut self, received: usize) {
        self.exact_for = if received >= LARGE { SMALL_READS } else { self.exact_for.saturating_sub(1) };
    }
}
