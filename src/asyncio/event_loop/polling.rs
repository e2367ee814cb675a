//! When the loop looks for events, and how it waits for them.
//!
//! ```text
//!   busy: a look without waiting, in each turn while events come, else every few microseconds
//!   idle: blocks until the next deadline; before that looks for a while, where few descriptors take turns, or
//!         naps, while a stream comes in
//! ```
//!
//! Owns nothing: what it remembers is the run's. What came is put behind what is ready; nothing is run here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;

use super::ready::{Entry, IoEvent};
use super::source::Source;
use super::turn::Run;
use super::{LoopCore, State};
use crate::asyncio::transport::endpoint::Endpoint;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::{event, Reactor};
use crate::engine::sys::clock::{monotonic_ns, nap};
use crate::engine::sys::poller::EventBuffer;
use crate::engine::sys::socket::receive_buffer_is_full;
use crate::engine::sys::ticks::TickRate;
use crate::py::error::os_error;

/// A loop that is busy with callbacks polls in each of its first turns, and then at this interval: a
/// poll costs more than a callback. The price is that an event may be seen so much later.
pub(super) const BUSY_POLL_INTERVAL: Duration = Duration::from_micros(8);
/// Events keep coming as long as the last one was seen so long ago at the most: they are looked for in each turn then, as
/// other loops do always. It costs short callbacks half of their rate.
pub(super) const EAGER_FOR: Duration = Duration::from_millis(10);
/// How many turns in a row must have had callbacks, and no events, before polls are spaced out. Programs that let
/// I/O happen by a few `sleep(0)` never get there.
const BUSY_TURNS: u32 = 32;
/// Room for so many entries stays with the ready queue of a loop that has nothing to do: 128 KiB.
const KEPT_ENTRIES: usize = 4096;

/// How long a thread naps while a stream comes in, in nanoseconds. It sleeps for longer, by up to the slack of its timers,
/// which is 50 us unless somebody has changed it, prctl(2).
const NAP: u64 = 10_000;
/// No nap when a timer is due within this time.
const LATEST_NAP: u64 = 500_000;

/// Of so many events after a nap it is asked whether the nap was too long.
const LOOKED_AT: usize = 4;

/// What a loop does until there are events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Block,
    /// Asks for them again and again, for some time.
    Spin,
    /// Sleeps without waiting for them, and asks once.
    Nap,
}

impl Run {
    /// How to wait now, at the most for `timeout`; looking for events before that is limited to `limit`.
    fn choose(&mut self, limit: u64, timeout: Option<u64>, bulk: bool) -> Wait {
        let spun = std::mem::take(&mut self.spun);
        if limit == 0 || spun || !self.spin.is_worthwhile() {
            Wait::Block
        } else if bulk && timeout.is_none_or(|timeout| timeout > LATEST_NAP) {
            if self.bulk.naps() {
                Wait::Nap
            } else {
                Wait::Block
            }
        } else {
            Wait::Spin
        }
    }

    /// Whether the events are those of descriptors that had some lately.
    fn is_among_few(&mut self) -> bool {
        let strangers =
            (0..self.events.len()).filter(|&index| !self.recent.knew(event(&self.events, index).token.slot()));
        strangers.count() == 0
    }
}

impl LoopCore {
    /// Looks for events without waiting, unless it looked a moment ago (false).
    #[inline]
    pub(super) fn poll_if_due(&self, py: Python<'_>, run: &mut Run, stopping: bool) -> PyResult<bool> {
        if std::mem::take(&mut run.fresh) && !stopping {
            return Ok(false);
        }
        run.busy_turns = run.busy_turns.saturating_add(1);
        if run.busy_turns > BUSY_TURNS && !run.eager && !stopping {
            // The time is what the last timed callback says. Since then there were at most a few short ones.
            let now = run.pace.last_look();
            if now == run.short_until {
                return Ok(false);
            }
            if now.saturating_sub(run.last_poll) < run.in_ticks.busy_poll_interval {
                // They are counted together, before the next poll, and apart from the last turn, which may be long.
                (run.short_turns, run.short_until) = (run.turns, now);
                return Ok(false);
            }
        }
        run.last_poll = self.end_of_turns(run);
        let outcome = run.reactor.wait(&mut run.events, Some(0));
        let now = self.poll_is_over(run);
        if !run.events.is_empty() {
            (run.last_events, run.eager) = (now, true);
        } else if now.saturating_sub(run.last_events) > run.in_ticks.eager_for {
            run.eager = false;
        }
        finish_poll(py, run, outcome).map(|()| true)
    }

    /// Waits for events until the next deadline, detached from the interpreter.
    pub(super) fn poll_and_wait(&self, py: Python<'_>, run: &mut Run, next_deadline: Option<u64>) -> PyResult<()> {
        (run.busy_turns, run.fresh) = (0, false);
        let start = self.end_of_turns(run);
        let limit = self.busy_poll_ns.load(Ordering::Relaxed);
        let timeout = next_deadline.map(|deadline| deadline.saturating_sub(monotonic_ns()));
        if timeout == Some(0) || !self.inbox.going_to_sleep() {
            let outcome = run.reactor.wait(&mut run.events, Some(0));
            self.poll_is_over(run);
            return finish_poll(py, run, outcome);
        }
        run.pace.rest();
        self.state(py, |state| {
            if state.ready.capacity() > KEPT_ENTRIES {
                state.ready.shrink_to(KEPT_ENTRIES);
            }
        });
        let bulk = run.bulk.is_taken_in(self.metrics.bytes_received.get(), self.metrics.bytes_sent.get());
        let wait = run.choose(limit, timeout, bulk);
        let (reactor, events) = (&*run.reactor, &mut run.events);
        let outcome = py.detach(|| match wait {
            Wait::Block => reactor.wait(events, timeout),
            Wait::Spin => ask_for(reactor, events, timeout.map_or(limit, |timeout| timeout.min(limit))),
            Wait::Nap => {
                nap(NAP);
                reactor.wait(events, Some(0))
            }
        });
        if self.inbox.woke_up() {
            self.metrics.wakeups.add(1);
            self.hand_over.found(self.state(py, |state| state.ready.len()));
        }
        if wait == Wait::Nap && self.peer_had_to_stop(py, run) {
            run.bulk.napped_too_long();
        }
        let waited = self.poll_is_over(run).saturating_sub(start);
        if wait == Wait::Spin { &self.metrics.spin_ticks } else { &self.metrics.idle_ticks }.add(waited);
        match outcome {
            // It never spins.
            Ok(_) if limit == 0 => {}
            Ok(count) if wait == Wait::Block => {
                let met = count > 0 && (run.is_among_few() || bulk);
                run.spin.blocked(met.then(|| TickRate::of_this_machine().ns(waited)), limit);
            }
            // A timer is due: nobody knows whether an event would have come.
            Ok(0) if timeout.is_some_and(|timeout| timeout <= limit) => {}
            Ok(0) => {
                run.spin.miss();
                run.spun = true;
            }
            Ok(_) if run.is_among_few() || bulk => run.spin.hit(),
            Ok(_) => run.spin.miss(),
            Err(_) => {}
        }
        finish_poll(py, run, outcome)
    }

    /// Whether one of the peers whose data has come, as the last poll says, cannot send more.
    fn peer_had_to_stop(&self, py: Python<'_>, run: &Run) -> bool {
        (0..run.events.len().min(LOOKED_AT)).any(|index| {
            let token = event(&run.events, index).token;
            let transport = self.state(py, |state| match state.sources.get(token) {
                Some(Source::Stream(transport)) => Some(transport.clone_ref(py).into_bound(py)),
                _ => None,
            });
            transport.is_some_and(|transport| {
                receive_buffer_is_full(transport.get().registration(py, |registration| registration.fd))
            })
        })
    }

    /// Puts the events of the last poll behind what is ready already, those that are wanted; returns how many.
    #[inline(always)]
    pub(super) fn queue_events(&self, py: Python<'_>, run: &Run, wanted: impl Fn(&State, Token) -> bool) -> usize {
        self.state(py, |state| {
            let before = state.ready.len();
            for event in (0..run.events.len()).map(|index| event(&run.events, index)) {
                // The waker has done its work by ending the poll.
                if event.token != Token::WAKER && wanted(state, event.token) {
                    state.ready.push_back(Entry::Io(IoEvent { token: event.token, readiness: event.readiness }));
                }
            }
            state.ready.len() - before
        })
    }
}

/// Looks for events until there are some, or the time is over, without ever blocking.
///
/// Signals do not interrupt it: the turn goes on after it, looks for them, and only the next one blocks.
fn ask_for(reactor: &Reactor, events: &mut EventBuffer, limit_ns: u64) -> crate::engine::Result<usize> {
    let mut end_ns = None;
    loop {
        let count = reactor.wait(events, Some(0))?;
        // Most find an event at the first time, and need no clock.
        if count > 0 || monotonic_ns() >= *end_ns.get_or_insert_with(|| monotonic_ns().saturating_add(limit_ns)) {
            return Ok(count);
        }
        std::hint::spin_loop();
    }
}

/// An interrupted poll is one without events: the signal's handlers run next.
pub(super) fn finish_poll(py: Python<'_>, run: &mut Run, outcome: crate::engine::Result<usize>) -> PyResult<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.errno == libc::EINTR => {
            run.events.clear();
            Ok(())
        }
        Err(error) => {
            run.events.clear();
            Err(os_error(py, &error))
        }
    }
}
