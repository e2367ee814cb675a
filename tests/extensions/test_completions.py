"""Completions that threads of another extension post: order, load, errors, the loop's end, the interpreter's end."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys

import ironloop
import pytest

# The first test waits for cargo.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def loop():
    """These are about ironloop's loop; CPython's has nothing of the kind."""
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


def test_results_come_from_threads(native_jobs, loop):
    async def main():
        jobs = native_jobs.Jobs(loop, 3)
        return await asyncio.gather(*(jobs.count_primes(loop, limit) for limit in (10, 100, 1000, 10_000)))

    assert loop.run_until_complete(main()) == [4, 25, 168, 1229]


def test_nothing_is_lost_under_load_and_each_thread_keeps_its_order(native_jobs, loop):
    threads, each = 4, 20_000
    seen = {thread: [] for thread in range(threads)}

    async def main():
        done = loop.create_future()
        left = threads * each

        def completed(thread, number):
            nonlocal left
            seen[thread].append(number)
            left -= 1
            if not left:
                done.set_result(None)

        jobs = native_jobs.Jobs(loop, 0)
        posting = loop.run_in_executor(None, jobs.flood, threads, each, completed)
        await done
        return await posting

    assert loop.run_until_complete(main()) == threads * each
    assert all(numbers == list(range(each)) for numbers in seen.values())


def test_many_posts_are_one_event_a_batch(native_jobs, loop):
    """While the loop is busy, posts are pushes; it runs them afterwards without a wake-up each."""
    ran = []

    async def main():
        jobs = native_jobs.Jobs(loop, 0)
        before = loop.metrics()
        # Posts while the loop's thread is in this callback.
        assert jobs.flood(2, 500, lambda *which: ran.append(which)) == 1000
        while len(ran) < 1000:
            await asyncio.sleep(0)
        after = loop.metrics()
        return after.io_events - before.io_events

    events = loop.run_until_complete(main())
    assert len(ran) == 1000
    # 256 a batch: four, and nothing else happens here.
    assert events <= 8


def test_other_callbacks_get_their_turn_between_batches(native_jobs, loop):
    order = []

    async def main():
        native_jobs.Jobs(loop, 0).flood(1, 1000, lambda *_: order.append("posted"))
        loop.call_soon(order.append, "callback")
        while order.count("posted") < 1000:
            order.append("task")
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert "callback" in order
    first, last = order.index("posted"), len(order) - 1 - order[::-1].index("posted")
    assert order[first:last].count("task") >= 3


def test_an_error_is_reported_and_the_rest_runs(native_jobs, loop):
    reported, ran = [], []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def complete(_thread, number):
        if number % 2:
            raise ValueError(number)
        ran.append(number)

    async def main():
        native_jobs.Jobs(loop, 0).flood(1, 10, complete)
        while len(ran) < 5 or len(reported) < 5:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert ran == [0, 2, 4, 6, 8]
    assert [error.args for error in reported] == [(number,) for number in (1, 3, 5, 7, 9)]


def test_a_keyboard_interrupt_ends_the_run_and_the_rest_is_not_lost(native_jobs, loop):
    ran = []

    def complete(_thread, number):
        ran.append(number)
        if number == 3:
            raise KeyboardInterrupt

    async def main():
        native_jobs.Jobs(loop, 0).flood(1, 10, complete)
        while len(ran) < 10:
            await asyncio.sleep(0)

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert ran == [0, 1, 2, 3]
    loop.run_until_complete(task)
    assert ran == list(range(10))


def test_a_cancelled_future_is_left_alone(native_jobs, loop):
    async def main():
        jobs = native_jobs.Jobs(loop, 1)
        futures = [jobs.count_primes(loop, 20_000) for _ in range(5)]
        futures[2].cancel()
        results = await asyncio.gather(*futures, return_exceptions=True)
        return [type(result) for result in results]

    assert loop.run_until_complete(main()) == [int, int, asyncio.CancelledError, int, int]


def test_a_loop_that_sleeps_wakes_up(native_jobs, loop):
    loop.busy_poll = 0

    async def main():
        # Nothing else can end the wait: there is no timer and no other event.
        return await native_jobs.Jobs(loop, 1).count_primes(loop, 50_000)

    assert loop.run_until_complete(main()) == 5133


@pytest.mark.parametrize("debug", [False, True])
def test_close_drops_what_waits_and_refuses_what_comes(native_jobs, debug):
    class Callback:
        def __call__(self, *_which):
            raise AssertionError("the loop does not run")

    gone = []
    loop = ironloop.new_event_loop()
    loop.set_debug(debug)
    jobs = native_jobs.Jobs(loop, 0)
    callback = Callback()
    # A finalizer that comes back to the loop.
    callback.__class__.__del__ = lambda _: gone.append(loop.is_closed())
    assert jobs.flood(2, 100, callback) == 200
    del callback
    assert gone == []
    loop.close()
    assert gone == [True]
    assert jobs.flood(2, 100, print) == 0
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        native_jobs.Jobs(loop, 0)


def test_a_loop_that_is_dropped_drops_what_waits(native_jobs):
    gone = []

    class Callback:
        def __call__(self, *_which):
            raise AssertionError("the loop does not run")

        def __del__(self):
            gone.append(True)

    loop = ironloop.new_event_loop()
    jobs = native_jobs.Jobs(loop, 0)
    jobs.flood(1, 10, Callback())
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert gone == [True]
    assert jobs.flood(1, 10, print) == 0


def test_posting_goes_on_while_loops_come_and_go(native_jobs):
    """Each loop is closed while a thread posts to it."""
    for _ in range(50):
        loop = ironloop.new_event_loop()
        count = 0

        def completed():
            nonlocal count
            count += 1
            if count == 5:
                loop.stop()  # noqa: B023 - it runs before the next loop is made

        native_jobs.Jobs(loop, 0).post_until_closed(completed)
        loop.run_forever()
        loop.close()
        assert count >= 5


def test_other_loops_are_refused(native_jobs):
    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError):
        native_jobs.Jobs(loop, 1)
    loop.close()


@pytest.mark.parametrize("how", ["returns", "exits", "leaves the loop open"])
def test_the_interpreter_ends_while_threads_post(native_jobs_path, how):
    code = f"""
import asyncio, sys
import ironloop, native_jobs
loop = ironloop.new_event_loop()
jobs = native_jobs.Jobs(loop, 2)
count = 0
def completed():
    global count
    count += 1
    if count == 100:
        loop.stop()
for _ in range(3):
    jobs.post_until_closed(completed)
loop.run_forever()
print("stopped", flush=True)
if {how!r} == "exits":
    loop.call_soon(sys.exit, 0)
    loop.run_forever()
if {how!r} == "returns":
    loop.close()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(native_jobs_path), *sys.path])}
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
