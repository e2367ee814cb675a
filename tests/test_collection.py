"""The cyclic collector may run at every allocation: nothing that it meets is half made."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from tests.support.protocols import Echo, close_all
from tests.test_executor import fill_executor


@pytest.fixture
def eager_collector():
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)


def test_connections_while_every_allocation_collects(run, loop, eager_collector):
    ballast = []

    async def visit(address, number):
        # With a threshold of 1 every second allocation collects: shift which ones these are.
        ballast.extend([] for _ in range(number % 4))
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x" * 1000)
        answer = await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()
        return answer

    class Server(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            ballast.extend([] for _ in range(len(ballast) % 3))

    async def main():
        server = await loop.create_server(Server, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        answers = await asyncio.gather(*[visit(address, number) for number in range(40)])
        assert answers == [b"x" * 1000] * 40
        await close_all(server)

    run(main)


def test_handles_while_every_allocation_collects(run, loop, eager_collector):
    async def main():
        seen = []
        done = loop.create_future()
        for number in range(50):
            loop.call_soon(seen.append, number)
            loop.call_later(0, seen.append, number)
        loop.call_soon_threadsafe(seen.append, -1)
        loop.call_later(0.001, done.set_result, None)
        await done
        assert sorted(seen) == sorted([*range(50), *range(50), -1])

    run(main)


def test_the_collector_sees_the_jobs_that_wait():
    import ironloop

    loop, release = ironloop.new_event_loop(), threading.Event()

    async def main():
        jobs = await fill_executor(loop, release)
        last = loop.run_in_executor(None, max, 1, 2)
        seen = gc.get_referents(loop._default_executor._work_queue)
        release.set()
        assert [object for object in (loop, last, max, (1, 2)) if object not in seen] == []
        await asyncio.gather(*jobs)
        assert await last == 2

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
