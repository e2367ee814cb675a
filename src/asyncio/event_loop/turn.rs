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

use super::crowd::EVENTS_PER_POLL;
use super::polling::{BUSY_POLL_INTERVAL, EAGER_FOR};
use super::ready::{track_handles, Ran};
use super::{report, Gathered, LoopCore};
use crate::asyncio::transport::stream::StreamTransport;
use crate::engine::metrics::pace::{Lap, Pace};
use crate::engine::reactor::bulk::Bulk;
use crate::engine::reactor::spin::{Recent, Spin};
use crate::engine::reactor::Reactor;
use crate::engine::stream::batching::Batching;
use crate::engine::sys::clock::monotonic_ns;
use crate::engine::sys::poller::EventBuffer;
use crate::engine::sys::ticks::{ticks, TickRate};
use crate::py::call::{self, check_signals};
use crate::py::class::track;
use crate::py::thread_end::StayHere;

/// What takes less than this is never slow, whatever `slow_callback_duration` is.
const PERHAPS_SLOW: Duration = Duration::from_millis(1);

/// What a run remembers from turn to turn.
pub(super) struct Run {
    pub(super) reactor: Arc<Reactor>,
    pub(super) events: EventBuffer,
    pub(super) busy_turns: u32,
    pub(super) last_poll: u64,
    /// When a poll last brought events.
    pub(super) last_events: u64,
    /// Events keep coming.
    pub(super) eager: bool,
    /// The last poll brought events, and what they have led to comes before the next one: a task that such an event has
    /// woken costs no poll of its own.
    pub(super) fresh: bool,
    pub(super) spin: Spin,
    pub(super) recent: Recent,
    pub(super) bulk: Bulk,
    /// The last turn has spun in vain: block.
    pub(super) spun: bool,
    pub(super) pace: Pace,
    /// When the turns that are not in the histogram yet began, and how many they are.
    pub(super) turns_since: u64,
    pub(super) turns: u32,
    /// Those of them that were short and had no poll, and when the last of these ended.
    pub(super) short_turns: u32,
    pub(super) short_until: u64,
    /// One or more callbacks that were perhaps slow, to be reported.
    pub(super) slow_lap: Option<Lap>,
    pub(super) in_ticks: Durations,
    pub(super) batching: Batching,
    /// When the last poll was over.
    pub(super) batch_began: u64,
}

/// The constants above.
pub(super) struct Durations {
    pub(super) busy_poll_interval: u64,
    pub(super) eager_for: u64,
    pub(super) perhaps_slow: u64,
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
            batching: Batching::new(rate.ns_per_tick()),
            batch_began: now,
            in_ticks: Durations {
                busy_poll_interval: rate.ticks_in(BUSY_POLL_INTERVAL),
                eager_for: rate.ticks_in(EAGER_FOR),
                perhaps_slow: rate.ticks_in(PERHAPS_SLOW),
            },
        }
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
        let events =
            this.state(py, |state| state.events.take()).unwrap_or_else(|| EventBuffer::with_capacity(EVENTS_PER_POLL));
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
        // An exception that ends the run may have come in between.
        let flushed = this.flush_gathered(py);
        this.batching.store(false, Ordering::Relaxed);
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
        outcome.and(flushed).and(reported)
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
                self.queue_events(py, run, |_, _| true);
            }
        }
        let full = polled && run.events.len() == EVENTS_PER_POLL;
        let before_timers = full.then(|| self.ready_count(py));
        if let Some(deadline) = next_deadline {
            let now = monotonic_ns();
            if deadline <= now {
                self.queue_due_timers(py, now);
            }
        }
        run.turns += 1;
        let (count, crowded) = self.state(py, |state| (state.ready.len(), run.fresh && state.is_crowded()));
        match before_timers {
            Some(before_timers) => self.run_portions(slf, run, before_timers)?,
            None if crowded => self.run_crowd(slf, run, count)?,
            None => self.run_batch::<false>(slf, run, count)?,
        }
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
    pub(super) fn end_of_turns(&self, run: &mut Run) -> u64 {
        let now = match run.pace.settled_at() {
            // What servers do all day: a turn of one event, which was just timed.
            Some(now) if run.turns == 1 && run.short_turns == 0 => {
                run.turns = 0;
                self.metrics.turn_time.record(now.saturating_sub(run.turns_since));
                now
            }
            settled_at => self.count_turns(run, settled_at),
        };
        self.decide_when_to_send(run, now);
        now
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
    pub(super) fn poll_is_over(&self, run: &mut Run) -> u64 {
        let now = ticks();
        run.pace.skip_to(now);
        run.batch_began = now;
        (run.turns_since, run.short_until) = (now, now);
        self.metrics.io_events.add(run.events.len() as u64);
        now
    }

    pub(super) fn ready_count(&self, py: Python<'_>) -> usize {
        self.state(py, |state| state.ready.len())
    }

    /// Runs the first `count` entries of the ready queue, and nothing that is added meanwhile.
    #[inline(always)]
    pub(super) fn run_batch<const CROWDED: bool>(
        &self,
        slf: &Bound<'_, Self>,
        run: &mut Run,
        count: usize,
    ) -> PyResult<()> {
        let py = slf.py();
        for _ in 0..count {
            self.epoch.store(self.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            if self.is_observed() {
                self.run_observed(slf, run)?;
                continue;
            }
            let Some(entry) = self.state(py, |state| {
                let entry = state.ready.pop_front();
                if CROWDED {
                    state.look_ahead();
                }
                entry
            }) else {
                break;
            };
            entry.run(slf, |ran| self.after_callback(slf, run, &ran))?;
        }
        if self.flush_at_end.load(Ordering::Relaxed) {
            run.batching.left();
            self.flush_gathered(py)?;
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
        let now = ticks();
        let slow = self.look(run, now);
        if slow {
            run.batching.slow();
            self.batching.store(false, Ordering::Relaxed);
        }
        if self.flush_at_end.load(Ordering::Relaxed) && run.batching.is_due(now) {
            run.batching.left();
            self.flush_pending.store(true, Ordering::Relaxed);
        }
        run.pace.settle(settled && !slow);
        slow
    }

    /// What is written from now on waits for the end of the turn, or does not, after what was written since the last poll.
    #[inline]
    pub(super) fn decide_when_to_send(&self, run: &mut Run, now: u64) {
        let writes = self.writes.get();
        if writes > 1 {
            let together = run.batching.turn(now.saturating_sub(run.batch_began), writes);
            self.batching.store(together, Ordering::Relaxed);
        }
        self.writes.set(0);
    }

    /// Sends what was held: what the callback that just returned wrote in several pieces, or the turn.
    #[inline(never)]
    pub fn flush_gathered(&self, py: Python<'_>) -> PyResult<()> {
        self.flush_pending.store(false, Ordering::Relaxed);
        self.flush_at_end.store(false, Ordering::Relaxed);
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
