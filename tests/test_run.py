"""run_forever, run_until_complete, close, Runner, ironloop.run; subclasses and attributes of loops."""

from __future__ import annotations

import asyncio
import sys
import weakref

import ironloop
import pytest


async def answer():
    return 42


def test_run_until_complete_returns_or_raises(loop):
    assert loop.run_until_complete(answer()) == 42

    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop.run_until_complete(fail())
    future = loop.create_future()
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(future) == 5


def test_a_run_that_is_stopped_early_says_so(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(future)


def test_a_loop_runs_once_at_a_time(loop, loop_factory, loop_name):
    if loop_name == "asyncio" and (3, 13) <= sys.version_info < (3, 13, 3):
        pytest.skip("before Python 3.13.3 the second run of CPython's loop ends the first one")

    async def main():
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_forever()
        other = loop_factory()
        coroutine = answer()
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            other.run_until_complete(coroutine)
        coroutine.close()
        other.close()
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(main())


def test_the_state_of_a_loop_can_be_asked_for(loop):
    states = []

    async def main():
        states.append((loop.is_running(), loop.is_closed(), asyncio.get_running_loop() is loop))

    loop.run_until_complete(main())
    states.append((loop.is_running(), loop.is_closed()))
    loop.close()
    loop.close()
    states.append((loop.is_running(), loop.is_closed()))
    assert states == [(True, False, True), (False, False), (False, True)]


def test_what_is_no_future_is_refused(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete(1)


def test_loops_are_asyncios_loops_and_take_attributes(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    loop.my_attribute = 5
    assert loop.my_attribute == 5
    assert weakref.ref(loop)() is loop
    assert repr(loop).endswith("running=False closed=False debug=False>")


def test_a_loop_can_be_subclassed(loop_factory):
    base = loop_factory()
    base.close()

    class Mine(type(base)):
        def __init__(self):
            super().__init__()
            self.extra = 1

    loop = Mine()
    assert loop.extra == 1
    assert loop.run_until_complete(answer()) == 42
    loop.close()


def test_run_has_the_semantics_of_asyncio_run():
    seen = []

    async def left_over():
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("cancelled")

    async def main():
        seen.append(type(asyncio.get_running_loop()))
        asyncio.create_task(left_over())
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loop = ironloop.run(main())
    assert seen == [ironloop.Loop, "cancelled"]
    assert loop.is_closed()


def test_run_refuses_what_asyncio_run_refuses():
    with pytest.raises((TypeError, ValueError), match=r"a coroutine was expected|an awaitable is required"):
        ironloop.run(1)

    async def main():
        coroutine = answer()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            ironloop.run(coroutine)
        coroutine.close()

    ironloop.run(main())


def test_run_sets_debug_mode():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert ironloop.run(main(), debug=True) is True
    assert ironloop.run(main(), debug=False) is False


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_a_runner_takes_the_loop_factory():
    with asyncio.Runner(loop_factory=ironloop.new_event_loop) as runner:
        assert runner.run(answer()) == 42
        assert isinstance(runner.get_loop(), ironloop.Loop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_asyncio_run_takes_the_loop_factory():
    assert asyncio.run(answer(), loop_factory=ironloop.new_event_loop) == 42


def test_a_loop_can_run_again_and_again(loop):
    for _ in range(200):
        assert loop.run_until_complete(answer()) == 42
