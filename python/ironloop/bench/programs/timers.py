"""Timers: as work, their lateness, and what one costs among many."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

COSTED = 20_000
TURN_EVERY = 100


async def cancelled(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(10, print).cancel()


async def wait_for(count: int) -> None:
    """The future is ready after one turn, long before the time is over."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await asyncio.wait_for(future, 10)


async def fired(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for index in range(count):
        loop.call_later(index * 1e-7, fire)
    await done


async def lateness(seconds: float, delay: float) -> dict[str, float]:
    """Of asyncio.sleep(delay), one after the other; `early` is the share that came before its time."""
    late: list[float] = []
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end or len(late) < 20:
        await asyncio.sleep(delay)
        late.append(time.monotonic() - start - delay)
    late.sort()
    return {
        "p50_us": statistics.median(late) * 1e6,
        "p99_us": late[int(len(late) * 0.99)] * 1e6,
        "early": sum(delta < 0 for delta in late) / len(late),
        "earliest_us": -late[0] * 1e6,
    }


async def among_pending(seconds: float, pending: int) -> dict[str, float]:
    """Nanoseconds to set and cancel one timer while `pending` others wait, with deadlines before and after it."""
    loop = asyncio.get_running_loop()
    deadlines = random.Random(1)
    waiting = [loop.call_later(deadlines.uniform(100, 1000), print) for _ in range(pending)]
    await asyncio.sleep(0)
    costs: list[float] = []
    end = time.perf_counter() + seconds
    while not costs or time.perf_counter() < end:
        delays = [deadlines.uniform(100, 1000) for _ in range(COSTED)]
        start = time.process_time_ns()
        for index, delay in enumerate(delays):
            loop.call_later(delay, print).cancel()
            if index % TURN_EVERY == 0:
                await asyncio.sleep(0)
        costs.append((time.process_time_ns() - start) / COSTED)
    for handle in waiting:
        handle.cancel()
    return {"ns": statistics.median(costs)}
