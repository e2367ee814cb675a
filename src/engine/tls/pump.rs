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

/// Encrypts what is queued, up to `most` bytes, or until the layer waits for the peer. Says how many bytes that were.
///
/// # Errors
/// What the layer's `write` returns; what was encrypted before is out of the queue then.
pub fn encrypt_queue<L: RecordLayer, C: Chunk>(
    layer: &L,
    queue: &mut WriteQueue<C>,
    most: usize,
) -> Result<usize, L::Error> {
    let mut total = 0;
    while !queue.is_empty() && total < most {
        let (outcome, offered) = queue.with_slices(1, |slices| {
            let bytes = slices.first().map_or(&[][..], |slice| slice);
            let bytes = &bytes[..bytes.len().min(most - total)];
            (encrypt(layer, bytes), bytes.len())
        });
        let taken = outcome?;
        queue.advance(taken);
        total += taken;
        if taken < offered {
            break;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::super::record_layer::Step;
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    const LARGEST: usize = 7;

    /// Records of a length byte and at most seven bytes that are "encrypted" by negation; length 0 is close_notify.
    #[derive(Default)]
    struct Fake {
        incoming: RefCell<VecDeque<u8>>,
        outgoing: RefCell<Vec<u8>>,
        /// Writes until the layer waits for the peer.
        writes: Cell<usize>,
        open: RefCell<VecDeque<u8>>,
    }

    impl RecordLayer for Fake {
        type Error = &'static str;

        fn with_ciphertext<R>(&self, ciphertext: &[u8], body: impl FnOnce() -> R) -> Result<R, Self::Error> {
            self.incoming.borrow_mut().extend(ciphertext);
            Ok(body())
        }

        fn unread(&self) -> usize {
            self.incoming.borrow().len()
        }

        fn handshake(&self) -> Result<Step, Self::Error> {
            Ok(Step::Done)
        }

        fn read(&self, into: &mut [MaybeUninit<u8>]) -> Result<Read, Self::Error> {
            let mut incoming = self.incoming.borrow_mut();
            let mut open = self.open.borrow_mut();
            if open.is_empty() {
                match incoming.front().copied() {
                    Some(0) => return Ok(Read::Closed),
                    Some(length) if usize::from(length) > LARGEST => return Err("bad record"),
                    Some(length) if incoming.len() > usize::from(length) => {
                        incoming.pop_front();
                        open.extend(incoming.drain(..usize::from(length)).map(|byte| !byte));
                    }
                    _ => return Ok(Read::WantsMore),
                }
            }
            let count = open.len().min(into.len());
            for (place, byte) in into.iter_mut().zip(open.drain(..count)) {
                place.write(byte);
            }
            Ok(Read::Data(count))
        }

        fn write(&self, plaintext: &[u8]) -> Result<Write, Self::Error> {
            if self.writes.get() == 0 {
                return Ok(Write::WantsMore);
            }
            self.writes.set(self.writes.get() - 1);
            let record = &plaintext[..plaintext.len().min(LARGEST)];
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.push(u8::try_from(record.len()).expect("at most seven"));
            outgoing.extend(record.iter().map(|byte| !byte));
            Ok(Write::Taken(record.len()))
        }

        fn shutdown(&self) -> Result<Step, Self::Error> {
            Ok(Step::WantsMore)
        }

        fn outgoing(&self) -> usize {
            self.outgoing.borrow().len()
        }
    }

    fn records_of(plaintext: &[u8]) -> Vec<u8> {
        let layer = Fake { writes: Cell::new(usize::MAX), ..Fake::default() };
        assert_eq!(encrypt(&layer, plaintext), Ok(plaintext.len()));
        layer.outgoing.take()
    }

    fn decrypted(layer: &Fake, room: usize) -> (usize, Stop<&'static str>) {
        decrypt(layer, &mut vec![MaybeUninit::uninit(); room])
    }

    #[test]
    fn records_are_joined_until_there_are_no_more() {
        let records = records_of(&[5; 20]);
        let layer = Fake::default();
        let outcome = layer.with_ciphertext(&records, || decrypted(&layer, 100));
        assert_eq!(outcome, Ok((20, Stop::Drained)));
        assert_eq!(decrypted(&layer, 100), (0, Stop::Drained));
    }

    #[test]
    fn half_a_record_waits_and_a_full_buffer_says_so() {
        let records = records_of(&[1; 10]);
        let layer = Fake::default();
        layer.with_ciphertext(&records[..4], || ()).expect("fakes do not fail");
        assert_eq!(decrypted(&layer, 100).1, Stop::Drained);
        layer.with_ciphertext(&records[4..], || ()).expect("fakes do not fail");
        assert_eq!(decrypted(&layer, 6), (6, Stop::Full));
        assert_eq!(decrypted(&layer, 6), (4, Stop::Drained));
    }

    #[test]
    fn data_before_the_end_and_before_an_error_is_good() {
        for (tail, expected) in [(0, Stop::Closed), (200, Stop::Failed("bad record"))] {
            let mut records = records_of(&[1; 3]);
            records.push(tail);
            let layer = Fake::default();
            layer.with_ciphertext(&records, || ()).expect("fakes do not fail");
            assert_eq!(decrypted(&layer, 100), (3, expected));
        }
    }

    #[test]
    fn what_the_layer_does_not_take_stays_in_the_queue() {
        let layer = Fake { writes: Cell::new(2), ..Fake::default() };
        let mut queue = WriteQueue::new();
        queue.push(vec![1; 10]);
        queue.push(vec![2; 10]);
        assert_eq!(encrypt_queue(&layer, &mut queue, 100), Ok(10));
        assert_eq!((queue.len_bytes(), layer.outgoing()), (10, 12));
        assert_eq!(encrypt_queue(&layer, &mut queue, 100), Ok(0));
        assert_eq!(queue.len_bytes(), 10);
        layer.writes.set(5);
        assert_eq!(encrypt_queue(&layer, &mut queue, 100), Ok(10));
        assert!(queue.is_empty());
        assert_eq!(layer.outgoing.take(), [records_of(&[1; 10]), records_of(&[2; 10])].concat());
    }

    #[test]
    fn a_queue_is_encrypted_in_portions() {
        let layer = Fake { writes: Cell::new(usize::MAX), ..Fake::default() };
        let mut queue = WriteQueue::new();
        queue.push(vec![1; 10]);
        queue.push(vec![2; 10]);
        assert_eq!(encrypt_queue(&layer, &mut queue, 12), Ok(12));
        assert_eq!(queue.len_bytes(), 8);
        assert_eq!(encrypt_queue(&layer, &mut queue, 12), Ok(8));
        let expected = [records_of(&[1; 10]), records_of(&[2; 2]), records_of(&[2; 8])].concat();
        assert_eq!(layer.outgoing.take(), expected);
    }
}
