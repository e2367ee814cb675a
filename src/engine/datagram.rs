//! What is to be sent as datagrams: whole messages in order, each with its receiver.
//!
//! Unlike the bytes of a stream, a datagram is sent whole or not at all, and may fail alone. The queue does no I/O;
//! `engine/sys/datagram.rs` sends several of its first messages at once.

use std::collections::VecDeque;

use super::stream::write_queue::Chunk;

/// A queue that has grown beyond this gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 64;

/// See the module's documentation. `R` says where a datagram goes.
#[derive(Debug)]
pub struct DatagramQueue<C: Chunk, R> {
    datagrams: VecDeque<(C, R)>,
    size: usize,
    /// What a datagram counts for in the size besides its data: empty ones have to count, too.
    header_bytes: usize,
}

impl<C: Chunk, R> DatagramQueue<C, R> {
    pub const fn new(header_bytes: usize) -> Self {
        Self { datagrams: VecDeque::new(), size: 0, header_bytes }
    }

    fn cost(&self, chunk: &C) -> usize {
        chunk.bytes().len() + self.header_bytes
    }

    pub fn push(&mut self, chunk: C, receiver: R) {
        self.size += self.cost(&chunk);
        self.datagrams.push_back((chunk, receiver));
    }

    /// Puts back what `pop` gave: it could not be sent yet.
    pub fn push_front(&mut self, chunk: C, receiver: R) {
        self.size += self.cost(&chunk);
        self.datagrams.push_front((chunk, receiver));
    }

    /// The first datagram, which the caller sends or drops.
    pub fn pop(&mut self) -> Option<(C, R)> {
        let (chunk, receiver) = self.datagrams.pop_front()?;
        self.size -= self.cost(&chunk);
        if self.datagrams.is_empty() && self.datagrams.capacity() > KEPT_CAPACITY {
            self.datagrams = VecDeque::new();
        }
        Some((chunk, receiver))
    }

    /// The datagrams in order.
    pub fn iter(&self) -> impl Iterator<Item = &(C, R)> {
        self.datagrams.iter()
    }

    /// Bytes that wait, headers included.
    pub fn len_bytes(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Empties the queue; the caller drops what was in it.
    pub fn take(&mut self) -> VecDeque<(C, R)> {
        self.size = 0;
        std::mem::take(&mut self.datagrams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_leave_in_order_and_count_with_their_headers() {
        let mut queue = DatagramQueue::new(8);
        queue.push(vec![1, 2, 3], 'a');
        queue.push(Vec::new(), 'b');
        assert_eq!(queue.len_bytes(), 3 + 8 + 8);
        let (chunk, receiver) = queue.pop().expect("there are two");
        assert_eq!((chunk.as_slice(), receiver), ([1, 2, 3].as_slice(), 'a'));
        assert_eq!(queue.len_bytes(), 8);
        queue.push_front(chunk, receiver);
        assert_eq!(queue.iter().map(|(_, receiver)| *receiver).collect::<String>(), "ab");
        assert_eq!(queue.take().len(), 2);
        assert!(queue.is_empty() && queue.len_bytes() == 0 && queue.pop().is_none());
    }

    #[test]
    fn the_memory_of_a_long_queue_is_given_back() {
        let mut queue = DatagramQueue::new(0);
        for number in 0..1000 {
            queue.push(vec![0; 10], number);
        }
        for number in 0..1000 {
            assert_eq!(queue.pop().map(|(_, receiver)| receiver), Some(number));
        }
        assert!(queue.datagrams.capacity() <= KEPT_CAPACITY);
    }
}
