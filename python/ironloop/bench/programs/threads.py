"""Work: other threads, which call into the loop or are called from it."""

from __future__ import annotations

import asyncio
import threading

JOBS_AT_ONCE = 100


async def threadsafe_busy(count: int) -> None:
    """Another thread schedules callbacks as fast as it can."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    left = count

    def hit() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    def post() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(hit)

    thread = threading.Thread(target=post)
    thread.start()
    await done.wait()
    thread.join()


async def threadsafe_waking(count: int) -> None:
    """Another thread schedules one callback and waits until it has run; the loop has nothing else to do."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    ran = threading.Semaphore(0)

    def post() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(ran.release)
            ran.acquire()
        loop.call_soon_threadsafe(finished.set_result, None)

    thread = threading.Thread(target=post)
    thread.start()
    await finished
    thread.join()


async def executor(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.run_in_executor(None, int)


async def executor_100_at_once(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count // JOBS_AT_ONCE):
        await asyncio.gather(*(loop.run_in_executor(None, int) for _ in range(JOBS_AT_ONCE)))


async def to_thread(count: int) -> None:
    for _ in range(count):
        await asyncio.to_thread(int)
