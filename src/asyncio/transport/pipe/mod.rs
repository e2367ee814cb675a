//! Pipes: transports of one direction, for pipes, FIFOs, sockets, terminals and other character devices.
//!
//! Both are level-triggered. A terminal or device may report an end and go on; asking the kernel in every poll is what
//! asyncio does, and costs no more system calls than edges would. `reading` and `writing` hold the classes, `output` is what
//! a writing end does.

mod output;
pub mod reading;
pub mod writing;
