"""run_in_executor and the default executor; name look-ups do not wait behind it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading

import pytest


async def fill_executor(loop, release):
    """As many jobs as there may be threads, all of which have begun and wait for `release`."""
    await loop.run_in_executor(None, int)
    begun = threading.Semaphore(0)

    def job():
        begun.release()
        return release.wait()

    jobs = [loop.run_in_executor(None, job) for _ in range(loop._default_executor._max_workers)]
    for _ in jobs:
        assert begun.acquire(timeout=20)
    return jobs


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


def test_the_default_executor_is_a_thread_pool(run, loop):
    async def main():
        assert loop._default_executor is None
        assert await loop.run_in_executor(None, int) == 0
        executor = loop._default_executor
        assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        assert executor._max_workers == concurrent.futures.ThreadPoolExecutor()._max_workers
        assert executor.submit(pow, 2, exp=5).result() == 32
        assert executor.submit(int, "x").exception().args
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        assert await loop.run_in_executor(executor, abs, -3) == 3
        assert await loop.run_in_executor(executor=None, func=int) == 0

    run(main)


def test_threads_are_used_again_and_never_too_many(run, loop):
    async def main():
        ever = set()
        for _ in range(3):
            release = threading.Event()
            jobs = await fill_executor(loop, release)
            ever.update(thread for thread in threading.enumerate() if thread.name.startswith("asyncio_"))
            release.set()
            await asyncio.gather(*jobs, *[loop.run_in_executor(None, int) for _ in range(100)])
        expected = {f"asyncio_{number}" for number in range(loop._default_executor._max_workers)}
        assert {thread.name for thread in ever} == expected
        assert len(ever) == len(expected)

    run(main)


def test_jobs_run_at_the_same_time(run, loop):
    async def main():
        await loop.run_in_executor(None, int)
        meeting = threading.Barrier(loop._default_executor._max_workers)
        for _ in range(3):
            await asyncio.gather(*[loop.run_in_executor(None, meeting.wait, 20) for _ in range(meeting.parties)])

    run(main)


def test_more_jobs_than_threads(run, loop):
    async def main():
        arrived = threading.Semaphore(0)
        jobs = [loop.run_in_executor(None, arrived.acquire) for _ in range(200)]
        await loop.run_in_executor(concurrent_pool, lambda: [arrived.release() for _ in jobs])
        assert all(await asyncio.gather(*jobs))

    with concurrent.futures.ThreadPoolExecutor(1) as concurrent_pool:
        run(main)


def test_a_job_starts_while_the_callback_that_asked_for_it_still_runs(run, loop):
    async def main():
        for _ in range(3):
            started = threading.Event()
            job = loop.run_in_executor(None, started.set)
            assert started.wait(20)
            await job

    run(main)


def test_a_job_that_is_cancelled_before_it_starts_never_runs(run, loop):
    release, ran = threading.Event(), []

    async def main():
        blocking = await fill_executor(loop, release)
        late = [loop.run_in_executor(None, ran.append, number) for number in range(3)]
        late[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*blocking, late[0], late[2])
        assert late[1].cancelled()
        assert sorted(ran) == [0, 2]

    run(main)


def test_what_a_job_raises_comes_with_its_traceback(run, loop):
    import traceback

    def inner():
        raise LookupError("not there")

    def outer():
        inner()

    async def main():
        with pytest.raises(LookupError, match="not there") as caught:
            await loop.run_in_executor(None, outer)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[-2:] == ["outer", "inner"]

    run(main)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (concurrent.futures.CancelledError, asyncio.CancelledError),
        (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
        (asyncio.CancelledError, asyncio.CancelledError),
        (SystemExit, SystemExit),
        (GeneratorExit, GeneratorExit),
    ],
)
def test_exceptions_that_mean_something_to_futures(run, loop, raised, seen):
    async def main():
        def fail():
            raise raised("word")

        job = loop.run_in_executor(None, fail)
        await asyncio.wait([job])
        assert not job.cancelled()
        assert type(job.exception()) is seen
        assert job.exception().args == ("word",)

    run(main)


def _futures_take_stop_iteration(loop):
    future = loop.create_future()
    try:
        future.set_exception(StopIteration())
    except TypeError:
        return False
    return isinstance(future.exception(), RuntimeError)


def test_stop_iteration(run, loop, reports):
    async def main():
        job = loop.run_in_executor(None, next, iter(()))
        if _futures_take_stop_iteration(loop):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await job
            return
        # Before Python 3.12.2 they do not, and say so; the future waits for ever.
        while not reports:
            await asyncio.sleep(0.001)
        assert not job.done()
        assert isinstance(reports[0]["exception"], TypeError)
        job.cancel()

    run(main)


def test_a_future_that_somebody_else_has_finished_is_reported(run, loop, reports):
    release = threading.Event()

    async def main():
        job = loop.run_in_executor(None, release.wait)
        job.set_result(1)
        release.set()
        while not reports:
            await asyncio.sleep(0.001)
        assert await job == 1
        assert len(reports) == 1
        assert reports[0]["message"].startswith("Exception in callback ")

    run(main)


def test_jobs_that_wait_can_be_cancelled_by_the_shutdown(run, loop):
    release = threading.Event()

    async def main():
        jobs = await fill_executor(loop, release)
        executor = loop._default_executor
        late = loop.run_in_executor(None, int)
        submitted = executor.submit(int)
        executor.shutdown(wait=False, cancel_futures=True)
        assert submitted.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await late
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            loop.run_in_executor(None, int)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(int)
        release.set()
        assert all(await asyncio.gather(*jobs))

    run(main)


def test_close_lets_running_jobs_end(loop):
    release, ended = threading.Event(), threading.Event()

    def job():
        release.wait()
        ended.set()

    async def main():
        loop.run_in_executor(None, job)
        return [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]

    threads = loop.run_until_complete(main())
    loop.close()
    assert loop._default_executor is None
    release.set()
    assert ended.wait(20)
    for thread in threads:
        thread.join()


def test_the_threads_end_with_a_loop_that_was_never_closed(loop_factory):
    """The loop itself warns; its descriptors are closed with it."""
    import gc
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = loop_factory()
        loop.run_until_complete(loop.run_in_executor(None, int))
        threads = list(loop._default_executor._threads)
        assert threads
        del loop
        gc.collect()
    for thread in threads:
        thread.join()


def test_an_override_of_call_soon_threadsafe_delivers_the_outcome(loop):
    delivered, release = [], threading.Event()

    class Loop(type(loop)):
        def call_soon_threadsafe(self, *args, **keywords):
            delivered.append(threading.current_thread().name)
            return super().call_soon_threadsafe(*args, **keywords)

    other = Loop()
    job = other.run_in_executor(None, release.wait)
    release.set()
    assert other.run_until_complete(job)
    assert "asyncio_0" in delivered
    other.run_until_complete(other.shutdown_default_executor())
    other.close()


def test_debug_mode_checks_what_is_to_be_called(loop):
    async def coroutine():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, coroutine)
    with pytest.raises(TypeError, match="a callable object was expected"):
        loop.run_in_executor(None, 5)
    assert loop.run_until_complete(loop.run_in_executor(None, abs, -1)) == 1


def test_a_closed_loop_takes_no_job(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, int)


def test_nothing_of_a_job_is_kept(run, loop):
    import weakref

    class Thing:
        def __call__(self, other):
            return other

    async def main():
        function, argument = Thing(), Thing()
        known = weakref.ref(function), weakref.ref(argument)
        result = await loop.run_in_executor(None, function, argument)
        assert result is argument
        del function, argument, result
        await loop.run_in_executor(None, int)
        while any(reference() is not None for reference in known):
            await asyncio.sleep(0.001)

    run(main)


PROGRAM = """
import asyncio, concurrent.futures.thread, os, sys, threading, time
def wait_for_the_end():
    while not concurrent.futures.thread._shutdown:
        time.sleep(0.001)
if sys.argv[1] == "ironloop":
    import ironloop
    loop = ironloop.new_event_loop()
else:
    loop = asyncio.SelectorEventLoop()
{}
"""


def run_program(loop_name, body):
    import subprocess
    import textwrap

    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(textwrap.dedent(body)), loop_name]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_interpreter_waits_for_running_jobs_at_its_end(loop_name):
    body = """
        def job():
            started.set()
            wait_for_the_end()
            print("done")

        started = threading.Event()
        loop.run_in_executor(None, job)
        started.wait()
        """
    program = run_program(loop_name, body)
    assert (program.returncode, program.stdout, program.stderr) == (0, "done\n", "")


def test_no_job_is_taken_while_the_interpreter_ends(loop_name):
    body = """
        def job():
            wait_for_the_end()
            try:
                loop.run_in_executor(None, int)
            except RuntimeError as error:
                print(error)

        loop.run_in_executor(None, job)
        """
    program = run_program(loop_name, body)
    assert program.stdout == "cannot schedule new futures after interpreter shutdown\n", program.stderr


def test_a_forked_child_has_an_executor_of_its_own(loop_name):
    body = """
        loop.run_until_complete(loop.run_in_executor(None, int))
        asyncio._set_running_loop(None)
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        other = type(loop)()
        print(other.run_until_complete(other.run_in_executor(None, abs, -7)), flush=True)
        other.run_until_complete(other.shutdown_default_executor())
        if not child:
            os._exit(0)
        print(loop.run_until_complete(loop.run_in_executor(None, abs, -8)))
        """
    program = run_program(loop_name, body)
    assert (program.returncode, program.stdout) == (0, "7\n7\n8\n"), program.stderr
