//! Many events at once.
//!
//! Thousands of connections do not fit into a processor's nearest caches. Two things keep the cost of an event from growing
//! with their number as far as that is in the loop's hands: the kernel, which looks at each socket when it reports it, is
//! asked for a few events at a time, so that what it looked at is still near when the event is handled; and the memory of the
//! transport whose turn comes next is asked for while this one's system calls run.

use pyo3::prelude::*;

use super::polling::finish_poll;
use super::ready::Entry;
use super::source::Source;
use super::turn::Run;
use super::{report, LoopCore, State};
use crate::engine::reactor::event;
use crate::engine::reactor::registry::Token;
use crate::engine::sys::cache::prefetch;
use crate::engine::sys::poller::EventBuffer;

/// Events taken from the kernel at once.
pub const EVENTS_PER_POLL: usize = 64;
/// Polls of one turn at the most, while each is full: up to 512 events come before the timers that are due, and before what
/// the callbacks of the first of them have scheduled, as all of them do in asyncio.
const POLLS_PER_TURN: usize = 8;
/// With fewer descriptors all of it is in the cache still.
const MANY: usize = 256;
/// What of an object of the program's is asked for: its head, and the first of its attributes.
const HEAD_BYTES: usize = 128;

impl State {
    pub fn is_crowded(&self) -> bool {
        self.sources.len() >= MANY
    }

    /// Asks for the memory that the next two events will be handled with.
    pub fn look_ahead(&self) {
        if let Some(Source::Stream(transport)) = self.source_of(0) {
            for object in transport.get().needed_for_reading() {
                prefetch(object, HEAD_BYTES);
            }
        }
        if let Some(Source::Stream(transport)) = self.source_of(1) {
            prefetch(transport.get(), size_of_val(transport.get()));
        }
    }

    /// Whether the kernel would not repeat an event of this source, or it does no harm to handle two in a turn. The callback
    /// of a watcher may have left it to a callback of its own to take what is there.
    fn is_told_once(&self, token: Token) -> bool {
        matches!(self.sources.get(token), Some(Source::Stream(_) | Source::Socket(_)))
    }

    /// Whose event an entry of the ready queue is.
    fn source_of(&self, index: usize) -> Option<&Source> {
        match self.ready.get(index) {
            Some(Entry::Io(event)) => self.sources.get(event.token),
            _ => None,
        }
    }
}

/// Who had an event in this turn, by slot.
#[derive(Default)]
pub struct Seen(Vec<u64>);

impl Seen {
    fn contains(&self, token: Token) -> bool {
        self.0.get(token.slot() as usize / 64).is_some_and(|word| word & 1 << (token.slot() % 64) != 0)
    }

    /// Takes note of what a poll has brought.
    fn note(&mut self, events: &EventBuffer) {
        let tokens = (0..events.len()).map(|index| event(events, index).token);
        for token in tokens.filter(|&token| token != Token::WAKER) {
            let word = token.slot() as usize / 64;
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            self.0[word] |= 1 << (token.slot() % 64);
        }
    }
}

impl LoopCore {
    /// `run_batch` among many descriptors.
    #[inline(never)]
    pub(super) fn run_crowd(&self, slf: &Bound<'_, Self>, run: &mut Run, count: usize) -> PyResult<()> {
        self.run_batch::<true>(slf, run, count)
    }

    /// Runs a turn whose poll was full, so that there may be more: the first `count` entries, the events of further polls, then
    /// the timers, which come behind the first entries.
    #[cold]
    pub(super) fn run_portions(&self, slf: &Bound<'_, Self>, run: &mut Run, count: usize) -> PyResult<()> {
        let py = slf.py();
        let timers = self.ready_count(py) - count;
        let mut seen = Seen::default();
        seen.note(&run.events);
        self.run_crowd(slf, run, count)?;
        for _ in 1..POLLS_PER_TURN {
            let fresh = self.poll_again(slf, run, &mut seen)?;
            self.run_crowd(slf, run, fresh)?;
            // A full poll may have brought the waker, or what came before: there may be more all the same.
            if fresh == 0 || run.events.len() < EVENTS_PER_POLL {
                break;
            }
        }
        self.run_crowd(slf, run, timers)
    }

    /// Puts further events before what is ready; returns how many.
    fn poll_again(&self, slf: &Bound<'_, Self>, run: &mut Run, seen: &mut Seen) -> PyResult<usize> {
        let py = slf.py();
        if run.reactor.is_inherited() {
            // A callback has forked this process: the next turn sees to it.
            return Ok(0);
        }
        let trace_from = self.is_tracing().then(Self::now);
        run.last_poll = self.end_of_turns(run);
        let outcome = run.reactor.wait(&mut run.events, Some(0));
        self.poll_is_over(run);
        // In the metrics each portion is a turn.
        run.turns += 1;
        finish_poll(py, run, outcome)?;
        if let Some(start) = trace_from {
            report::traced(slf, "poll", start, run.events.len())?;
        }
        // A watcher's two directions may be two events of one poll (kqueue).
        let fresh = self.queue_events(py, run, |state, token| !seen.contains(token) || state.is_told_once(token));
        seen.note(&run.events);
        self.state(py, |state| state.ready.rotate_right(fresh));
        Ok(fresh)
    }
}
