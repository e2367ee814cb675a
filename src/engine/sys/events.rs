//! Where a wait puts its events: the memory that the kernel fills, for the kernel's own kind of event.
//!
//! Owned by whoever waits. `epoll` and `kqueue` make it (`EventBuffer`), hand it to the kernel and read what is in it; what
//! an event says is theirs.

/// See the module's documentation.
pub struct Events<E> {
    pub(super) memory: Vec<E>,
    pub(super) length: usize,
}

impl<E: Clone> Events<E> {
    pub(super) fn filled_with(nothing: E, capacity: usize) -> Self {
        Self { memory: vec![nothing; capacity.max(1)], length: 0 }
    }
}

impl<E> Events<E> {
    /// How many events the last wait brought.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }
}
