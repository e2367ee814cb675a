"""What debuggers, metrics and test helpers read of a loop: `_ready`, `_scheduled`, `_run_once`, `_selector`."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest


def nothing():
    pass


def test_what_is_ready_can_be_seen(loop):
    first = loop.call_soon(nothing)
    second = loop.call_soon_threadsafe(nothing)
    timer = loop.call_later(60, nothing)
    assert list(loop._ready) == [first, second]
    assert timer not in loop._ready
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not loop._ready


def test_the_steps_of_tasks_can_be_seen(run, loop):
    async def child():
        await asyncio.sleep(0)

    async def main():
        task = asyncio.ensure_future(child())
        (handle,) = loop._ready
        assert isinstance(handle, asyncio.Handle)
        assert handle._callback.__self__ is task
        await task

    run(main)


def test_timers_can_be_seen_the_next_one_first(loop):
    late, soon = loop.call_later(60, nothing), loop.call_later(30, nothing)
    assert loop._scheduled[0] is soon
    assert {late, soon} == set(loop._scheduled)
    assert not loop._ready
    loop.close()
    assert not loop._scheduled


def test_one_turn_can_be_run(loop):
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_soon(lambda: loop.call_soon(ran.append, 2))
    loop._run_once()
    assert ran == [1]
    loop._run_once()
    assert ran == [1, 2]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_a_loop_of_ones_own_can_run_the_turns(loop):
    """As GUI toolkits do that have a loop themselves."""
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_soon(loop.call_soon, ran.append, 2)
    loop._run_forever_setup()
    try:
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        loop._run_once()
        assert ran == [1]
        loop._run_once()
        assert ran == [1, 2]
    finally:
        loop._run_forever_cleanup()
    assert not loop.is_running()
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_run_inside_of_a_run_is_refused(loop):
    outcomes = []

    def nested():
        try:
            loop.run_forever()
        except RuntimeError as error:
            outcomes.append(str(error))
        loop._run_once()
        outcomes.append("one turn")

    loop.call_soon(nested)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert outcomes == ["This event loop is already running", "one turn"]


def test_a_callback_can_run_a_turn(loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("the inner turn of CPython's loop takes the callbacks of the outer one, which fails")
    ran = []

    def nested():
        loop.call_soon(ran.append, "in the nested turn")
        loop._run_once()
        ran.append("after it")

    loop.call_soon(nested)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["in the nested turn", "after it"]


@pytest.mark.parametrize("make", ["call_soon", "foreign"])
def test_a_cancelled_handle_is_not_queued(loop, make):
    if make == "foreign":
        handle = asyncio.Handle(nothing, (), loop)
    else:
        handle = loop.call_soon(nothing)
        loop._run_once()
    handle.cancel()
    loop._add_callback(handle)
    assert not loop._ready


def test_the_selector_knows_who_is_watched(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for file in (ours, ours.fileno()):
            with pytest.raises(KeyError):
                loop._selector.get_key(file)
        loop.add_reader(ours, nothing)
        for file in (ours, ours.fileno()):
            key = loop._selector.get_key(file)
            assert (key.fd, key.events) == (ours.fileno(), 1)
        loop.remove_reader(ours)


def test_a_loop_whose_selector_was_replaced_is_closed_all_the_same(loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop needs its selector")

    class Stub:
        def close(self):
            self.closed = True

    original, loop._selector = loop._selector, Stub()
    loop.close()
    original.close()
    assert loop.is_closed()
