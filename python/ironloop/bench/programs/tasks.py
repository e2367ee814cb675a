"""Work: tasks, futures, and what they wait for."""

from __future__ import annotations

import asyncio

GATHERED = 100
CONTENDERS = 10


async def nothing() -> None:
    pass


async def sleep_zero(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def create_task(count: int) -> None:
    for _ in range(count):
        await asyncio.create_task(nothing())


async def gather(count: int) -> None:
    """Counted in coroutines, 100 per call."""
    for _ in range(count // GATHERED):
        await asyncio.gather(*(nothing() for _ in range(GATHERED)))


async def future_wake(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def queue(count: int) -> None:
    """Two tasks and two queues; an item goes to and fro. Counted in items received."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(count // 2):
            await back.put(await there.get())

    task = asyncio.create_task(answer())
    for number in range(count // 2):
        await there.put(number)
        await back.get()
    await task


async def lock(count: int) -> None:
    """Ten tasks take turns; each holds the lock for one switch."""
    mutex = asyncio.Lock()

    async def contend() -> None:
        for _ in range(count // CONTENDERS):
            async with mutex:
                await asyncio.sleep(0)

    await asyncio.gather(*(contend() for _ in range(CONTENDERS)))
