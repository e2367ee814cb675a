"""Handlers of the loop: `add_signal_handler` and `remove_signal_handler`, one signal or many, one loop or several."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading

import pytest

from tests.support.children import until
from tests.support.pipes import turns
from tests.support.programs import run_with_loop
from tests.support.signals import USED


@pytest.mark.parametrize("number", USED)
def test_a_handler_is_called_until_it_is_removed(run, loop, number):
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL

    async def main():
        got = loop.create_future()
        assert loop.remove_signal_handler(number) is False
        assert loop.add_signal_handler(number, got.set_result, 5) is None
        os.kill(os.getpid(), number)
        assert await got == 5
        assert loop.remove_signal_handler(number) is True
        assert loop.remove_signal_handler(number) is False
        assert signal.getsignal(number) == default

    run(main)


def test_the_default_disposition_ends_the_process_again(loop_name):
    done = run_with_loop(
        loop_name,
        """
        async def main():
            seen = asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, seen.set)
            os.kill(os.getpid(), signal.SIGTERM)
            await seen.wait()
            print("handled", flush=True)
            loop.remove_signal_handler(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(20)
        loop.run_until_complete(main())
        """,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "handled\n"), done.stderr


def test_a_signal_between_adding_the_handler_and_the_run_is_not_lost(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_is_still_there_in_the_next_run(loop):
    seen = []

    def handler():
        seen.append(len(seen))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    for _ in range(3):
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
    assert seen == [0, 1, 2]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_a_second_handler_replaces_the_first(run, loop):
    async def main():
        first, second = [], loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, first.append, 1)
        loop.add_signal_handler(signal.SIGUSR1, second.set_result, 2)
        signal.raise_signal(signal.SIGUSR1)
        assert await second == 2
        assert first == []
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        assert loop.remove_signal_handler(signal.SIGUSR1) is False

    run(main)


def test_different_signals_keep_their_order(run, loop):
    order = [signal.SIGUSR2, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM]

    async def main():
        seen = []
        done = asyncio.Event()
        for number in {*order}:
            loop.add_signal_handler(number, seen.append, number)
        loop.add_signal_handler(signal.SIGHUP, done.set)
        for number in [*order, signal.SIGHUP]:
            signal.raise_signal(number)
        await done.wait()
        assert seen == order
        for number in {*order, signal.SIGHUP}:
            assert loop.remove_signal_handler(number)

    run(main)


def test_fifty_signals_one_after_the_other_are_fifty_calls(run, loop):
    async def main():
        count = 0
        done = loop.create_future()

        def handler():
            nonlocal count
            count += 1
            if count == 50:
                done.set_result(None)
            else:
                os.kill(os.getpid(), signal.SIGUSR1)

        loop.add_signal_handler(signal.SIGUSR1, handler)
        os.kill(os.getpid(), signal.SIGUSR1)
        await done
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_fifty_signals_at_once_are_fifty_calls(run, loop):
    async def main():
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(len(seen)))
        for _ in range(50):
            signal.raise_signal(signal.SIGUSR1)
        await until(lambda: len(seen) >= 50)
        await turns()
        assert seen == list(range(50))
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_a_handler_runs_in_the_context_that_it_was_added_in(run, loop):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        got = loop.create_future()
        variable.set("added")
        loop.add_signal_handler(signal.SIGUSR1, lambda: got.set_result(variable.get()))
        variable.set("later")
        signal.raise_signal(signal.SIGUSR1)
        assert await got == "added"
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_an_exception_of_a_handler_reaches_the_exception_handler(run, loop, reports):
    async def main():
        done = asyncio.Event()

        def handler():
            if not reports:
                raise LookupError("from a handler")
            done.set()

        loop.add_signal_handler(signal.SIGUSR1, handler)
        signal.raise_signal(signal.SIGUSR1)
        await until(lambda: reports)
        signal.raise_signal(signal.SIGUSR1)
        await done.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)
    (report,) = reports
    assert report["message"].startswith("Exception in callback ")
    assert repr(report["exception"]) == "LookupError('from a handler')"


async def coroutine_function():
    pass


def test_bad_signals_and_handlers_are_refused(loop):
    for call in (lambda number: loop.add_signal_handler(number, print), loop.remove_signal_handler):
        for number in ("text", None, 10.0):
            with pytest.raises(TypeError, match=f"sig must be an int, not {number!r}"):
                call(number)
        for number in (0, -1, 5000):
            with pytest.raises(ValueError, match=f"invalid signal number {number}"):
                call(number)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        with pytest.raises(RuntimeError, match=r"sig .* cannot be caught"):
            loop.add_signal_handler(number, print)
        assert loop.remove_signal_handler(number) is False
    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    coroutine.close()


def test_handlers_belong_to_the_main_thread(loop_factory):
    caught = []

    def other():
        loop = loop_factory()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            caught.append(error)
        loop.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_a_closed_loop_has_no_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


def test_two_loops_one_after_the_other_have_their_handlers(loop_factory):
    for _ in range(2):
        loop = loop_factory()
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
        loop.close()


def test_a_signal_waits_for_its_loop_while_another_one_runs(loop, loop_factory):
    other = loop_factory()
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
    other.call_soon(signal.raise_signal, signal.SIGUSR1)
    other.call_soon(other.stop)
    other.run_forever()
    other.close()
    assert seen == []
    loop.run_until_complete(until(lambda: seen))
    assert seen == ["handled"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_loop_in_another_thread_takes_no_signals(run, loop, loop_factory):
    def other():
        second = loop_factory()
        second.run_until_complete(asyncio.sleep(0.001))
        second.close()

    async def main():
        done = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, done.set)
        await loop.run_in_executor(None, other)
        signal.raise_signal(signal.SIGUSR1)
        await done.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)
