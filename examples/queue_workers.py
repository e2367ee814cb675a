"""Producers and workers around a bounded queue: the producers wait when the workers are behind.

    python examples/queue_workers.py
    python -m ironloop examples/queue_workers.py
    python -m ironloop compare examples/queue_workers.py

30,000 items go through the queue; the tasks switch for nearly every one of them, so this shows what a switch costs.
"""

import asyncio

PRODUCERS = 3
WORKERS = 5
ITEMS = 10_000


async def produce(queue: "asyncio.Queue[int]", first: int) -> None:
    for number in range(first, first + ITEMS):
        await queue.put(number)


async def work(queue: "asyncio.Queue[int]", done: "list[int]") -> None:
    while True:
        number = await queue.get()
        if number % 3 == 0:
            await asyncio.sleep(0)
        done.append(number)
        queue.task_done()


async def main() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=10)
    done: list[int] = []
    workers = [asyncio.create_task(work(queue, done)) for _ in range(WORKERS)]
    await asyncio.gather(*(produce(queue, first * ITEMS) for first in range(PRODUCERS)))
    await queue.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print(f"{len(done)} items, each once: {sorted(done) == list(range(PRODUCERS * ITEMS))}")


asyncio.run(main())
