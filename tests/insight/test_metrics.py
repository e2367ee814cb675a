"""`loop.metrics()`: what is counted, by programs that do a known number of things."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import ironloop
import pytest
from ironloop.metrics import Bucket, Histogram

from tests.support.certificate import client_context, server_context


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_a_new_loop_has_done_nothing(loop):
    metrics = loop.metrics()
    assert not metrics.running
    assert metrics.turns == metrics.callbacks == metrics.ready == metrics.timers == 0
    assert metrics.busy == metrics.idle == metrics.spin == 0.0
    assert metrics.slowest is None
    assert metrics.lag == Histogram()


def test_callbacks_and_turns_are_counted(loop):
    for _ in range(5):
        loop.call_soon(lambda: None)
    assert loop.metrics().ready == 5
    loop.call_soon(loop.stop)
    loop.run_forever()
    metrics = loop.metrics()
    assert metrics.callbacks == 6
    assert metrics.turns == 1
    assert metrics.ready == 0
    assert metrics.callback_time.count == 6
    assert metrics.turn_time.count == 1


def run_chain(loop, length, sleeping_at=None):
    """Runs that many callbacks, each scheduled by the one before; one of them sleeps for 0.02 s."""
    left = length

    def step():
        nonlocal left
        left -= 1
        if left == sleeping_at:
            time.sleep(0.02)
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def test_each_callback_is_in_the_histogram_also_when_they_are_timed_in_groups(loop):
    run_chain(loop, 10_000)
    metrics = loop.metrics()
    assert metrics.callbacks == metrics.turns == 10_000
    assert metrics.callback_time.count == metrics.turn_time.count == 10_000
    assert metrics.callback_time.sum <= metrics.busy


def test_a_slow_callback_among_short_ones_is_not_averaged_away(loop):
    run_chain(loop, 1000, sleeping_at=100)
    metrics = loop.metrics()
    assert metrics.turn_time.count == metrics.callback_time.count == 1000
    # They are timed in groups of at most 16, and one that stands out is counted apart.
    assert metrics.turn_time.max >= 0.02 / 16
    assert metrics.callback_time.max >= 0.02 / 2


def test_a_slow_callback_at_the_very_end_of_a_run_counts(loop):
    def nothing():
        pass

    loop.slow_callback_duration = 0.01
    for callback in (*[nothing] * 100, loop.stop):
        loop.call_soon(callback)
    loop.call_soon(time.sleep, 0.02)
    loop.run_forever()
    metrics = loop.metrics()
    assert metrics.slow_callbacks >= 1
    assert metrics.slowest_time >= 0.02


def test_timers_are_counted_with_their_lag(loop):
    async def main():
        loop.call_later(1000, print).cancel()
        loop.call_later(1000, print).cancel()
        await asyncio.sleep(0.001)
        waiting = loop.call_later(1000, print)
        assert loop.metrics().timers == 1
        waiting.cancel()

    loop.run_until_complete(main())
    metrics = loop.metrics()
    assert metrics.timers_fired == 1
    assert metrics.timers_cancelled == 3
    assert metrics.timers == 0
    assert metrics.lag.count == 1
    assert 0 < metrics.lag.max == metrics.lag.sum


def test_a_loop_that_waits_is_idle_and_one_that_computes_is_busy(loop):
    async def main():
        await asyncio.sleep(0.05)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass

    loop.run_until_complete(main())
    metrics = loop.metrics()
    # A thread that is not given the processor can only make them longer.
    assert metrics.idle + metrics.spin >= 0.045
    assert metrics.busy >= 0.045
    assert metrics.callback_time.max >= 0.045


def test_metrics_of_a_running_loop_can_be_read_in_another_thread(loop):
    async def main():
        started = time.monotonic()
        time.sleep(0.01)
        await loop.run_in_executor(None, int)
        metrics = await loop.run_in_executor(None, loop.metrics)
        assert metrics.running
        assert metrics.busy + metrics.idle + metrics.spin >= 0.01
        assert metrics.time >= started
        assert metrics.executor_running >= 1
        assert metrics.executor_waiting == 0

    loop.run_until_complete(main())


def test_calls_from_threads_and_the_wakeups_they_cause_are_counted(loop):
    ready = threading.Event()

    async def main():
        future = loop.create_future()

        def post():
            ready.wait()
            loop.call_soon_threadsafe(lambda: None)
            loop.call_soon_threadsafe(future.set_result, None)

        thread = threading.Thread(target=post)
        thread.start()
        loop.call_soon(ready.set)
        await future
        thread.join()

    loop.run_until_complete(main())
    metrics = loop.metrics()
    assert metrics.threadsafe_calls == 2
    assert metrics.wakeups <= 2


def test_connections_and_bytes_are_counted(loop):
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readexactly(10_000))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            during = loop.metrics()
            writer.write(bytes(10_000))
            assert await reader.read() == bytes(10_000)
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)
        return during

    during = loop.run_until_complete(main())
    metrics = loop.metrics()
    assert during.connections_open >= 1
    assert metrics.connections_accepted == 3
    assert metrics.connections_opened == metrics.connections_closed == 6
    assert metrics.connections_open == 0
    assert metrics.bytes_sent == metrics.bytes_received == 60_000
    assert metrics.io_events >= 6


def test_handshakes_of_both_ends_are_counted_when_they_succeed(loop):
    async def main():
        async def close(reader, writer):
            writer.close()

        server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=server_context())
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        plain, other = await asyncio.open_connection(*server.sockets[0].getsockname())
        other.write(b"no handshake at all")
        await plain.read()
        other.close()
        server.close()

    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(main())
    assert loop.metrics().tls_handshakes == 6


@pytest.mark.parametrize("whose", ["ours", "the program's"])
def test_jobs_of_the_default_executor_wait_or_run(loop, whose):
    if whose == "the program's":
        loop.set_default_executor(ThreadPoolExecutor(3))
    go_on = threading.Event()

    async def until(running, waiting):
        while (metrics := loop.metrics()).executor_running != running or metrics.executor_waiting != waiting:
            await asyncio.sleep(0.001)

    async def main():
        jobs = [loop.run_in_executor(None, go_on.wait) for _ in range(100)]
        workers = 3 if whose == "the program's" else min(32, (os.cpu_count() or 1) + 4)
        await until(workers, 100 - workers)
        go_on.set()
        await asyncio.gather(*jobs)
        await until(0, 0)

    loop.run_until_complete(asyncio.wait_for(main(), 50))


def test_a_slow_callback_is_named_without_debug_mode(loop):
    async def the_slow_one():
        time.sleep(0.1)

    loop.slow_callback_duration = 0.01
    loop.run_until_complete(loop.create_task(the_slow_one(), name="tortoise"))
    metrics = loop.metrics()
    assert metrics.slow_callbacks >= 1  # on a slow machine what ends the run is another
    assert metrics.slowest.startswith("task 'tortoise' (")
    assert "the_slow_one" in metrics.slowest
    assert 0.1 <= metrics.slowest_time <= metrics.callback_time.max


def test_the_slowest_of_slow_callbacks_is_kept(loop):
    took = {}

    def sleep_a_little():
        sleep("sleep_a_little", 0.02)

    def sleep_longer():
        sleep("sleep_longer", 0.2)

    def sleep(who, seconds):
        started = time.monotonic()
        time.sleep(seconds)
        took[who] = max(took.get(who, 0), time.monotonic() - started)

    loop.slow_callback_duration = 0.01
    for callback in (sleep_a_little, sleep_longer, sleep_a_little, loop.stop):
        loop.call_soon(callback)
    loop.run_forever()
    metrics = loop.metrics()
    assert metrics.slow_callbacks >= 3  # the fourth may be slow on a slow machine
    # Where even the short ones took longer one of them is the slowest.
    assert max(took, key=took.__getitem__) in metrics.slowest
    assert metrics.slowest_callbacks[0] == (metrics.slowest, metrics.slowest_time)
    assert {"sleep_a_little", "sleep_longer"} <= {
        name for shown, _ in metrics.slowest_callbacks for name in took if name in shown
    }


def test_the_five_slowest_are_named(loop):
    loop.slow_callback_duration = 0.001
    for number in range(1, 8):
        loop.call_soon(
            type(f"Number{number}", (), {"__call__": lambda _, seconds: time.sleep(seconds)})(), number / 250
        )
    loop.call_soon(loop.stop)
    loop.run_forever()
    metrics = loop.metrics()
    assert metrics.slow_callbacks >= 7
    assert len(metrics.slowest_callbacks) == 5
    assert sorted(metrics.slowest_callbacks, key=lambda it: -it[1]) == list(metrics.slowest_callbacks)


def test_name_lookups_that_need_a_thread_are_counted(loop):
    loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))
    assert loop.metrics().name_lookups == 0
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    assert loop.metrics().name_lookups == 1


def test_a_snapshot_is_immutable_and_becomes_a_dictionary(loop):
    metrics = loop.metrics()
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics.turns = 1
    assert metrics.as_dict()["turns"] == 0


class TestHistogram:
    HISTOGRAM = Histogram((Bucket(0.1, 0.2, 3), Bucket(0.4, 0.8, 1)), 0.95, 0.5)

    def test_count_and_mean(self):
        assert self.HISTOGRAM.count == 4
        assert self.HISTOGRAM.mean == pytest.approx(0.2375)
        assert Histogram().mean == 0.0

    @pytest.mark.parametrize(("q", "value"), [(0, 0.2), (0.5, 0.2), (0.75, 0.2), (0.76, 0.5), (1, 0.5)])
    def test_quantiles_are_upper_bounds_but_never_above_the_largest(self, q, value):
        assert self.HISTOGRAM.quantile(q) == value

    def test_no_values_have_no_quantiles(self):
        assert Histogram().quantile(0.5) == 0.0

    @pytest.mark.parametrize("q", [-0.1, 1.1])
    def test_a_quantile_is_a_share(self, q):
        with pytest.raises(ValueError, match="between 0 and 1"):
            self.HISTOGRAM.quantile(q)

    def test_what_came_since_an_earlier_snapshot(self):
        later = Histogram((Bucket(0.1, 0.2, 3), Bucket(0.2, 0.4, 2), Bucket(0.4, 0.8, 2)), 2.0, 0.7)
        assert later.since(self.HISTOGRAM).buckets == (Bucket(0.2, 0.4, 2), Bucket(0.4, 0.8, 1))
        assert later.since(self.HISTOGRAM).sum == pytest.approx(1.05)
