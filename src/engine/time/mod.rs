//! Deadlines.

pub mod timer_heap;
