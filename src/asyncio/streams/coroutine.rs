//! `StreamCoroutine`: what the methods of readers and writers return, in the place of asyncio's coroutines.
//!
//! ```text
//!   New -> Waiting -> ... -> Ended       there is what was asked for
//!     |       |
//!     +-------+-> Handed -> Ended        asyncio's own coroutine goes on
//! ```
//!
//! It does what these coroutines do as long as there is nothing unusual, and leaves the rest to them: they start from the
//! beginning, and find in the stream what they would have found. Errors come out of their frames, too.

use std::mem;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::Borrowed;

use super::attributes::Attributes;
use super::draining::is_drained;
use super::reading::{forget_waiter, look, make_waiter, past_exception, resume_if_paused, Look};
use super::work::Work;
use crate::py::awaitable::{self, send_none, Awaitable, Step};
use crate::py::byte_array::{move_front, put_back, take_front, GrowingBytes};
use crate::py::call;
use crate::py::loop_owned::LoopOwned;
use crate::py::names::name;
use crate::py::recycled::{self, Kept, Recycled};

/// Makes the class ready for use.
pub fn set_up(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<StreamCoroutine>();
    awaitable::install::<StreamCoroutine>(&class);
    recycled::install::<StreamCoroutine>(&class)
}

enum State {
    New,
    /// For a future of the reader's, by its iterator.
    Waiting {
        iterator: Py<PyAny>,
        progress: Progress,
    },
    /// asyncio's coroutine does it.
    Handed(Py<PyAny>),
    /// A step is being made.
    Running,
    Ended,
}

/// What is known of a read that has waited.
#[derive(Default)]
struct Progress {
    /// See `Look::Wait`.
    searched: usize,
    /// What `ReadAll` has taken.
    collected: GrowingBytes,
}

/// See the module's documentation.
#[pyclass(frozen, weakref, module = "ironloop._native")]
pub struct StreamCoroutine {
    /// The reader, or the writer.
    stream: Py<PyAny>,
    work: Work,
    state: LoopOwned<State>,
}

impl Recycled for StreamCoroutine {
    fn kept() -> &'static Kept {
        static KEPT: Kept = Kept::new();
        &KEPT
    }

    /// What a coroutine does that is dropped: one that waits stops waiting, one that was never awaited warns of it.
    fn release(self, py: Python<'_>) {
        let Self { stream, work, state } = self;
        let stream = stream.into_bound(py);
        match state.into_inner() {
            State::New => quietly(py, || work.begin_by_asyncio(&stream).map(drop)),
            State::Waiting { iterator, progress } => {
                drop((iterator.into_bound(py), progress));
                quietly(py, || forget_waiter(&stream));
            }
            State::Handed(coroutine) => drop(coroutine.into_bound(py)),
            State::Running | State::Ended => {}
        }
        if let Work::ReadUntil(separator) = work {
            drop(separator.into_bound(py));
        }
    }
}

/// For a destructor: leaves the current exception alone, and tells of its own.
#[cold]
fn quietly(py: Python<'_>, body: impl FnOnce() -> PyResult<()>) {
    let pending = PyErr::take(py);
    if let Err(error) = body() {
        error.write_unraisable(py, None);
    }
    if let Some(error) = pending {
        error.restore(py);
    }
}

/// For who makes a task of a coroutine: `make` gets asyncio's own, if this is one of ours that has not begun.
///
/// # Errors
/// What asyncio's method raises, or `make`; the coroutine is as it was then.
#[inline]
pub fn with_coroutine_of<'py>(
    object: Borrowed<'_, 'py, PyAny>,
    make: impl FnOnce(Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Ok(ours) = object.cast_exact::<StreamCoroutine>() else { return make(object) };
    let Some(coroutine) = ours.get().give_up(object.py())? else { return make(object) };
    make(coroutine.as_borrowed()).inspect_err(|_| ours.get().take_back(&coroutine))
}

impl StreamCoroutine {
    #[inline]
    pub fn make<'py>(stream: Borrowed<'_, 'py, PyAny>, work: Work) -> PyResult<Bound<'py, PyAny>> {
        let py = stream.py();
        let stream = stream.to_owned().unbind();
        let make = || Self { stream, work, state: LoopOwned::new(State::New) };
        Ok(recycled::make(py, make, true)?.into_any())
    }

    /// Takes the state for a step.
    ///
    /// # Errors
    /// Those of a coroutine that runs, or has ended.
    #[inline]
    fn begin_step(&self, py: Python<'_>) -> PyResult<State> {
        match self.state.with(py, |state| mem::replace(state, State::Running)) {
            State::Running => Err(PyValueError::new_err("coroutine already executing")),
            State::Ended => {
                self.turn(py, State::Ended);
                Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"))
            }
            state => Ok(state),
        }
    }

    /// The state was taken.
    #[inline]
    fn turn(&self, py: Python<'_>, next: State) {
        let previous = self.state.with(py, |state| mem::replace(state, next));
        debug_assert!(matches!(previous, State::Running));
    }

    /// The first step.
    #[inline]
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Step<'py>> {
        if !matches!(self.work, Work::Drain) {
            return self.read(py, false, Progress::default());
        }
        let writer = self.stream.bind(py);
        if is_drained(writer).unwrap_or(false) {
            return Ok(Step::Return(py.None().into_bound(py)));
        }
        self.hand_to(self.work.begin_by_asyncio(writer)?)
    }

    /// Takes what is to be read, or waits for it. `waited`: see `look`.
    fn read<'py>(&self, py: Python<'py>, waited: bool, progress: Progress) -> PyResult<Step<'py>> {
        let reader = self.stream.bind(py);
        let (mut waited, mut progress) = (waited, progress);
        loop {
            match look(reader, &self.work, waited, progress.searched).unwrap_or(Look::HandOver) {
                Look::Take { attributes, buffer, count } if !matches!(self.work, Work::ReadAll) => {
                    let data = take_front(&buffer, count)?;
                    resume_if_paused(reader, &attributes)?;
                    return Ok(Step::Return(data));
                }
                Look::Take { attributes, count: 0, .. } => {
                    resume_if_paused(reader, &attributes)?;
                    return progress.collected.finish(py).map(Step::Return);
                }
                Look::Take { attributes, buffer, count } => {
                    move_front(&buffer, count, &mut progress.collected)?;
                    resume_if_paused(reader, &attributes)?;
                    waited = false;
                }
                Look::Wait { attributes, searched } => {
                    progress.searched = searched;
                    match self.wait(make_waiter(py, &attributes)?, progress)? {
                        Waited::Step(step) => return Ok(step),
                        Waited::Done(so_far) => (waited, progress) = (true, so_far),
                    }
                }
                Look::HandOver => return self.hand_over(reader, waited, progress),
            }
        }
    }

    /// A step of the future that is waited for.
    fn wait<'py>(&self, iterator: Bound<'py, PyAny>, progress: Progress) -> PyResult<Waited<'py>> {
        let py = iterator.py();
        match send_none(&iterator) {
            Ok(Step::Yield(future)) => {
                self.turn(py, State::Waiting { iterator: iterator.unbind(), progress });
                Ok(Waited::Step(Step::Yield(future)))
            }
            Ok(Step::Return(_)) => forget_waiter(self.stream.bind(py)).map(|()| Waited::Done(progress)),
            Err(error) => forget_waiter(self.stream.bind(py)).and(Err(error)),
        }
    }

    /// asyncio's coroutine begins, with what was taken in its place again. `waited`: it would not look for an exception any more.
    #[cold]
    fn hand_over<'py>(&self, reader: &Bound<'py, PyAny>, waited: bool, progress: Progress) -> PyResult<Step<'py>> {
        let py = reader.py();
        if !progress.collected.is_empty() {
            let buffer = reader.getattr(name!(py, "_buffer"))?;
            put_back(buffer.cast()?, &progress.collected.finish(py)?)?;
        }
        let coroutine = self.work.begin_by_asyncio(reader)?;
        if waited {
            past_exception(reader, || self.hand_to(coroutine))?
        } else {
            self.hand_to(coroutine)
        }
    }

    /// A step of asyncio's coroutine.
    fn hand_to<'py>(&self, coroutine: Bound<'py, PyAny>) -> PyResult<Step<'py>> {
        let step = send_none(&coroutine)?;
        if let Step::Yield(_) = step {
            self.turn(coroutine.py(), State::Handed(coroutine.unbind()));
        }
        Ok(step)
    }

    /// For an exception that comes while this waits: it is raised where asyncio's coroutine waits, from whose frames it comes then.
    fn throw_into_waiting<'py>(
        &self,
        iterator: &Bound<'py, PyAny>,
        exception: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.stream.bind(iterator.py());
        forget_waiter(reader)?;
        let place = self.waiting_coroutine(reader).unwrap_or(None);
        call::call_method(place.as_ref().unwrap_or(iterator), name!(reader.py(), "throw"), exception)
    }

    /// asyncio's coroutine, waiting; `None` if it would not, as there is enough to be read.
    fn waiting_coroutine<'py>(&self, reader: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = reader.py();
        let Some(attributes) = Attributes::of_ours(reader)? else { return Ok(None) };
        if attributes.is_set(name!(py, "_paused"))? {
            return Ok(None);
        }
        past_exception(reader, || {
            let coroutine = match look(reader, &self.work, false, 0) {
                Ok(Look::Wait { .. }) => self.work.begin_by_asyncio(reader).ok()?,
                _ => return None,
            };
            matches!(send_none(&coroutine), Ok(Step::Yield(_))).then_some(coroutine)
        })
    }

    /// asyncio's coroutine, if it does the work.
    fn handed<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| match state {
            State::Handed(coroutine) => Some(coroutine.bind(py).clone()),
            _ => None,
        })
    }

    /// An attribute of asyncio's coroutine before it begins.
    fn of_asyncios<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        let coroutine = self.work.begin_by_asyncio(self.stream.bind(py))?;
        let value = coroutine.getattr(name);
        call::call_method0(py, coroutine.as_unbound(), name!(py, "close").as_unbound())?;
        value
    }

    /// See `with_coroutine_of`.
    fn give_up<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_new = self.state.with(py, |state| {
            let is_new = matches!(state, State::New);
            if is_new {
                *state = State::Ended;
            }
            is_new
        });
        is_new.then(|| self.work.begin_by_asyncio(self.stream.bind(py))).transpose()
    }

    /// The opposite of `give_up`.
    #[cold]
    fn take_back(&self, coroutine: &Bound<'_, PyAny>) {
        let py = coroutine.py();
        quietly(py, || {
            call::call_method0(py, coroutine.as_unbound(), name!(py, "close").as_unbound())?;
            self.state.with(py, |state| *state = State::New);
            Ok(())
        });
    }
}

/// What came of waiting.
enum Waited<'py> {
    /// It goes on.
    Step(Step<'py>),
    /// There is something to be looked at.
    Done(Progress),
}

impl Awaitable for StreamCoroutine {
    fn begin<'py>(slf: Borrowed<'_, 'py, Self>) -> PyResult<()> {
        let free = slf.get().state.with(slf.py(), |state| matches!(state, State::New | State::Ended));
        if free {
            Ok(())
        } else {
            Err(PyRuntimeError::new_err("coroutine is being awaited already"))
        }
    }

    fn step<'py>(slf: Borrowed<'_, 'py, Self>, sends_none: bool) -> PyResult<Step<'py>> {
        let (this, py) = (slf.get(), slf.py());
        let outcome = match this.begin_step(py)? {
            State::New if !sends_none => {
                this.turn(py, State::New);
                return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
            }
            State::Waiting { iterator, progress } => match this.wait(iterator.into_bound(py), progress) {
                Ok(Waited::Step(step)) => Ok(step),
                Ok(Waited::Done(progress)) => this.read(py, true, progress),
                Err(error) => Err(error),
            },
            State::Handed(coroutine) => this.hand_to(coroutine.into_bound(py)),
            State::New | State::Running | State::Ended => this.begin(py),
        };
        if !matches!(outcome, Ok(Step::Yield(_))) {
            this.turn(py, State::Ended);
        }
        outcome
    }
}

/// What asyncio's coroutines have.
#[pymethods]
impl StreamCoroutine {
    #[getter(__name__)]
    fn method(&self) -> &'static str {
        self.work.names().1
    }

    #[getter(__qualname__)]
    fn class_and_method(&self) -> String {
        let (class, method) = self.work.names();
        format!("{class}.{method}")
    }

    /// Where asyncio's coroutine would be: at its beginning, or where it is.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.handed(py) {
            Some(coroutine) => coroutine.getattr(name!(py, "cr_frame")).map(Some),
            None if self.state.with(py, |state| matches!(state, State::Ended)) => Ok(None),
            None => self.of_asyncios(name!(py, "cr_frame")).map(Some),
        }
    }

    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.handed(py) {
            Some(coroutine) => coroutine.getattr(name!(py, "cr_await")).map(Some),
            None => Ok(self.state.with(py, |state| match state {
                State::Waiting { iterator, .. } => Some(iterator.bind(py).clone()),
                _ => None,
            })),
        }
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.cr_state(py) == "CORO_RUNNING"
    }

    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        self.cr_state(py) == "CORO_SUSPENDED"
    }

    /// Since Python 3.15; before that `inspect` tells it from the others.
    #[getter]
    fn cr_state(&self, py: Python<'_>) -> &'static str {
        self.state.with(py, |state| match state {
            State::New => "CORO_CREATED",
            State::Waiting { .. } | State::Handed(_) => "CORO_SUSPENDED",
            State::Running => "CORO_RUNNING",
            State::Ended => "CORO_CLOSED",
        })
    }

    /// Only debug mode knows it, which has asyncio's own coroutines.
    #[getter]
    const fn cr_origin(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.of_asyncios(name!(py, "cr_code"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().class_and_method(), slf.as_ptr())
    }

    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        <Self as Awaitable>::begin(slf.as_borrowed())?;
        Ok(slf.clone().unbind())
    }

    /// For `yield from` what `__await__` returns.
    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::send(slf, slf.py().None().bind(slf.py()))
    }

    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match Self::step(slf.as_borrowed(), value.is_none())? {
            Step::Yield(value) => Ok(value),
            Step::Return(value) => Err(PyStopIteration::new_err((value.unbind(),))),
        }
    }

    /// `throw(value)`, or `throw(type, value, traceback)`.
    #[pyo3(signature = (*exception))]
    fn throw<'py>(slf: &Bound<'py, Self>, exception: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let state = this.begin_step(py)?;
        if let State::Handed(coroutine) = state {
            let coroutine = coroutine.into_bound(py);
            let outcome = call::call_method(&coroutine, name!(py, "throw"), exception);
            this.turn(py, if outcome.is_ok() { State::Handed(coroutine.unbind()) } else { State::Ended });
            return outcome;
        }
        this.turn(py, State::Ended);
        match state {
            State::Waiting { iterator, .. } => this.throw_into_waiting(iterator.bind(py), exception),
            _ => {
                let coroutine = this.work.begin_by_asyncio(this.stream.bind(py))?;
                call::call_method(&coroutine, name!(py, "throw"), exception)
            }
        }
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        if this.state.with(py, |state| matches!(state, State::Ended)) {
            return Ok(());
        }
        let state = this.begin_step(py)?;
        this.turn(py, State::Ended);
        match state {
            State::Waiting { .. } => forget_waiter(this.stream.bind(py)),
            State::Handed(coroutine) => call::call_method0(py, &coroutine, name!(py, "close").as_unbound()).map(drop),
            State::New | State::Running | State::Ended => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.stream)?;
        let visited = self.state.visit(|state| match state {
            State::Waiting { iterator: object, .. } | State::Handed(object) => visit.call(&*object),
            State::New | State::Running | State::Ended => Ok(()),
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.visit(|state| match state {
            State::Waiting { .. } | State::Handed(_) => Some(mem::replace(state, State::Ended)),
            State::New | State::Running | State::Ended => None,
        }));
    }
}
