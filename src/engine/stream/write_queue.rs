//! What is to be sent: chunks in order, the first of them perhaps half gone.
//!
//! Chunks are never copied or joined; several of them are offered to one system call as slices. The queue does no I/O:
//! whoever sends says with `advance` how many bytes are gone. Memory of a long queue is given back when it is empty.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes that do not change.
pub trait Chunk {
    fn bytes(&self) -> &[u8];
}

impl Chunk for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Chunks offered to one system call at the most.
pub const MOST_SLICES: usize = 64;
/// A queue that has grown beyond this gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub struct WriteQueue<C: Chunk> {
    chunks: VecDeque<C>,
    /// How much of the first chunk is gone.
    offset: usize,
    length: usize,
}

impl<C: Chunk> Default for WriteQueue<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Chunk> WriteQueue<C> {
    pub const fn new() -> Self {
        Self { chunks: VecDeque::new(), offset: 0, length: 0 }
    }

    pub fn push(&mut self, chunk: C) {
        self.push_from(chunk, 0);
    }

    /// Appends a chunk of which the first `offset` bytes are gone already; only an empty queue can take such.
    ///
    /// # Panics
    /// When `offset` is not 0 and the queue is not empty.
    pub fn push_from(&mut self, chunk: C, offset: usize) {
        let left = chunk.bytes().len().saturating_sub(offset);
        if left == 0 {
            return;
        }
        assert!(offset == 0 || self.chunks.is_empty(), "only the first chunk can be half gone");
        if self.chunks.is_empty() {
            self.offset = offset;
        }
        self.length += left;
        self.chunks.push_back(chunk);
    }

    /// Bytes that are still to be sent.
    pub fn len_bytes(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lends the first chunks, up to `most` of them, to `send`.
    pub fn with_slices<R>(&self, most: usize, send: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks).take(most.min(MOST_SLICES)) {
            let start = if count == 0 { self.offset } else { 0 };
            *slice = IoSlice::new(&chunk.bytes()[start..]);
            count += 1;
        }
        send(&slices[..count])
    }

    /// `count` bytes were sent.
    pub fn advance(&mut self, mut count: usize) {
        count = count.min(self.length);
        self.length -= count;
        while count > 0 {
            let Some(first) = self.chunks.front() else { break };
            let left = first.bytes().len() - self.offset;
            if count < left {
                self.offset += count;
                return;
            }
            count -= left;
            self.offset = 0;
            drop(self.chunks.pop_front());
        }
        if self.chunks.is_empty() && self.chunks.capacity() > KEPT_CAPACITY {
            self.chunks = VecDeque::new();
        }
    }

    /// Appends all of another queue, of which the first chunk must be whole.
    pub fn append(&mut self, other: Self) {
        other.chunks.into_iter().for_each(|chunk| self.push(chunk));
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(Vec<u8>),
        /// Sends up to so many bytes through up to so many slices.
        Send(usize, usize),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Push),
            5 => (0..60usize, 1..5usize).prop_map(|(bytes, slices)| Step::Send(bytes, slices)),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        /// A queue of chunks is a queue of bytes, however it is cut.
        #[test]
        fn a_queue_is_a_list_of_bytes(first in prop::collection::vec(any::<u8>(), 1..40), gone in 0..40usize,
                                      steps in prop::collection::vec(step(), 0..200)) {
            let gone = gone.min(first.len());
            let mut model = first[gone..].to_vec();
            let mut queue = WriteQueue::new();
            queue.push_from(first, gone);
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        model.extend_from_slice(&bytes);
                        queue.push(bytes);
                    }
                    Step::Send(most, slices) => {
                        let (offered, count) = queue.with_slices(slices, |offered| {
                            let all: Vec<u8> = offered.iter().flat_map(|slice| slice.iter().copied()).collect();
                            assert!(offered.len() <= slices && offered.iter().all(|slice| !slice.is_empty()));
                            let count = most.min(all.len());
                            (all, count)
                        });
                        prop_assert_eq!(&offered[..], &model[..offered.len()]);
                        prop_assert!(offered.is_empty() == model.is_empty());
                        queue.advance(count);
                        model.drain(..count);
                    }
                    Step::Clear => {
                        queue.clear();
                        model.clear();
                    }
                }
                prop_assert_eq!(queue.len_bytes(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn the_memory_of_a_long_queue_is_given_back() {
        let mut queue = WriteQueue::new();
        for _ in 0..10_000 {
            queue.push(vec![1]);
        }
        assert_eq!(queue.with_slices(1000, |slices| slices.len()), MOST_SLICES);
        queue.advance(10_000);
        assert!(queue.chunks.capacity() <= KEPT_CAPACITY);
    }
}
