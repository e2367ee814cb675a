//! What transports send: the user's data, or records of a TLS connection.
//!
//! Both are sent as they are, and only what the socket has no room for is kept.

use crate::py::buffer::{Data, SendChunk};

/// What is held leaves before the end of the callback when it has grown to this. The kernel takes 256 KiB in one call in three
/// fifths of the time that four calls take.
pub const LARGEST_HOLD: usize = 256 * 1024;

/// What is larger does not wait for the end of the turn: what is sent right after it was written is in the cache.
pub const LARGEST_BATCHED: usize = 16 * 1024;

/// What can be sent: the user's data, or records of a TLS connection.
pub trait Outgoing {
    fn as_slice(&self) -> &[u8];

    /// What must be kept once the first `offset` bytes are sent: a chunk, and where it starts in it.
    fn chunk_from(&mut self, offset: usize) -> (SendChunk, usize);
}

impl Outgoing for Data<'_, '_> {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        Data::as_slice(self)
    }

    fn chunk_from(&mut self, offset: usize) -> (SendChunk, usize) {
        Data::chunk_from(self, offset)
    }
}

/// Memory of TLS records, for as long as nothing of it is queued: it is taken as a whole when a part of it must be kept, unless that would keep far more.
impl Outgoing for Option<Vec<u8>> {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self.as_deref().unwrap_or_default()
    }

    fn chunk_from(&mut self, offset: usize) -> (SendChunk, usize) {
        match self {
            // Memory that is used again and again: what waits in a queue is not to keep that much of it.
            Some(records) if records.capacity() / 2 > records.len() - offset => {
                (SendChunk::Owned(records[offset..].into()), 0)
            }
            _ => (SendChunk::Grown(self.take().unwrap_or_default()), offset),
        }
    }
}
