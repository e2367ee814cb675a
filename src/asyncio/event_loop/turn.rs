//! The turn: what the loop does over and over while it runs.
//!
//! ```text
//!   inbox -> timeout -> poll -> inbox -> events and due timers join the ready queue
//!         -> run exactly what is in the queue now, flushing gathered writes after each callback
//! ```
//!
//! What the callbacks of events have scheduled runs before the next poll, which then knows whether to wait. Otherwise
//! this is asyncio's order: callbacks that were scheduled before the poll, then I/O in the order the
//! kernel gave, then timers by deadline. What they schedule waits for the next turn. If a callback
//! ends the run, the rest of the batch stays in the queue for the next run; no event is lost.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::ready::{track_handles, Entry, IoEvent, Ran};
use super::{report, Gathered, LoopCore};
use crate::asyncio::transport::stream::StreamTransport;
use crate::engine::metrics::pace::{Lap, Pace};
use crate::engine::reactor::bulk::Bulk;
use crate::engine::reactor::registry::Token;
use crate::engine::reactor::spin::{Recent, Spin};
use crate::engine::reactor::{event, Reactor};
use crate::engine::sys::clock::{monotonic_ns, nap};
use crate::engine::sys::poller::EventBuffer;
use crate::engine::sys::ticks::{ticks, TickRate};
use crate::py::call::{self, check_signals};
use crate::py::class::track;
use crate::py::error::os_error;
use crate::py::thread_end::StayHere;

/// A loop that is busy with callbacks polls in each of its first turns, and then at this interval: a
/// poll costs more than a callback. The price is that an event may be seen so much later.
const BUSY_POLL_INTERVAL: Duration = Duration::from_micros(8);
/// Events keep coming as long as the last one was seen so long ago at the most: they are looked for in each turn then, as
/// other loops do always. It costs short callbacks half of their rate.
const EAGER_FOR: Duration = Duration::from_millis(10);
/// How many turns in a row must have had callbacks, and no events, before polls are spaced out. Programs that let
/// I/O happen by a few `sleep(0)` never get there.
const BUSY_TURNS: u32 = 32;
/// Room for so many entries stays with the ready queue of a loop that has nothing to do: 128 KiB.
const KEPT_ENTRIES: usize = 4096;
/// What takes less than this is never slow, whatever `slow_callback_duration` is.
const PERHAPS_SLOW: Duration = Duration::from_millis(1);

/// How long a thread naps while a stream comes in, in nanoseconds. It sleeps for longer, by up to the slack of its timers,
/// which is 50 us unless somebody has changed it, prctl(2).
const NAP: u64 = 10_000;
/// No nap when a timer is due within this time.
const LATEST_NAP: u64 = 500_000;

/// What a loop does until there are events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Block,
    /// Asks for them again and again, for some time.
    Spin,
    /// Sleeps without waiting for them, and asks once.
    Nap,
}

/// What a run remembers from turn to turn.
struct Run {
    reactor: Arc<Reactor>,
    events: EventBuffer,
    busy_turns: u32,
    last_poll: u64,
    /// When a poll last brought events.
    last_events: u64,
    /// Events keep coming.
    eager: bool,
    /// The last poll brought events, and what they have led to comes before the next one: a task that such an event has
    /// woken costs no poll of its own.
    fresh: bool,
    spin: Spin,
    recent: Recent,
    bulk: Bulk,
    /// The last turn has spun in vain: block.
    spun: bool,
    pace: Pace,
    /// When the turns that are not in the histogram yet began, and how many they are.
    turns_since: u64,
    turns: u32,
    /// Those of them that were short and had no poll, and when the last of these ended.
    short_turns: u32,
    short_until: u64,
    /// One or more callbacks that were perhaps slow, to be reported.
    slow_lap: Option<Lap>,
    in_ticks: Durations,
}

/// The constants above.
struct Durations {
    busy_poll_interval: u64,
    eager_for: u64,
    perhaps_slow: u64,
}

impl Run {
    fn new(reactor: Arc<Reactor>, events: EventBuffer, now: u64) -> Self {
        let rate = TickRate::of_this_machine();
        Self {
            reactor,
            events,
            busy_turns: 0,
            last_poll: 0,
            last_events: 0,
            eager: false,
            fresh: false,
            spin: Spin::new(),
            recent: Recent::new(),
            bulk: Bulk::new(),
            spun: false,
            pace: Pace::new(rate.ns_per_tick(), now),
            turns_since: now,
            turns: 0,
            short_turns: 0,
            short_until: now,
            slow_lap: None,
            in_ticks: Durations {
                busy_poll_interval: rate.ticks_in(BUSY_POLL_INTERVAL),
                eager_for: rate.ticks_in(EAGER_FOR),
                perhaps_slow: rate.ticks_in(PERHAPS_SLOW),
            },
        }
    }

    /// How to wait now, at the most for `timeout`; looking for events before that is limited to `limit`.
    fn choose(&mut self, limit: u64, timeout: Option<u64>, bulk: bool) -> Wait {
        let spun = std::mem::take(&mut self.spun);
        if limit == 0 || spun || !self.spin.is_worthwhile() {
            Wait::Block
        } else if bulk && timeout.is_none_or(|timeout| timeout > LATEST_NAP) {
            Wait::Nap
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
    /// Runs turns until `stop` is called; for callers other than `run_forever`, one turn.
    ///
    /// # Errors
    /// `SystemExit` and `KeyboardInterrupt` from callbacks and signal handlers, and whatever other
    /// exception a signal handler raises.
    pub fn run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_open(py)?;
        let Some(reactor) = this.reactor(py)? else { return this.check_open(py) };
        let events = this
            .state(py, |state| state.events.take())
            .unwrap_or_else(|| EventBuffer::with_capacity(super::EVENTS_PER_POLL));
        let until_stop = this.until_stop.swap(false, Ordering::Relaxed);
        let start = ticks();
        let mut run = Run::new(reactor, events, start);
        this.metrics.run_started.set(start);
        let before = this.state(py, |state| state.timers.mark());
        this.turning.store(true, Ordering::Relaxed);
        let guard = StayHere::new();
        let outcome = loop {
            if let Err(error) = this.turn(slf, &mut run) {
                break Err(error);
            }
            if !until_stop || this.stopping.load(Ordering::Relaxed) {
                break Ok(());
            }
        };
        guard.leave();
        this.turning.store(false, Ordering::Relaxed);
        this.metrics.run_started.set(0);
        this.metrics.run_ticks.add(this.end_of_turns(&mut run).saturating_sub(start));
        this.drain_inbox(py);
        this.state(py, |state| {
            state.events = Some(run.events);
            track_handles(py, state.ready.iter());
            state.timers.iter_since(before).for_each(|timer| track(timer.bind(py)));
        });
        let reported = run.slow_lap.map_or(Ok(()), |lap| slow(slf, None, lap));
        outcome.and(reported)
    }

    #[inline(always)]
    fn turn(&self, slf: &Bound<'_, Self>, run: &mut Run) -> PyResult<()> {
        let py = slf.py();
        if self.inbox.is_occupied() {
            self.drain_inbox(py);
        }
        let trace_from = self.is_tracing().then(Self::now);
        let stopping = self.stopping.load(Ordering::Relaxed);
        let (busy, next_deadline) = self.state(py, |state| (!state.ready.is_empty(), state.timers.next_deadline()));
        if run.reactor.is_inherited() {
            // A callback has forked this process, and it goes on here.
            match self.reactor(py)? {
                Some(reactor) => run.reactor = reactor,
                None => return self.check_open(py),
            }
        }
        let polled = if busy || stopping {
            self.poll_if_due(py, run, stopping)?
        } else {
            self.poll_and_wait(py, run, next_deadline)?;
            true
        };
        if polled {
            // Between polls, which are at most a few microseconds apart, Python code looks itself.
            check_signals(py)?;
            if let Some(start) = trace_from {
                report::traced(slf, "poll", start, run.events.len())?;
            }
            if let Some(lap) = run.slow_lap.take() {
                slow(slf, None, lap)?;
            }
            if self.inbox.is_occupied() {
                self.drain_inbox(py);
            }
            if !run.events.is_empty() {
                run.busy_turns = 0;
                run.fresh = true;
                self.queue_events(py, run);
            }
        }
        if let Some(deadline) = next_deadline {
            let now = monotonic_ns();
            if deadline <= now {
                self.queue_due_timers(py, now);
            }
        }
        run.turns += 1;
        self.run_batch(slf, run)?;
        trace_from.map_or(Ok(()), |start| report::traced(slf, "turn", start, 0))
    }

    /// Counts the callbacks since the last look at the clock, at least one; true if they were slow.
    #[inline(always)]
    fn look(&self, run: &mut Run, now: u64) -> bool {
        let lap = run.pace.look(now);
        self.metrics.callback_time.record_together(lap.ticks, lap.callbacks);
        let slow = lap.ticks > run.in_ticks.perhaps_slow;
        if slow {
            run.slow_lap = Some(lap);
        }
        slow
    }

    /// Counts the turns and the callbacks until now, when a poll begins or the run ends; returns the time.
    #[inline(always)]
    fn end_of_turns(&self, run: &mut Run) -> u64 {
        match run.pace.settled_at() {
            // What servers do all day: a turn of one event, which was just timed.
            Some(now) if run.turns == 1 && run.short_turns == 0 => {
                run.turns = 0;
                self.metrics.turn_time.record(now.saturating_sub(run.turns_since));
                now
            }
            settled_at => self.count_turns(run, settled_at),
        }
    }

    #[inline(never)]
    fn count_turns(&self, run: &mut Run, settled_at: Option<u64>) -> u64 {
        let now = settled_at.unwrap_or_else(|| {
            let now = ticks();
            if run.pace.is_in_group() {
                self.look(run, now);
            }
            now
        });
        let (all, short) = (std::mem::take(&mut run.turns), std::mem::take(&mut run.short_turns));
        if short > 0 {
            self.metrics.turn_time.record_together(run.short_until.saturating_sub(run.turns_since), short);
            run.turns_since = run.short_until;
        }
        if all > short {
            self.metrics.turn_time.record_together(now.saturating_sub(run.turns_since), all - short);
        }
        now
    }

    /// What follows is no callback's time any more: a poll is over. Returns the time.
    fn poll_is_over(&self, run: &mut Run) -> u64 {
        let now = ticks();
        run.pace.skip_to(now);
        (run.turns_since, run.short_until) = (now, now);
        self.metrics.io_events.add(run.events.len() as u64);
        now
    }

    /// Looks for events without waiting, unless it looked a moment ago (false).
    #[inline]
    fn poll_if_due(&self, py: Python<'_>, run: &mut Run, stopping: bool) -> PyResult<bool> {
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
    fn poll_and_wait(&self, py: Python<'_>, run: &mut Run, next_deadline: Option<u64>) -> PyResult<()> {
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

    /// Puts the events of the last poll behind what is ready already.
    fn queue_events(&self, py: Python<'_>, run: &Run) {
        self.state(py, |state| {
            for index in 0..run.events.len() {
                let event = event(&run.events, index);
                // The waker has done its work by ending the poll.
                if event.token != Token::WAKER {
                    state.ready.push_back(Entry::Io(IoEvent { token: event.token, readiness: event.readiness }));
                }
            }
        });
    }

    /// Runs what is in the ready queue now, and nothing that is added meanwhile.
    fn run_batch(&self, slf: &Bound<'_, Self>, run: &mut Run) -> PyResult<()> {
        let py = slf.py();
        let count = self.state(py, |state| state.ready.len());
        for _ in 0..count {
            self.epoch.store(self.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            if self.is_observed() {
                self.run_observed(slf, run)?;
                continue;
            }
            let Some(entry) = self.state(py, |state| state.ready.pop_front()) else { break };
            entry.run(slf, |ran| self.after_callback(slf, run, &ran))?;
        }
        Ok(())
    }

    #[cold]
    fn run_observed(&self, slf: &Bound<'_, Self>, run: &mut Run) -> PyResult<()> {
        match self.state(slf.py(), |state| state.ready.pop_front()) {
            Some(entry) => entry.run_observed(slf, |ran| self.after_callback(slf, run, &ran)),
            None => Ok(()),
        }
    }

    /// Sends what the callback wrote in several pieces, and times it.
    #[inline(always)]
    fn after_callback(&self, slf: &Bound<'_, Self>, run: &mut Run, ran: &Ran<'_, '_>) -> PyResult<()> {
        if self.flush_pending.load(Ordering::Relaxed) {
            self.flush_gathered(slf.py())?;
        }
        if run.pace.callback_done() && self.time_callback(run, matches!(ran, Ran::Event(_))) {
            return run.slow_lap.take().map_or(Ok(()), |lap| slow(slf, Some(ran), lap));
        }
        Ok(())
    }

    /// Looks at the clock after a callback, which has perhaps left nothing to be let go of; true: it was slow.
    #[inline(never)]
    fn time_callback(&self, run: &mut Run, settled: bool) -> bool {
        let slow = self.look(run, ticks());
        run.pace.settle(settled && !slow);
        slow
    }

    /// Sends what the callback that just returned wrote in several pieces.
    #[inline(never)]
    pub fn flush_gathered(&self, py: Python<'_>) -> PyResult<()> {
        self.flush_pending.store(false, Ordering::Relaxed);
        let gathered = self.state(py, |state| std::mem::take(&mut state.flush));
        let mut outcome = Ok(());
        for Gathered { transport, context } in gathered {
            // All of them get their turn, also if the callbacks of one end the run.
            let flush = || StreamTransport::flush(transport.bind(py));
            outcome = context.map_or_else(flush, |context| call::in_context(py, &context, flush)).and(outcome);
        }
        outcome
    }
}

/// A callback took long; whether it counts as slow is decided by the loop's `slow_callback_duration`.
#[cold]
fn slow(event_loop: &Bound<'_, LoopCore>, ran: Option<&Ran<'_, '_>>, lap: Lap) -> PyResult<()> {
    let seconds = TickRate::of_this_machine().ns(lap.ticks) as f64 / 1e9;
    let object = match ran {
        Some(Ran::Object(object)) => Some((*object).clone()),
        Some(Ran::Event(token)) => LoopCore::source_object(event_loop, *token),
        None => None,
    };
    report::slow_callback(event_loop, object, seconds, lap.callbacks)
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
fn finish_poll(py: Python<'_>, run: &mut Run, outcome: crate::engine::Result<usize>) -> PyResult<()> {
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
