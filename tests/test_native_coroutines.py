"""What the native methods of readers and writers return: a coroutine, to tasks, debuggers, and who steps it by hand.

Each test runs on asyncio's loop first, whose coroutines are the judge, to the frames of their errors.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import types
import warnings

import pytest

from tests.support.streams import arrival, connection, frames_below, started, waiting


@pytest.mark.parametrize("method", ["read", "readexactly", "readline", "readuntil", "drain"])
def test_what_a_method_returns_is_a_coroutine(run, method):
    async def main():
        async with connection() as (_, there):
            owner = there.writer if method == "drain" else there.reader
            coroutine = getattr(owner, method)(*([3] if method in ("read", "readexactly") else []))
            assert asyncio.iscoroutine(coroutine)
            assert inspect.isawaitable(coroutine)
            assert coroutine.__name__ == method
            assert coroutine.__qualname__ == f"{'StreamWriter' if method == 'drain' else 'StreamReader'}.{method}"
            assert repr(coroutine).startswith(f"<coroutine object {coroutine.__qualname__} at 0x")
            coroutine.close()
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await coroutine

    run(main)


@pytest.mark.parametrize("call", ["read(10)", "readexactly(10)", "readline()", "readuntil(b'|')"])
def test_an_exception_comes_out_of_the_frames_of_asyncio(run, call):
    method = call.partition("(")[0]

    def begin(reader):
        return frames_below(eval(f"reader.{call}", {"reader": reader}))

    async def main():
        async with connection() as (_, there):
            cancelled = asyncio.ensure_future(begin(there.reader))
            await waiting(there.reader)
            cancelled.cancel()
            frames = await cancelled
            assert (frames[0], frames[-1]) == (method, "_wait_for_data")
            assert there.reader._waiter is None

            failed = asyncio.ensure_future(begin(there.reader))
            await waiting(there.reader)
            there.reader.set_exception(ConnectionResetError("gone"))
            frames = await failed
            assert (frames[0], frames[-1]) == (method, "_wait_for_data")
            assert isinstance(there.reader.exception(), ConnectionResetError)
            assert method in await begin(there.reader)

    run(main)


def test_tasks_are_made_of_coroutines_of_asyncio(run):
    async def main():
        async with connection() as (here, there):
            task = asyncio.create_task(there.reader.readexactly(3), name="reading")
            assert isinstance(task.get_coro(), types.CoroutineType)
            assert "coro=<StreamReader.readexactly() running at " in repr(task)
            plain = asyncio.Task(here.reader.readexactly(2))
            here.writer.write(b"abc")
            there.writer.write(b"de")
            assert await task == b"abc"
            assert await plain == b"de"
            here.writer.write(b"one\ntwo\n")
            assert await asyncio.gather(there.reader.readline(), there.writer.drain()) == [b"one\n", None]
            assert await asyncio.shield(there.reader.readline()) == b"two\n"

    run(main)


def test_a_task_factory_gets_coroutines_of_asyncio(run, loop):
    seen = []

    def factory(loop, coro, **options):
        seen.append(type(coro))
        return asyncio.Task(coro, loop=loop, **options)

    async def main():
        async with connection() as (here, there):
            loop.set_task_factory(factory)
            here.writer.write(b"abc")
            assert await asyncio.ensure_future(there.reader.readexactly(3)) == b"abc"
            assert await asyncio.create_task(there.writer.drain()) is None
            loop.set_task_factory(None)

    run(main)
    assert seen == [types.CoroutineType] * 2


@pytest.mark.parametrize("call", ["reader.read(3)", "reader.readexactly(3)", "reader.readline()", "writer.drain()"])
def test_one_that_was_never_awaited(run, call):
    async def main():
        async with connection() as (_, there):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                eval(call, {"reader": there.reader, "writer": there.writer})
                gc.collect()
            return [str(warning.message) for warning in caught if warning.category is RuntimeWarning]

    (message,) = run(main)
    owner, _, method = call.partition("(")[0].partition(".")
    assert message.startswith(f"coroutine 'Stream{owner.title()}.{method}' was never awaited")


def test_by_hand(run):
    """`send`, `throw` and `close`, as a scheduler of one's own calls them."""

    async def main():
        async with connection() as (here, there):
            reader = there.reader
            coroutine = reader.readexactly(5)
            with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
                coroutine.send(1)
            future = coroutine.send(None)
            assert future is reader._waiter
            assert future._asyncio_future_blocking
            with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
                await coroutine
            here.writer.write(b"hello")
            await arrival(reader, 5)
            assert reader._waiter is None
            with pytest.raises(StopIteration) as stop:
                coroutine.send(None)
            assert stop.value.value == b"hello"
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                coroutine.send(None)

            coroutine = reader.readline()
            coroutine.send(None)
            coroutine.close()
            coroutine.close()
            assert reader._waiter is None

            coroutine = reader.readline()
            with pytest.raises(KeyError, match="thrown"):
                coroutine.throw(KeyError("thrown"))
            coroutine = reader.readline()
            coroutine.send(None)
            with pytest.raises(KeyError, match="thrown"):
                coroutine.throw(KeyError("thrown"))
            assert reader._waiter is None

            coroutine = reader.readline()
            coroutine.send(None)
            del coroutine
            assert reader._waiter is None
            assert list(reader.readexactly(1).__await__().__class__.__mro__)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        run(main)


def test_by_generators(run):
    """`yield from`, as wrappers of awaitables do it."""

    class Wrapper:
        def __init__(self, awaitable):
            self.awaitable = awaitable

        def __await__(self):
            return (yield from self.awaitable.__await__())

    async def main():
        async with connection() as (here, there):
            assert await Wrapper(there.writer.drain()) is None
            task = asyncio.ensure_future(Wrapper(there.reader.readexactly(5)))
            await waiting(there.reader)
            here.writer.write(b"hello")
            assert await task == b"hello"
            steps = there.reader.readline().__await__()
            assert steps.__next__() is there.reader._waiter
            steps.close()

    run(main)


def test_an_awaitable_of_the_programs_own_in_the_place_of_a_future(run, loop, monkeypatch):
    awaited = []

    class Future(asyncio.Future):
        def __await__(self):
            awaited.append(1)
            return super().__await__()

    async def main():
        async with connection() as (here, there):
            monkeypatch.setattr(loop, "create_future", lambda: Future(loop=loop))
            task = asyncio.ensure_future(there.reader.readline())
            await waiting(there.reader)
            monkeypatch.undo()
            here.writer.write(b"line\n")
            assert await task == b"line\n"

    run(main)
    assert awaited


def test_a_coroutine_that_no_task_could_be_made_of_can_be_awaited(run, loop):
    def factory(loop, coro, **options):
        raise KeyError("no task")

    async def main():
        async with connection() as (here, there):
            coroutine = there.reader.readexactly(5)
            loop.set_task_factory(factory)
            with pytest.raises(KeyError, match="no task"):
                loop.create_task(coroutine)
            loop.set_task_factory(None)
            here.writer.write(b"hello")
            assert await coroutine == b"hello"

    run(main)


def test_what_debuggers_look_at(run):
    """Where a coroutine is, and what it waits for, as CPython's own coroutines say it."""

    async def main():
        async with connection() as (here, there):
            reader = there.reader
            coroutine = reader.readexactly(5)
            assert coroutine.cr_code is asyncio.StreamReader.readexactly.__code__
            assert coroutine.cr_frame.f_code is coroutine.cr_code
            assert coroutine.cr_await is None
            assert not coroutine.cr_running
            assert coroutine.cr_origin is None
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
            coroutine.send(None)
            assert coroutine.cr_frame.f_code is coroutine.cr_code
            assert coroutine.cr_await is not None
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
            coroutine.close()
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
            assert coroutine.cr_frame is None

            unlucky = reader.readuntil(b"")
            with pytest.raises(ValueError, match="Separator"):
                unlucky.send(None)
            assert unlucky.cr_frame is None

            task = asyncio.Task(reader.readexactly(5))
            await waiting(reader)
            assert "coro=<StreamReader.readexactly() running at " in repr(task)
            here.writer.write(b"hello")
            await task

            whole = asyncio.Task(reader.read())
            await waiting(reader)
            assert "coro=<StreamReader.read() running at " in repr(whole)
            here.writer.write_eof()
            assert await whole == b""

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")
def test_the_call_graph(run):
    async def main():
        async with connection() as (here, there):
            task = await started(there.reader, "readline")
            frames = asyncio.capture_call_graph(task).call_stack
            assert {"use", "readline"} <= {entry.frame.f_code.co_name for entry in frames}
            here.writer.write(b"line\n")
            await task

    run(main)
