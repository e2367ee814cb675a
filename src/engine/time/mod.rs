//! Deadlines.
//!
//! Times are nanoseconds of CLOCK_MONOTONIC (`sys/clock.rs`), given as arguments: nothing in here reads a clock, so
//! tests make time pass as they like.

pub mod timer_heap;
