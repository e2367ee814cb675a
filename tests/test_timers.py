"""call_later and call_at: never early, in order, cheap to cancel."""

from __future__ import annotations

import asyncio
import pathlib
import sys
import time

import pytest

from tests.support.leaks import resident_bytes


def test_the_clock_is_pythons_monotonic_clock(loop):
    before = time.monotonic()
    middle = loop.time()
    after = time.monotonic()
    assert before <= middle <= after
    assert len({loop.time() for _ in range(1000)}) > 10, "the clock is too coarse"


def test_a_timer_is_never_early(loop):
    seen = []

    async def main():
        for delay in (0, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.0033, 0.01):
            start = time.monotonic()
            await asyncio.sleep(delay)
            seen.append(time.monotonic() - start - delay)

    loop.run_until_complete(main())
    assert min(seen) >= 0


def test_a_timer_sees_a_clock_that_is_not_before_its_time(loop):
    seen = []

    def fire(when):
        seen.append(loop.time() - when)

    for index in range(200):
        when = loop.time() + index * 1e-5
        loop.call_at(when, fire, when)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert len(seen) == 200
    # CPython's own loop rounds by its clock's resolution, a nanosecond.
    assert min(seen) >= -1e-9


def test_deadlines_less_than_a_millisecond_apart_are_told_apart(loop, loop_name):
    """The loop does not sleep until the millisecond is full, after which both would be due in one turn."""
    if loop_name == "asyncio" and sys.version_info < (3, 15):
        pytest.skip("CPython's selector rounds up to milliseconds")
    apart = 0

    def fire(deadlines, fired):
        fired.append(loop.time())
        if len(deadlines) == len(fired):
            loop.stop()

    for _ in range(200):
        start = loop.time()
        deadlines, fired = (start + 0.0002, start + 0.0008), []
        for when in deadlines:
            loop.call_at(when, fire, deadlines, fired)
        loop.run_forever()
        # Had one turn run both, it would have begun after the second deadline.
        apart += fired[0] < deadlines[1]
    assert apart > 0, "in 200 tries"


def test_timers_fire_in_the_order_of_their_deadlines(loop):
    seen = []
    now = loop.time()
    for offset in (0.003, -5, 0.001, -1, 0.002, -10, 0):
        loop.call_at(now + offset, seen.append, offset)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == sorted(seen)
    assert len(seen) == 7


def test_equal_deadlines_fire_in_the_order_of_the_calls():
    import ironloop

    loop = ironloop.new_event_loop()
    seen = []
    when = loop.time() + 0.001
    for number in range(50):
        loop.call_at(when, seen.append, number)
    loop.call_at(when + 0.001, loop.stop)
    loop.run_forever()
    loop.close()
    assert seen == list(range(50))


def test_when_is_what_was_asked_for(loop):
    assert loop.call_at(12345, print).when() == 12345
    assert isinstance(loop.call_at(12345, print).when(), int)
    assert loop.call_at(12345.5, print).when() == 12345.5
    before = loop.time()
    when = loop.call_later(10, print).when()
    assert before + 10 <= when <= loop.time() + 10


@pytest.mark.parametrize("delay", [0, -1, -1e9])
def test_a_delay_that_is_over_fires_in_the_next_turn(loop, delay):
    handle = loop.call_later(delay, loop.stop)
    assert isinstance(handle, asyncio.TimerHandle)
    assert handle.when() <= loop.time()
    loop.run_forever()


@pytest.mark.parametrize("delay", [1e12, 1e300, float("inf")])
def test_a_delay_beyond_all_clocks_does_not_fire(loop, delay):
    fired = []
    handle = loop.call_later(delay, fired.append, delay)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    handle.cancel()
    assert fired == []


def test_none_is_no_time(loop, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("CPython's loop does not check before 3.11")
    with pytest.raises(TypeError):
        loop.call_later(None, print)
    with pytest.raises(TypeError):
        loop.call_at(None, print)


@pytest.mark.parametrize("bad", ["1", [], object()])
def test_what_is_no_number_is_refused(loop, bad):
    with pytest.raises(TypeError):
        loop.call_later(bad, print)


def test_what_can_be_added_to_a_time_is_a_delay(loop):
    from decimal import Decimal
    from fractions import Fraction

    handle = loop.call_later(Fraction(201, 2), print)
    assert loop.time() < handle.when() <= loop.time() + 100.5
    with pytest.raises(TypeError):
        loop.call_later(Decimal("0.5"), print)


def test_a_cancelled_timer_does_not_fire(loop):
    fired = []
    handles = [loop.call_later(0.001, fired.append, number) for number in range(10)]
    for handle in handles:
        handle.cancel()
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert fired == []


def test_a_timer_can_be_cancelled_by_one_that_is_due_in_the_same_turn(loop):
    now = loop.time()
    fired = []
    second = loop.call_at(now - 1, fired.append, "second")
    loop.call_at(now - 2, second.cancel)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert fired == []


def test_a_timer_scheduled_by_a_due_timer_waits_for_the_next_turn(loop):
    turns = []
    loop.call_later(-1, lambda: loop.call_later(-1, lambda: (turns.append("second"), loop.stop())))
    loop.call_soon(loop.call_soon, turns.append, "between")
    loop.run_forever()
    assert turns == ["between", "second"]


def test_a_loop_that_was_blocked_counts_from_now(loop):
    fired = []

    def block():
        time.sleep(0.05)
        start = loop.time()
        loop.call_later(0.02, lambda: (fired.append(loop.time() - start), loop.stop()))

    loop.call_soon(block)
    loop.run_forever()
    assert fired[0] >= 0.02


def test_an_idle_socket_does_not_strand_a_timer(loop):
    import socket

    left, right = socket.socketpair()
    with left, right:
        called = []
        loop.add_reader(left, called.append, "readable")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        loop.remove_reader(left)
        assert called == []


@pytest.mark.skipif(sys.platform != "linux", reason="what proc(5) says of the thread")
def test_a_sleep_leaves_the_threads_timer_slack_alone(loop):
    """Programs that a callback starts inherit it."""
    slack = pathlib.Path("/proc/self/timerslack_ns")
    before = slack.read_text()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert slack.read_text() == before
    during = []
    loop.call_later(0.001, lambda: during.append(slack.read_text()))
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert during == [before]


@pytest.mark.slow
def test_memory_is_flat_when_timers_are_set_and_cancelled():
    import ironloop

    loop = ironloop.new_event_loop()
    for _ in range(50_000):
        loop.call_later(1000, print).cancel()
    before = resident_bytes()
    for _ in range(600_000):
        loop.call_later(1000, print).cancel()
    assert resident_bytes() - before < 4 * 1024 * 1024
    loop.close()
