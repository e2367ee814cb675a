//! The write queue is a queue of bytes, however these are cut into chunks, offered and sent.
//!
//! The model is a vector; after each step length and contents have to agree. No I/O.
#![no_main]

use ironloop::engine::stream::write_queue::WriteQueue;
use ironloop_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (mut queue, mut model) = (WriteQueue::new(), Vec::new());
    while !choices.is_empty() {
        match choices.byte() % 6 {
            0 | 1 => {
                let most = choices.byte().into();
                let bytes = choices.bytes(most);
                // Only the first chunk may be half gone.
                let gone = if queue.is_empty() { usize::from(choices.byte()).min(bytes.len()) } else { 0 };
                model.extend_from_slice(&bytes[gone..]);
                queue.push_from(bytes.to_vec(), gone);
            }
            2 | 3 => {
                let (slices, most) = (usize::from(choices.byte() % 80), usize::from(choices.byte()));
                let (offered, count) = queue.with_slices(slices, |offered| {
                    let all: Vec<u8> = offered.iter().flat_map(|slice| slice.iter().copied()).collect();
                    assert!(offered.len() <= slices && offered.iter().all(|slice| !slice.is_empty()));
                    let count = most.min(all.len());
                    (all, count)
                });
                assert_eq!(offered, model[..offered.len()]);
                queue.advance(count);
                model.drain(..count);
            }
            4 => {
                let mut other = WriteQueue::new();
                let most = choices.byte().into();
                let bytes = choices.bytes(most);
                other.push(bytes.to_vec());
                queue.append(other);
                model.extend_from_slice(bytes);
            }
            _ if choices.byte() == 7 => {
                queue.clear();
                model.clear();
            }
            // Cannot be: more was sent than there is. Nothing breaks.
            _ => {
                queue.advance(usize::MAX);
                model.clear();
            }
        }
        assert_eq!((queue.len_bytes(), queue.is_empty()), (model.len(), model.is_empty()));
    }
});
