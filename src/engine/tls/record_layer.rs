//! `RecordLayer`: what turns plaintext into TLS records and back.
//!
//! A layer has a side for ciphertext (fed by whoever receives it, taken by whoever sends it) and a side for
//! plaintext. It does no I/O, so every operation may answer that it needs more ciphertext first. All methods take
//! `&self`: a layer may call the user's code (an SNI callback, say), which may come back to the same layer.
//!
//! Implementations: `engine::sys::openssl` (the libssl that the interpreter uses) and
//! `asyncio::transport::tls::layer` (which adds `ssl.SSLObject` over two `ssl.MemoryBIO`s).

use std::mem::MaybeUninit;

/// How a handshake or a shutdown went on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Done,
    /// Waits for ciphertext of the peer's.
    WantsMore,
}

/// How a read went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// So many bytes; never 0.
    Data(usize),
    /// There is no whole record.
    WantsMore,
    /// The peer has sent close_notify: no data will follow.
    Closed,
}

/// How a write went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// So many bytes are in records now.
    Taken(usize),
    /// Nothing is taken before the peer has said something; the same data must be offered again.
    WantsMore,
}

/// See the module's documentation.
pub trait RecordLayer {
    type Error;

    /// Runs `body`, which finds `ciphertext` behind what was left over before; what it leaves over is kept.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn with_ciphertext<R>(&self, ciphertext: &[u8], body: impl FnOnce() -> R) -> Result<R, Self::Error>;

    /// Bytes of ciphertext that were received and not looked at.
    fn unread(&self) -> usize;

    /// Bytes of plaintext that `read` could give now, at the most; the part of a record that was looked at counts too.
    fn plaintext_bound(&self) -> usize {
        self.unread()
    }

    /// # Errors
    /// The peer or its certificate was refused, or refused us.
    fn handshake(&self) -> Result<Step, Self::Error>;

    /// Reads a part of one record at the most: the first bytes of `into`, as many as are returned, are initialised then.
    ///
    /// # Errors
    /// What was received is not what the peer has sent.
    fn read(&self, into: &mut [MaybeUninit<u8>]) -> Result<Read, Self::Error>;

    /// # Errors
    /// The connection is not in a state to be written to.
    fn write(&self, plaintext: &[u8]) -> Result<Write, Self::Error>;

    /// Sends close_notify and waits for the peer's.
    ///
    /// # Errors
    /// The peer sent something else.
    fn shutdown(&self) -> Result<Step, Self::Error>;

    /// Bytes of ciphertext that wait to be taken.
    fn outgoing(&self) -> usize;
}
