"""run_in_executor and the default executor; name look-ups do not wait behind it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading

import pytest


def test_a_job_runs_in_a_thread_and_its_result_comes_back(run, loop):
    async def main():
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("asyncio_")
        assert await loop.run_in_executor(None, pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        assert await asyncio.gather(*(loop.run_in_executor(None, pow, n, 2) for n in range(50))) == [
            n * n for n in range(50)
        ]

    run(main)


def test_another_executor_can_be_given(run, loop):
    async def main():
        with concurrent.futures.ThreadPoolExecutor(1, "mine") as executor:
            assert await loop.run_in_executor(executor, lambda: threading.current_thread().name) == "mine_0"
            loop.set_default_executor(executor)
            assert await loop.run_in_executor(None, lambda: threading.current_thread().name) == "mine_0"

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 only warns")
def test_only_thread_pools_can_be_the_default(loop):
    with pytest.raises(TypeError):
        loop.set_default_executor(object())


def test_after_the_shutdown_no_job_is_taken(loop):
    assert loop.run_until_complete(loop.run_in_executor(None, int)) == 0
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_the_shutdown_may_have_a_timeout(loop, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 12, 3):
        pytest.skip("before Python 3.12.3 CPython's loop waits for the threads without a limit")
    release = threading.Event()

    async def main():
        job = loop.run_in_executor(None, release.wait)
        try:
            with pytest.warns(RuntimeWarning, match="The executor did not finish"):
                await loop.shutdown_default_executor(0.01)
        finally:
            release.set()
        assert await job

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_a_shutdown_in_time_says_nothing(loop):
    async def main():
        job = loop.run_in_executor(None, pow, 2, 3)
        await loop.shutdown_default_executor(20)
        assert await job == 8

    loop.run_until_complete(main())


def test_a_cancelled_job_does_not_disturb_the_loop(run, loop):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait)
        await asyncio.sleep(0)
        future.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main)


def test_to_thread_takes_the_context_along(run):
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)

    async def main():
        variable.set(3)
        assert await asyncio.to_thread(variable.get) == 3

    run(main)


def test_names_are_looked_up_while_the_default_executor_is_full():
    """CPython's loop looks names up in the default executor, and would wait."""
    import ironloop

    release = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(None, release.wait) for _ in range(64)]
        found = await loop.getaddrinfo("localhost", 80)
        release.set()
        await asyncio.gather(*jobs)
        return found

    assert ironloop.run(main())
