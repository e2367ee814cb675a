//! The face that asyncio sees: the loop, its handles and its transports.
//!
//! Nothing in this folder is `unsafe`: the interpreter is reached through `crate::py`, the kernel
//! through `crate::engine`.

pub mod callback;
pub mod event_loop;
pub mod handle;
pub mod jobs;
pub mod protocol;
pub mod run_guard;
pub mod streams;
pub mod timer_handle;
pub mod transport;
