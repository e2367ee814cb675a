//! Pipes: transports of one direction, for pipes, FIFOs, sockets, terminals and other character devices.
//!
//! Both are level-triggered. A terminal or device may report an end and go on; asking the kernel in every poll is what
//! asyncio does, and costs no more system calls than edges would. `reading` and `writing` hold the classes, `output` is what
//! a writing end does.

mod output;
pub mod reading;
pub mod writing;

/// What a pipe is grown to once it has been full: a child that is fed or read in bulk then switches with us a quarter as
/// often. Not from the start, as the kernel counts the memory of all pipes of a user (pipe-user-pages-soft, pipe(7)).
const GROWN_PIPE: usize = 256 * 1024;
