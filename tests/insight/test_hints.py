"""Classic mistakes: the exceptions are CPython's, word by word; on our loop they come with a hint."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import threading
import traceback
import warnings

import ironloop
import pytest
from ironloop import _hints

NOTES = sys.version_info >= (3, 11)


async def nothing():
    pass


@contextlib.contextmanager
def unawaited():
    """A coroutine that nobody will await, which is the mistake."""
    coroutine = nothing()
    try:
        yield coroutine
    finally:
        coroutine.close()


def raised(function, *args):
    """The exception of a call."""
    try:
        function(*args)
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def in_thread(function, *args):
    """The exception of a call in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(raised(function, *args)))
    thread.start()
    thread.join()
    return found[0]


def in_loop(loop, function, *args):
    """The exception of a call by a callback."""

    async def main():
        return raised(function, *args)

    return loop.run_until_complete(main())


def closed(method):
    def provoke(loop):
        loop.close()
        return raised(getattr(loop, method), *{"call_later": [1, print], "run_forever": []}.get(method, [print]))

    return provoke


def closed_executor(loop):
    loop.close()
    return raised(loop.run_in_executor, None, print)


def closed_reader(loop):
    loop.close()
    return raised(loop.add_reader, 0, print)


def closed_run(loop):
    loop.close()
    with unawaited() as coroutine:
        return raised(loop.run_until_complete, coroutine)


def from_thread(method):
    def provoke(loop):
        loop.set_debug(True)

        async def main():
            return in_thread(getattr(loop, method), *([1, print] if method == "call_later" else [print]))

        return loop.run_until_complete(main())

    return provoke


def task_from_thread(loop):
    """`asyncio.create_task` asks for the loop of its thread."""
    with unawaited() as coroutine:
        return raised(loop.run_until_complete, loop.run_in_executor(None, asyncio.create_task, coroutine))


def nested_run_forever(loop):
    return in_loop(loop, loop.run_forever)


def nested_run_until_complete(loop):
    with unawaited() as coroutine:
        return in_loop(loop, loop.run_until_complete, coroutine)


def nested_other_loop(loop):
    other = type(loop)()
    with contextlib.closing(other):
        return in_loop(loop, other.run_forever)


def nested_asyncio_run(loop):
    async def main():
        with unawaited() as coroutine:
            asyncio.run(coroutine)

    return raised(loop.run_until_complete, main())


def coroutine_as_callback(method):
    def provoke(loop):
        loop.set_debug(True)
        with unawaited() as coroutine:
            arguments = {"call_later": [1, coroutine], "run_in_executor": [None, coroutine]}.get(method, [coroutine])
            return in_loop(loop, getattr(loop, method), *arguments)

    return provoke


def coroutine_as_signal_handler(loop):
    with unawaited() as coroutine:
        return raised(loop.add_signal_handler, signal.SIGUSR1, coroutine)


def coroutine_called(loop):
    """Without debug mode it is found out when it is called."""
    contexts = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    with unawaited() as coroutine:
        loop.call_soon(coroutine)
        loop.run_until_complete(asyncio.sleep(0))
    return contexts[0]["exception"]


def function_instead_of_coroutine(loop):
    return raised(loop.run_until_complete, nothing)


def future_of_another_loop_awaited(loop):
    other = type(loop)()

    async def main():
        await other.create_future()

    with contextlib.closing(other):
        return raised(loop.run_until_complete, main())


def future_of_another_loop_run(loop):
    other = type(loop)()
    with contextlib.closing(other):
        return raised(loop.run_until_complete, other.create_future())


def event_of_another_loop(loop):
    """Nobody awaits the task: it is the exception handler that gets to know."""
    event, contexts = asyncio.Event(), []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    other = type(loop)()

    async def time_out():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), 0.001)

    async def main():
        task = asyncio.create_task(event.wait())
        await asyncio.wait([task])

    with contextlib.closing(other):
        other.run_until_complete(time_out())
    loop.run_until_complete(main())
    return contexts[0]["exception"]


MISTAKES = {
    "closed, call_soon": (closed("call_soon"), _hints.CLOSED),
    "closed, call_soon_threadsafe": (closed("call_soon_threadsafe"), _hints.CLOSED),
    "closed, call_later": (closed("call_later"), _hints.CLOSED),
    "closed, run_forever": (closed("run_forever"), _hints.CLOSED),
    "closed, run_in_executor": (closed_executor, _hints.CLOSED),
    "closed, add_reader": (closed_reader, _hints.CLOSED),
    "closed, run_until_complete": (closed_run, _hints.CLOSED),
    "another thread, call_soon": (from_thread("call_soon"), _hints.THREAD),
    "another thread, call_later": (from_thread("call_later"), _hints.THREAD),
    "another thread, create_task": (task_from_thread, _hints.THREAD),
    "nested run_forever": (nested_run_forever, _hints.NESTED),
    "nested run_until_complete": (nested_run_until_complete, _hints.NESTED),
    "nested run of another loop": (nested_other_loop, _hints.NESTED),
    "nested asyncio.run": (nested_asyncio_run, _hints.NESTED),
    "coroutine, call_soon": (coroutine_as_callback("call_soon"), _hints.COROUTINE),
    "coroutine, call_soon_threadsafe": (coroutine_as_callback("call_soon_threadsafe"), _hints.COROUTINE),
    "coroutine, call_later": (coroutine_as_callback("call_later"), _hints.COROUTINE),
    "coroutine, run_in_executor": (coroutine_as_callback("run_in_executor"), _hints.COROUTINE),
    "coroutine, add_signal_handler": (coroutine_as_signal_handler, _hints.COROUTINE),
    "coroutine, called": (coroutine_called, _hints.COROUTINE),
    "function in place of a coroutine": (function_instead_of_coroutine, _hints.FUNCTION),
    "another loop's future, awaited": (future_of_another_loop_awaited, _hints.OTHER_LOOP),
    "another loop's future, run": (future_of_another_loop_run, _hints.OTHER_LOOP),
    "another loop's event, in a task": (event_of_another_loop, _hints.OTHER_LOOP),
}


@pytest.fixture(autouse=True)
def _unawaited_coroutines():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        yield
        # Those in a traceback's cycle say so now, too, and not in a later test.
        gc.collect()


def provoked(factory, provoke):
    """Class and text of the exception of a mistake on a loop of this kind, and the exception itself."""
    loop = factory()
    try:
        error = provoke(loop)
    finally:
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    return (type(error), str(error)), error


def without_addresses(said):
    kind, text = said
    # Futures and tasks have addresses, names and places in their reprs.
    return kind, text.partition("<")[0].partition("Task-")[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_exception_is_cpythons_and_has_a_hint(mistake):
    provoke, hint = MISTAKES[mistake]
    expected, judge = provoked(asyncio.SelectorEventLoop, provoke)
    said, error = provoked(ironloop.new_event_loop, provoke)
    assert without_addresses(said) == without_addresses(expected)
    assert error.args == (said[1],)
    assert not getattr(judge, "__notes__", [])
    assert getattr(error, "__notes__", []) == ([hint] if NOTES else [])


def test_a_hint_is_printed_with_the_traceback_which_is_otherwise_cpythons():
    async def main():
        asyncio.get_running_loop().run_until_complete(None)

    printed = {}
    for factory in (asyncio.SelectorEventLoop, ironloop.new_event_loop):
        with contextlib.closing(factory()) as loop:
            printed[factory] = traceback.format_exception(raised(loop.run_until_complete, main()))
    expected, ours = printed.values()
    if NOTES:
        assert ours == [*expected, f"{_hints.NESTED}\n"]


def test_no_frame_of_ours_is_in_the_traceback_of_a_run():
    async def main():
        raise LookupError("the user's")

    with contextlib.closing(ironloop.new_event_loop()) as loop:
        error = raised(loop.run_until_complete, main())
    if NOTES:
        names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
        assert names == ["raised", "run_until_complete", "main"]
        assert not hasattr(error, "__notes__")


def test_ironloops_own_run_has_hints():
    async def nested():
        with unawaited() as coroutine:
            return raised(ironloop.run, coroutine)

    wrong = raised(ironloop.run, nothing)
    assert str(wrong) == str(raised(asyncio.run, nothing))
    if NOTES:
        assert wrong.__notes__ == [_hints.FUNCTION]
        assert ironloop.run(nested()).__notes__ == [_hints.NESTED]


@pytest.mark.skipif(not NOTES, reason="there are no notes before Python 3.11")
def test_an_exception_gets_its_hint_once():
    with contextlib.closing(ironloop.new_event_loop()) as loop:
        loop.set_exception_handler(lambda _loop, _context: None)
        error = RuntimeError("Event loop is closed")
        for _ in range(2):
            loop.call_exception_handler({"message": "again", "exception": error})
    assert error.__notes__ == [_hints.CLOSED]


class Own(RuntimeError):
    """Of the user's: what it says is not asked for."""

    def __str__(self):
        raise AssertionError


@pytest.mark.parametrize("error", [Own("Event loop is closed"), RuntimeError(), RuntimeError(1), KeyError("x"), None])
def test_exceptions_of_others_are_left_alone(error):
    _hints.add_hint(error)
    assert not hasattr(error, "__notes__")
