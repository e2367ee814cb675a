"""Calls from other threads: each arrives once, in order, and wakes the loop."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import gc
import threading
import time
import weakref

import ironloop
import pytest

from tests.support.threads import Team


@pytest.mark.slow
def test_calls_from_many_threads_arrive_once_and_in_each_thread_s_order(loops):
    senders, calls = 4, 1000
    arrived = [[] for _ in loops]

    def send(sender):
        for number in range(calls):
            for index, it in enumerate(loops):
                it.loop.call_soon_threadsafe(arrived[index].append, (sender, number))

    storm = Team()
    for sender in range(senders):
        storm.start(send, sender)
    storm.join()

    async def nothing():
        pass

    for it, seen in zip(loops, arrived, strict=True):
        it.ask(nothing())  # which is behind all of them
        assert len(seen) == senders * calls
        for sender in range(senders):
            assert [number for who, number in seen if who == sender] == list(range(calls))


@pytest.mark.slow
def test_a_call_wakes_a_loop_at_any_moment_of_its_way_to_sleep(loops):
    """One call at a time, each the answer to the one before: were one forgotten, the ring would stop."""
    rounds = 2000
    done = threading.Event()
    passed = [0]

    def pass_on(place):
        passed[0] += 1
        if passed[0] == rounds:
            done.set()
        else:
            following = (place + 1) % len(loops)
            loops[following].loop.call_soon_threadsafe(pass_on, following)

    loops[0].loop.call_soon_threadsafe(pass_on, 0)
    assert done.wait(50), f"only {passed[0]} of {rounds} calls arrived"


@pytest.mark.slow
def test_coroutines_and_their_results_cross_threads(loops):
    async def work(number):
        await asyncio.sleep(0.0001 * (number % 3))
        if number % 5 == 0:
            raise LookupError(number)
        if number % 5 == 1:
            await asyncio.sleep(60)
        return number

    def submit(me):
        counts = collections.Counter()
        futures = {}
        for number in range(100):
            it = loops[number % len(loops)]
            futures[asyncio.run_coroutine_threadsafe(work(number), it.loop)] = number
        for future, number in futures.items():
            if number % 5 == 1:
                assert future.cancel()
        for future, number in futures.items():
            if future.cancelled():
                counts["cancelled"] += 1
            elif future.exception(50) is None:
                assert future.result() == number
                counts["result"] += 1
            else:
                assert future.exception().args == (number,)
                counts["error"] += 1
        return counts

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for counts in pool.map(submit, range(4)):
            assert counts == {"result": 60, "error": 20, "cancelled": 20}

    async def idle():
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    for it in loops:
        it.ask(idle())


@pytest.mark.slow
def test_a_handle_that_is_cancelled_by_another_thread_runs_at_most_once(loops):
    calls = 500
    ran = [collections.Counter() for _ in loops]

    def send(index):
        loop = loops[index].loop
        for number in range(calls):
            handle = loop.call_soon_threadsafe(ran[index].update, [number])
            if number % 2:
                handle.cancel()
                assert handle.cancelled()

    with concurrent.futures.ThreadPoolExecutor(len(loops)) as pool:
        list(pool.map(send, range(len(loops))))

    async def nothing():
        pass

    for it, counts in zip(loops, ran, strict=True):
        it.ask(nothing())
        assert set(counts.values()) == {1}
        assert all(counts[number] for number in range(0, calls, 2))


#: So many calls may be on their way before their senders pause.
MANY = 5000


@pytest.mark.slow
def test_calls_race_with_the_end_of_the_loop(loop_factory, collect_the_rest):
    """A call either arrives or is refused; a loop that closes meanwhile frees what came too late."""

    born, died = [], []

    class Witness:
        def __init__(self):
            born.append(1)

        def __call__(self):
            pass

        def __del__(self):
            died.append(1)

    def send(loop):
        with pytest.raises(RuntimeError, match="closed"):
            while True:
                loop.call_soon_threadsafe(Witness())
                if len(born) - len(died) > MANY:
                    time.sleep(0.001)  # or the collector has more and more to look at

    for _ in range(30):
        loop = loop_factory()
        storm = Team()
        for _ in range(2):
            storm.start(send, loop)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
        loop.close()
        storm.join()
        del loop
    collect_the_rest()
    alive = [one for one in gc.get_objects() if type(one) is Witness]
    assert not alive, [type(holder) for holder in gc.get_referrers(*alive)]
    assert len(died) == len(born)


def test_a_call_that_a_closed_loop_has_got_is_freed_with_it(loop_name):
    """Which is where a call comes to that began before the end of the loop, in another thread, and ends after it."""
    if loop_name == "asyncio":
        pytest.skip("asks a native object directly")

    class Witness:
        def __call__(self):
            pass

    def leave_behind(running_thread):
        loop, witness = ironloop.new_event_loop(), Witness()
        handle = loop.call_soon(witness)
        loop.close()
        loop._thread_id = running_thread
        loop._add_callback(handle)
        loop._thread_id = None
        assert len(loop._ready_handles()) == 1
        return weakref.ref(witness)

    # In the queue itself; without a GIL also on the way there, as long as a thread runs the loop.
    left = [leave_behind(None), leave_behind(1)]
    # Without a GIL a collection may be under way in a thread of an earlier test; then this one does nothing.
    for _ in range(20):
        gc.collect()
        if not any(reference() for reference in left):
            break
        time.sleep(0.05)
    assert [reference() for reference in left] == [None, None]
