//! What is in a reader's buffer, and whether it is enough: as asyncio's methods of the same names decide it.
//!
//! What these methods raise is not decided here: it is `Look::HandOver`.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyByteArrayMethods};

use super::attributes::Attributes;
use super::known::classes;
use super::work::Work;
use crate::py::awaitable::iterate;
use crate::py::byte_array::find as find_in;
use crate::py::call;
use crate::py::imports::imports;
use crate::py::names::name;
use crate::py::objects;

/// What is to be done now.
pub enum Look<'py> {
    Take {
        attributes: Attributes<'py>,
        buffer: Bound<'py, PyByteArray>,
        count: usize,
    },
    /// In the first bytes of the buffer, `searched` of them, there is no separator.
    Wait {
        attributes: Attributes<'py>,
        searched: usize,
    },
    /// asyncio's coroutine does it.
    HandOver,
}

/// How much of the buffer there is to take.
enum Found {
    Bytes(usize),
    /// Not enough; `searched` as above.
    Missing {
        searched: usize,
    },
    /// Too much of it.
    TooMuch,
}

/// Changes nothing, and runs no Python code. `waited`: at least once, `searched`: by then.
///
/// # Errors
/// Whatever means `HandOver`.
#[inline]
pub fn look<'py>(reader: &Bound<'py, PyAny>, work: &Work, waited: bool, searched: usize) -> PyResult<Look<'py>> {
    let py = reader.py();
    let Some(classes) = classes(py) else { return Ok(Look::HandOver) };
    if !reader.get_type().is(&classes.reader) || !classes.are_unchanged(py)? {
        return Ok(Look::HandOver);
    }
    let Some(attributes) = Attributes::of_ours(reader)? else { return Ok(Look::HandOver) };
    if !waited && !attributes.get(name!(py, "_exception"))?.is_none() {
        return Ok(Look::HandOver);
    }
    let buffer = attributes.buffer(py)?;
    let searched = match find(&attributes, &buffer, work, waited, searched)? {
        Found::Bytes(count) => return Ok(Look::Take { attributes, buffer, count }),
        Found::TooMuch => return Ok(Look::HandOver),
        Found::Missing { searched } => searched,
    };
    let eof = attributes.is_set(name!(py, "_eof"))?;
    if eof && matches!(work, Work::Read(_) | Work::ReadAll) {
        return Ok(Look::Take { attributes, buffer, count: 0 });
    }
    if eof || !attributes.get(name!(py, "_waiter"))?.is_none() {
        return Ok(Look::HandOver);
    }
    Ok(Look::Wait { attributes, searched })
}

#[inline]
fn find(
    attributes: &Attributes<'_>,
    buffer: &Bound<'_, PyByteArray>,
    work: &Work,
    waited: bool,
    searched: usize,
) -> PyResult<Found> {
    let py = buffer.py();
    let held = buffer.len();
    let separator = match work {
        // `read` waits once, and takes what is there then.
        Work::Read(count) if waited || held > 0 => return Ok(Found::Bytes(held.min(*count))),
        Work::ReadExactly(count) if held >= *count => return Ok(Found::Bytes(*count)),
        Work::ReadAll if waited || held > 0 => return Ok(Found::Bytes(held)),
        Work::Read(_) | Work::ReadAll | Work::ReadExactly(_) => return Ok(Found::Missing { searched }),
        Work::Drain => return Ok(Found::TooMuch),
        Work::ReadLine => b"\n",
        Work::ReadUntil(separator) => separator.bind(py).as_bytes(),
    };
    if held.saturating_sub(searched) < separator.len() {
        return Ok(Found::Missing { searched });
    }
    let limit: usize = attributes.get(name!(py, "_limit"))?.extract()?;
    Ok(match find_in(buffer, separator, searched) {
        Some(start) if start <= limit => Found::Bytes(start + separator.len()),
        None if held + 1 - separator.len() <= limit => Found::Missing { searched: held + 1 - separator.len() },
        _ => Found::TooMuch,
    })
}

/// Bytes were taken out of the buffer: reading goes on if it was paused, and there is little enough left.
///
/// # Errors
/// What resuming raises.
#[inline]
pub fn resume_if_paused<'py>(reader: &Bound<'py, PyAny>, attributes: &Attributes<'py>) -> PyResult<()> {
    let py = reader.py();
    if attributes.is_set(name!(py, "_paused"))? {
        call::call_method0(py, reader.as_unbound(), name!(py, "_maybe_resume_transport").as_unbound())?;
    }
    Ok(())
}

/// A future that ends when there is more, as it is awaited; reading goes on if it was paused.
#[inline]
pub fn make_waiter<'py>(py: Python<'py>, attributes: &Attributes<'py>) -> PyResult<Bound<'py, PyAny>> {
    if attributes.is_set(name!(py, "_paused"))? {
        attributes.set(name!(py, "_paused"), PyBool::new(py, false).as_any())?;
        let transport = attributes.get(name!(py, "_transport"))?;
        call::call_method0(py, transport.as_unbound(), name!(py, "resume_reading").as_unbound())?;
    }
    let event_loop = attributes.get(name!(py, "_loop"))?;
    let future = call::call_method0(py, event_loop.as_unbound(), name!(py, "create_future").as_unbound())?;
    attributes.set(name!(py, "_waiter"), &future)?;
    awaited(&future).or_else(|error| attributes.set(name!(py, "_waiter"), py.None().bind(py)).and(Err(error)))
}

/// What `await future` goes through.
#[inline]
fn awaited<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = future.py();
    match &imports(py)?.accelerated {
        Some(accelerated) if future.get_type().is(&accelerated.future) => iterate(future),
        _ => call::call_method0(py, future.as_unbound(), name!(py, "__await__").as_unbound()),
    }
}

/// `reader._waiter = None`.
pub fn forget_waiter(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = reader.py();
    let none = py.None().into_bound(py);
    if classes(py).is_some_and(|classes| reader.get_type().is(&classes.reader)) {
        objects::dict_of(reader)?.set_item(name!(py, "_waiter"), none)
    } else {
        reader.setattr(name!(py, "_waiter"), none)
    }
}

/// Runs `body` while the reader has no exception, which asyncio's coroutines raise when they begin.
pub fn past_exception<R>(reader: &Bound<'_, PyAny>, body: impl FnOnce() -> R) -> PyResult<R> {
    let py = reader.py();
    let name = name!(py, "_exception");
    let exception = reader.getattr(name)?;
    if exception.is_none() {
        return Ok(body());
    }
    reader.setattr(name, py.None().bind(py))?;
    let result = body();
    reader.setattr(name, exception)?;
    Ok(result)
}
