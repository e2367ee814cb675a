//! The engine: reactor, timers, streams and system calls. Knows nothing of Python.
//!
//! State machines do no I/O of their own: events go in, small action values come out, time is an
//! argument. System calls are in `sys`, the only folder of the engine with `unsafe` code.

pub mod completions;
pub mod datagram;
pub mod error;
pub mod hand_over;
pub mod metrics;
pub mod pool;
pub mod reactor;
pub mod stream;
pub mod sys;
pub mod time;
pub mod tls;

pub use error::{Error, Result};
