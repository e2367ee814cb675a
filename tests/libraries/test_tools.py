"""Small libraries over asyncio: aiojobs, async_lru, aiostream, aioprocessing, unsync, asks."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.peers.programs import package, program


def test_aiojobs_limits_what_runs(run, reports):
    aiojobs = package("aiojobs")

    async def main():
        running, most, done = 0, 0, []

        async def job(number):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            done.append(number)

        scheduler = aiojobs.Scheduler(limit=3)
        jobs = [await scheduler.spawn(job(number)) for number in range(20)]
        await asyncio.gather(*(job.wait() for job in jobs))
        endless = await scheduler.spawn(asyncio.sleep(3600))
        await scheduler.close()
        assert endless.closed
        assert sorted(done) == list(range(20))
        assert most == 3

    run(main)
    assert reports == []


def test_async_lru_calls_once_for_many_who_wait(run):
    async_lru = package("async_lru")

    async def main():
        called = []

        @async_lru.alru_cache(maxsize=8)
        async def slow(number):
            called.append(number)
            await asyncio.sleep(0)
            return number * 2

        assert await asyncio.gather(*(slow(number % 4) for number in range(40))) == [n % 4 * 2 for n in range(40)]
        assert sorted(called) == [0, 1, 2, 3]
        assert slow.cache_info().hits == 36
        await slow.cache_close()

    run(main)


def test_aiostream_merges_and_cuts(run):
    stream = package("aiostream").stream
    pipe = package("aiostream").pipe

    async def main():
        numbers = stream.range(0, 1000) | pipe.filter(lambda number: number % 2) | pipe.map(lambda number: number**2)
        async with numbers.stream() as streamer:
            assert [number async for number in streamer] == [number**2 for number in range(1, 1000, 2)]
        merged = stream.merge(stream.count(interval=0.001) | pipe.take(20), stream.range(100, 120))
        assert sorted(await stream.list(merged)) == [*range(20), *range(100, 120)]

    run(main)


def put_squares(queue, count):
    for number in range(count):
        queue.put(number * number)


def test_aioprocessing_waits_for_processes(run, resource_tracker):
    aioprocessing = package("aioprocessing")

    async def main():
        context = multiprocessing.get_context("spawn")
        queue = aioprocessing.AioQueue(context=context)
        process = aioprocessing.AioProcess(target=put_squares, args=(queue, 100), context=context)
        process.start()
        assert [await queue.coro_get() for _ in range(100)] == [number * number for number in range(100)]
        await process.coro_join()
        assert process.exitcode == 0
        queue.close()
        queue.join_thread()
        process.close()

    run(main)


#: unsync keeps a thread with a loop of its own, which it makes when it is imported.
UNSYNC = """
import asyncio, time
from unsync import unsync

@unsync
async def asynchronous(number):
    await asyncio.sleep(0.001)
    return number, type(asyncio.get_running_loop()).__name__

@unsync
def in_a_thread(number):
    return number * 2

calls = [asynchronous(number) for number in range(100)]
assert [call.result()[0] for call in calls] == list(range(100))
assert [call.result() for call in [in_a_thread(number) for number in range(20)]] == list(range(0, 40, 2))
print(calls[0].result()[1])
"""


def test_unsync_runs_on_the_installed_loop(program_output, loop_name):
    package("unsync")
    assert program_output(UNSYNC) == {"asyncio": "_UnixSelectorEventLoop\n", "ironloop": "Loop\n"}[loop_name]


def test_asks_fetches(run):
    """A client over anyio."""
    asks = package("asks")

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        addresses = [f"http://127.0.0.1:{port}/{number}" for number in range(20)]
        answers = await asyncio.gather(*(asks.get(address) for address in addresses))
        assert [answer.text for answer in answers] == [f"/{number}" for number in range(20)]
        server.close()
        await server.wait_closed()

    run(main)


MOLOTOV = """
from molotov import events, scenario
import asyncio

@scenario(weight=100)
async def fetch(session):
    async with session.get("http://127.0.0.1:{port}/") as response:
        assert response.status == 200
        assert await response.text() == "hello"
"""


@pytest.mark.parametrize("workers", [1, 10])
def test_molotov_loads_a_server(run, loop_name, tmp_path, workers):
    molotov = program("molotov", Path(sys.executable).parent)
    web = package("aiohttp.web")

    async def main():
        served = 0

        async def hello(_request):
            nonlocal served
            served += 1
            return web.Response(text="hello")

        application = web.Application()
        application.router.add_get("/", hello)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        path = tmp_path / "scenario.py"
        path.write_text(MOLOTOV.replace("{port}", str(port)))
        launcher = ["-m", "ironloop"] if loop_name == "ironloop" else []
        command = [*launcher, molotov, "-w", str(workers), "--max-runs", "20", "-d", "60", "-c", str(path)]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=STDOUT)
        output = (await process.communicate())[0].decode()
        await runner.cleanup()
        assert process.returncode == 0, output
        assert served == 20 * workers, output

    run(main)
