//! From a descriptor into a new `bytes`: how streams and pipes receive.
//!
//! Small messages go through the loop's buffer; once a read has been large, the kernel is asked how much there is,
//! and it is received straight into memory of that size. Nothing is ever allocated larger than what is there.

use pyo3::prelude::*;

use crate::asyncio::event_loop::LoopCore;
use crate::engine;
use crate::engine::stream::read_size::ReadPlan;
use crate::engine::sys::file;
use crate::engine::sys::socket::StreamSource;
use crate::py::buffer::bytes_filled_by;

/// How a read into memory ended.
pub enum Received<T> {
    Data(T),
    EndOfStream,
    Nothing,
    Failed(engine::Error),
}

/// What a read could have brought.
#[derive(Clone, Copy)]
pub struct Offer {
    /// How much would have found room.
    pub capacity: usize,
    /// What the kernel had beyond that; `None`: it was not asked.
    pub left: Option<usize>,
    /// The read stopped short of something.
    pub stopped: bool,
}

impl Offer {
    /// Of `capacity` bytes, without a question to the kernel.
    pub const fn of(capacity: usize, stopped: bool) -> Self {
        Self { capacity, left: None, stopped }
    }

    /// Whether there may be more behind the `count` bytes that came. What arrives after the kernel was asked is an edge
    /// of its own.
    pub fn leaves_more(self, count: usize) -> bool {
        self.stopped || count == self.capacity && self.left != Some(0)
    }

    /// How much more there is at the least.
    pub fn known_left(self, count: usize) -> usize {
        if count == self.capacity {
            self.left.unwrap_or_default()
        } else {
            0
        }
    }
}

/// Receives once, at most `largest` bytes or those that fit into the loop's buffer.
///
/// # Errors
/// `MemoryError`; what was received may be lost then, and the connection with it.
#[inline]
pub fn receive<'py>(
    py: Python<'py>,
    event_loop: &LoopCore,
    source: StreamSource,
    plan: ReadPlan,
    largest: usize,
) -> PyResult<(Received<Bound<'py, PyAny>>, Offer)> {
    let available = match plan {
        ReadPlan::Scratch => 0,
        ReadPlan::Exact => file::bytes_available(source.fd()).unwrap_or_default(),
        ReadPlan::Known(available) => available,
    };
    if available == 0 {
        receive_small(py, event_loop, source)
    } else {
        receive_large(py, source, available, largest)
    }
}

fn receive_small<'py>(
    py: Python<'py>,
    event_loop: &LoopCore,
    source: StreamSource,
) -> PyResult<(Received<Bound<'py, PyAny>>, Offer)> {
    event_loop.scratch(py, |scratch| {
        let mut stopped = false;
        let received = match source.read(scratch) {
            Ok((0, _)) => Received::EndOfStream,
            Ok((count, stopped_here)) => {
                stopped = stopped_here;
                Received::Data(event_loop.kept_bytes.bytes(py, &scratch[..count])?)
            }
            Err(error) if error.would_block() => Received::Nothing,
            Err(error) => Received::Failed(error),
        };
        Ok((received, Offer::of(scratch.len(), stopped)))
    })
}

fn receive_large<'py>(
    py: Python<'py>,
    source: StreamSource,
    available: usize,
    largest: usize,
) -> PyResult<(Received<Bound<'py, PyAny>>, Offer)> {
    let capacity = available.min(largest);
    let mut stopped = false;
    let outcome = bytes_filled_by(py, capacity, |memory| {
        let count;
        (count, stopped) = source.read_uninit(memory).map_err(ReceiveError::Kernel)?;
        Ok(count)
    });
    let received = match outcome {
        Ok(data) if data.len()? == 0 => Received::EndOfStream,
        Ok(data) => Received::Data(data),
        Err(ReceiveError::Kernel(error)) if error.would_block() => Received::Nothing,
        Err(ReceiveError::Kernel(error)) => Received::Failed(error),
        Err(ReceiveError::Python(error)) => return Err(error),
    };
    Ok((received, Offer { capacity, left: Some(available - capacity), stopped }))
}

/// What can go wrong between the kernel and an object's memory.
pub enum ReceiveError {
    Kernel(engine::Error),
    Python(PyErr),
}

impl From<PyErr> for ReceiveError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}
