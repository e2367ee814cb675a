//! From a descriptor into a new `bytes`: how streams and pipes receive.
//!
//! Small messages go through the loop's buffer; once a read has been large, the kernel is asked how much there is,
//! and it is received straight into memory of that size. Nothing is allocated larger than what is there, or was there the last
//! time (`engine::stream::read_size`).

use pyo3::prelude::*;

use crate::asyncio::event_loop::LoopCore;
use crate::engine;
use crate::engine::stream::read_size::ReadPlan;
use crate::engine::sys::file;
use crate::engine::sys::socket::StreamSource;
use crate::py::buffer::bytes_filled_by;
use crate::py::kept_bytes::BLOCK;

/// How a read into memory ended.
pub enum Received<T> {
    Data(T),
    EndOfStream,
    Nothing,
    Failed(engine::Error),
}

/// What a read could have brought.
pub struct Offer {
    /// How much would have found room.
    pub capacity: usize,
    /// What the kernel had beyond that; `None`: it was not asked.
    pub left: Option<usize>,
    /// The read stopped short of something.
    pub stopped: bool,
    /// It went on after it had brought something, and this is what the kernel will not say again: the outcome of the next read.
    pub failed: Option<engine::Error>,
}

impl Offer {
    /// Of `capacity` bytes, without a question to the kernel.
    pub const fn of(capacity: usize, stopped: bool) -> Self {
        Self { capacity, left: None, stopped, failed: None }
    }

    /// Whether there may be more behind the `count` bytes that came. What arrives after the kernel was asked is an edge
    /// of its own.
    pub fn leaves_more(&self, count: usize) -> bool {
        self.stopped || self.failed.is_some() || count == self.capacity && self.left != Some(0)
    }

    /// How much more there is at the least.
    pub fn known_left(&self, count: usize) -> usize {
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
        ReadPlan::Most => return receive_block(py, event_loop, source),
    };
    if available == 0 {
        receive_small(py, event_loop, source)
    } else {
        let capacity = available.min(largest);
        receive_large(py, source, capacity, Some(available - capacity))
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
    capacity: usize,
    left: Option<usize>,
) -> PyResult<(Received<Bound<'py, PyAny>>, Offer)> {
    let mut stopped = false;
    let outcome = bytes_filled_by(py, capacity, |memory| {
        let count;
        (count, stopped) = source.read_uninit(memory).map_err(ReceiveError::Kernel)?;
        Ok(count)
    });
    Ok((received(outcome)?, Offer { capacity, left, stopped, failed: None }))
}

/// Of a stream that fills whole blocks: goes on until the block is full or nothing is left. Pieces that are taken right after they
/// were sent are copied faster than what has become old, by a sixth, and the program is called less often.
fn receive_block<'py>(
    py: Python<'py>,
    event_loop: &LoopCore,
    source: StreamSource,
) -> PyResult<(Received<Bound<'py, PyAny>>, Offer)> {
    let mut offer = Offer::of(BLOCK, false);
    let outcome = event_loop.kept_bytes.filled_block(py, |memory| {
        let mut count;
        (count, offer.stopped) = source.read_uninit(memory).map_err(ReceiveError::Kernel)?;
        while source.is_tcp() && count > 0 && count < BLOCK {
            match source.read_uninit(&mut memory[count..]) {
                // The end of the stream is told again.
                Ok((0, _)) => {
                    offer.stopped = true;
                    break;
                }
                Ok((more, _)) => count += more,
                Err(error) if error.would_block() => break,
                Err(error) => {
                    offer.failed = Some(error);
                    break;
                }
            }
        }
        Ok(count)
    });
    Ok((received(outcome)?, offer))
}

fn received(outcome: Result<Bound<'_, PyAny>, ReceiveError>) -> PyResult<Received<Bound<'_, PyAny>>> {
    Ok(match outcome {
        Ok(data) if data.len()? == 0 => Received::EndOfStream,
        Ok(data) => Received::Data(data),
        Err(ReceiveError::Kernel(error)) if error.would_block() => Received::Nothing,
        Err(ReceiveError::Kernel(error)) => Received::Failed(error),
        Err(ReceiveError::Python(error)) => return Err(error),
    })
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
