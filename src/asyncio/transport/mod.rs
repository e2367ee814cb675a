//! Transports: what connects a descriptor, the reactor and a user's protocol.
//!
//! `stream` is the class and the index of its methods; `start`, `watching`, `read`, `write` and `close` are what
//! happens in its life; `info` is what `get_extra_info` knows, `description` what `repr` says; `listener` accepts;
//! `tls` lies over a stream.

mod close;
pub mod datagram;
mod description;
pub mod endpoint;
mod info;
pub mod input;
pub mod listener;
pub mod outgoing;
pub mod pipe;
mod read;
mod start;
pub mod stream;
pub mod tls;
mod watching;
pub mod write;
