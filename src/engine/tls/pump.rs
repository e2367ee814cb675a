//! Moves plaintext through a record layer, as much as fits at a time.
//!
//! `decrypt` joins the records that are there into one buffer, `encrypt` empties a write queue. Neither does I/O.

use std::mem::MaybeUninit;

use super::record_layer::{Read, RecordLayer, Write};
use crate::engine::stream::write_queue::{Chunk, WriteQueue};

/// Why `decrypt` stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop<E> {
    /// There is no further whole record.
    Drained,
    /// The buffer is full; there may be more.
    Full,
    /// The peer has sent close_notify.
    Closed,
    /// What was read before is good.
    Failed(E),
}

/// Reads records into `buffer` until there are no more or it is full. Says how many bytes that were (the first ones of
/// the buffer are initialised then), and why it stopped.
pub fn decrypt<L: RecordLayer>(layer: &L, buffer: &mut [MaybeUninit<u8>]) -> (usize, Stop<L::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match layer.read(&mut buffer[filled..]) {
            Ok(Read::Data(count)) => {
                filled += count;
                // A read that left room has emptied its record, and where nothing is received there is no other:
                // asking would cost as much as a small record.
                if filled < buffer.len() && layer.unread() == 0 {
                    return (filled, Stop::Drained);
                }
            }
            Ok(Read::WantsMore) => return (filled, Stop::Drained),
            Ok(Read::Closed) => return (filled, Stop::Closed),
            Err(error) => return (filled, Stop::Failed(error)),
        }
    }
    (filled, Stop::Full)
}

/// Encrypts a whole piece. True: it is in records; false: the part from the returned offset on waits for the peer.
///
/// # Errors
/// What the layer's `write` returns.
pub fn encrypt<L: RecordLayer>(layer: &L, plaintext: &[u8]) -> Result<usize, L::Error> {
    let mut offset = 0;
    while offset < plaintext.len() {
        match layer.write(&plaintext[offset..])? {
            Write::Taken(count) => offset += count,
            Write::WantsMore => break,
        }
    }
    Ok(offset)
}

/// Encrypts what is queued, until the queue is empty or the layer waits for the peer.
///
/// # Errors
/// What the layer's `write` returns; what was encrypted before is out of the queue then.
pub fn encrypt_queue<L: RecordLayer, C: Chunk>(layer: &L, queue: &mut WriteQueue<C>) -> Result<(), L::Error> {
    while !queue.is_empty() {
        let (outcome, offered) =
            queue.with_slices(1, |slices| slices.first().map_or((Ok(0), 0), |it| (encrypt(layer, it), it.len())));
        let taken = outcome?;
        queue.advance(taken);
        if taken < offered {
            break;
        }
    }
    Ok(())
}
