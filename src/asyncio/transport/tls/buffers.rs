//! Memory that all TLS connections of a loop use one after the other: ciphertext is received into it, plaintext
//! decrypted into it, and records are written into it.
//!
//! It is taken out while it is used, never lent, because OpenSSL may run Python code in between. Who finds it taken
//! makes new memory for this once.

use crate::py::buffer::Scratch;

/// Ciphertext received at once.
const CIPHERTEXT_BYTES: usize = 128 * 1024;
/// Small plaintexts are decrypted here, larger ones straight into `bytes` of their own.
pub const PLAINTEXT_BYTES: usize = 48 * 1024;
/// An output buffer that has grown beyond this is not kept: twice what is held of records, which is what a vector grows to.
const LARGEST_OUTPUT: usize = 1024 * 1024;

/// See the module's documentation.
#[derive(Default)]
pub struct Buffers {
    ciphertext: Option<Box<[u8]>>,
    plaintext: Option<Scratch>,
    output: Vec<u8>,
}

impl Buffers {
    pub const fn new() -> Self {
        Self { ciphertext: None, plaintext: None, output: Vec::new() }
    }

    pub fn take_ciphertext(&mut self) -> Box<[u8]> {
        self.ciphertext.take().unwrap_or_else(|| vec![0; CIPHERTEXT_BYTES].into_boxed_slice())
    }

    pub fn return_ciphertext(&mut self, buffer: Box<[u8]>) {
        self.ciphertext = Some(buffer);
    }

    pub fn take_plaintext(&mut self) -> Scratch {
        self.plaintext.take().unwrap_or_else(|| Scratch::new(PLAINTEXT_BYTES))
    }

    pub fn return_plaintext(&mut self, buffer: Scratch) {
        self.plaintext = Some(buffer);
    }

    /// Empty, with whatever capacity it has.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub fn return_output(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > self.output.capacity() && buffer.capacity() <= LARGEST_OUTPUT {
            buffer.clear();
            self.output = buffer;
        }
    }
}
