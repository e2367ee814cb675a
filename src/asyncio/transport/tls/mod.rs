//! TLS: what lies between a transport of ciphertext and a protocol of plaintext.
//!
//! `transport` is what the program gets and `connection` what drives it: to the transport below it is the protocol.
//! `handshake`, `read`, `write` and `close` are what happens in its life; `layer` is what makes records, `buffers` the
//! memory they go through. The states are in `engine::tls`.

pub mod buffers;
mod close;
pub mod connection;
mod handshake;
mod layer;
mod read;
pub mod transport;
mod write;
