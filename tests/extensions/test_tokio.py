"""Futures of tokio's, by pyo3-async-runtimes, awaited on the loop under test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

# The first test waits for cargo.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_many_are_awaited_at_once(native_jobs, loop):
    async def main():
        return await asyncio.gather(*(native_jobs.sleep(0.001 * (number % 7), number) for number in range(300)))

    assert loop.run_until_complete(main()) == list(range(300))


def test_tokio_talks_to_a_server_of_the_loops(native_jobs, loop):
    async def answer(reader, writer):
        writer.write((await reader.read())[::-1])
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        answers = await asyncio.gather(*(native_jobs.ask(port, b"%d," % n * 1000) for n in range(20)))
        server.close()
        await server.wait_closed()
        return answers

    assert loop.run_until_complete(main()) == [(b"%d," % n * 1000)[::-1] for n in range(20)]


def test_an_error_of_rusts_is_raised(native_jobs, loop):
    async def main():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await native_jobs.ask(port, b"anybody?")

    with pytest.raises(ConnectionRefusedError):
        loop.run_until_complete(main())


def test_cancelling_and_timeouts(native_jobs, loop):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(native_jobs.sleep(600, None), timeout=0.01)
        task = asyncio.ensure_future(native_jobs.sleep(600, None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await native_jobs.sleep(0, "still there")

    assert loop.run_until_complete(main()) == "still there"


def test_a_program_ends_after_it(native_jobs_path, tmp_path):
    """On asyncio's loop one in seven of these crashes on a loaded machine: tokio's threads let go of their objects when
    the interpreter is ending."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, native_jobs\n"
        "async def main():\n"
        "    print(sum(await asyncio.gather(*(native_jobs.sleep(0.01, n) for n in range(100)))))\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(native_jobs_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "ironloop", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "4950\n", "")
