//! A TLS connection's life over a record layer that is made of choices: bytes pass unchanged and in order, the protocol is
//! told in order and once of each, and no state is left that cannot be.
//!
//! The layer's records are a length byte and at most seven negated bytes; it may want more at any time. No I/O.
#![no_main]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::MaybeUninit;

use ironloop::engine::stream::write_queue::WriteQueue;
use ironloop::engine::tls::pump::{decrypt, encrypt_queue, Stop};
use ironloop::engine::tls::record_layer::{Read, RecordLayer, Step, Write};
use ironloop::engine::tls::{CloseAction, Drive, EofAction, State, TlsCore};
use ironloop_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

const LARGEST: usize = 7;

#[derive(Default)]
struct Fake {
    incoming: RefCell<VecDeque<u8>>,
    outgoing: RefCell<Vec<u8>>,
    open: RefCell<VecDeque<u8>>,
    /// Writes until the layer waits for the peer.
    writes: Cell<usize>,
}

impl RecordLayer for Fake {
    type Error = ();

    fn with_ciphertext<R>(&self, ciphertext: &[u8], body: impl FnOnce() -> R) -> Result<R, ()> {
        self.incoming.borrow_mut().extend(ciphertext);
        Ok(body())
    }

    fn unread(&self) -> usize {
        self.incoming.borrow().len()
    }

    fn handshake(&self) -> Result<Step, ()> {
        Ok(Step::Done)
    }

    fn read(&self, into: &mut [MaybeUninit<u8>]) -> Result<Read, ()> {
        let (mut incoming, mut open) = (self.incoming.borrow_mut(), self.open.borrow_mut());
        if open.is_empty() {
            match incoming.front().map(|&length| usize::from(length)) {
                Some(0) => return Ok(Read::Closed),
                Some(length) if length > LARGEST => return Err(()),
                Some(length) if incoming.len() > length => {
                    incoming.pop_front();
                    open.extend(incoming.drain(..length).map(|byte| !byte));
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

    fn write(&self, plaintext: &[u8]) -> Result<Write, ()> {
        let Some(left) = self.writes.get().checked_sub(1) else { return Ok(Write::WantsMore) };
        self.writes.set(left);
        let record = &plaintext[..plaintext.len().min(LARGEST)];
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.push(record.len() as u8);
        outgoing.extend(record.iter().map(|byte| !byte));
        Ok(Write::Taken(record.len()))
    }

    fn shutdown(&self) -> Result<Step, ()> {
        Ok(Step::WantsMore)
    }

    fn outgoing(&self) -> usize {
        self.outgoing.borrow().len()
    }
}

/// One direction: what was written, what is on its way, and what came out.
#[derive(Default)]
struct Flow {
    sender: Fake,
    receiver: Fake,
    queue: WriteQueue<Vec<u8>>,
    written: Vec<u8>,
    read: Vec<u8>,
}

impl Flow {
    fn write(&mut self, data: &[u8]) {
        self.queue.push(data.to_vec());
        self.written.extend_from_slice(data);
    }

    fn send(&mut self, most: usize, writes: usize) {
        self.sender.writes.set(writes);
        let before = self.queue.len_bytes();
        let taken = encrypt_queue(&self.sender, &mut self.queue, most);
        assert_eq!(taken.map(|taken| (taken, taken <= most)), Ok((before - self.queue.len_bytes(), true)));
    }

    fn receive(&mut self, room: usize, cut: usize) {
        let mut records = self.sender.outgoing.take();
        let rest = records.split_off(cut.min(records.len()));
        self.sender.outgoing.replace(rest);
        let mut buffer = vec![MaybeUninit::new(0); room];
        let outcome = self.receiver.with_ciphertext(&records, || decrypt(&self.receiver, &mut buffer));
        let Ok((count, stop)) = outcome else { unreachable!("fakes do not fail") };
        assert_eq!(stop == Stop::Full, count == room, "{stop:?} after {count} of {room}");
        assert!(stop == Stop::Full || stop == Stop::Drained);
        // SAFETY: every byte of the buffer was initialised above.
        self.read.extend(buffer[..count].iter().map(|byte| unsafe { byte.assume_init() }));
        assert!(self.written.starts_with(&self.read));
    }
}

/// What the protocol was told, and what the connection may be asked in any order.
fn live(core: &mut TlsCore, choices: &mut Choices<'_>, told: &mut [u32; 3]) {
    let before = core.state();
    match choices.byte() % 12 {
        0 => assert!(!core.start() || core.state() == State::Handshake),
        1 => assert_eq!(core.handshake_done(), before == State::Handshake),
        2 => told[0] += u32::from(core.tell_connected()),
        3 if core.tell_eof() => told[1] += 1,
        4 => match core.read_eof() {
            EofAction::FailHandshake => assert_eq!(before, State::Handshake),
            EofAction::KeepOpen => assert!(core.is_reading_paused()),
            _ => assert!(core.is_at_end()),
        },
        5 => match core.close() {
            CloseAction::Abort => assert_eq!(before, State::Handshake),
            CloseAction::Flush => assert_eq!(core.state(), State::Flushing),
            CloseAction::Shutdown => assert!(core.is_at_end()),
            CloseAction::Nothing => assert_eq!(core.state(), before),
        },
        6 => assert!(!core.flushed() || core.state() == State::Shutdown),
        7 => core.abort(),
        8 => told[2] += u32::from(core.connection_lost()),
        9 => core.read_stopped_early(),
        10 => core.read_begins(),
        _ if choices.flag() => core.pause_reading(),
        _ => assert!(!core.resume_reading() || !core.is_reading_paused()),
    }
    assert!(told.iter().all(|&times| times <= 1), "told twice");
    assert!(!core.takes_writes() || matches!(core.state(), State::Handshake | State::Wrapped));
    assert_eq!(core.drive() == Drive::Nothing, core.state() == State::Unwrapped);
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (mut core, mut flow, mut told) = (TlsCore::new(choices.flag()), Flow::default(), [0; 3]);
    while !choices.is_empty() {
        match choices.byte() % 5 {
            0 => {
                let most = choices.byte().into();
                flow.write(choices.bytes(most));
            }
            1 => flow.send(choices.byte().into(), (choices.byte() % 8).into()),
            // Without room there is nothing to ask for.
            2 => flow.receive(usize::from(choices.byte()) + 1, choices.byte().into()),
            _ => live(&mut core, &mut choices, &mut told),
        }
    }
    flow.send(usize::MAX, usize::MAX);
    flow.receive(flow.written.len() + 1, usize::MAX);
    assert_eq!(flow.read, flow.written, "every byte comes out once");
    // Ciphertext of somebody who means harm: an error or an end, no panic.
    let _ = decrypt(&flow.receiver, &mut []);
    let layer = Fake::default();
    let _ = layer.with_ciphertext(data, || decrypt(&layer, &mut [MaybeUninit::uninit(); 64]));
});
