"""Signals: handlers of the loop, handlers of Python, Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.support.builds import FREE_THREADED

FACTORY = {"asyncio": "asyncio.SelectorEventLoop", "ironloop": "ironloop.new_event_loop"}


def in_a_process(loop_name, body, *arguments):
    """Run `body` with `loop` in an interpreter of its own."""
    code = f"import asyncio, ironloop, os, signal, sys, threading\nloop = {FACTORY[loop_name]}()\n" + textwrap.dedent(
        body
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, timeout=30
    )


def test_a_handler_of_the_loop_is_called(run, loop):
    async def main():
        got = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, got.set_result, 5)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await got == 5
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        assert loop.remove_signal_handler(signal.SIGUSR1) is False
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL

    run(main)


def test_a_signal_between_adding_the_handler_and_the_run_is_not_lost(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_fifty_signals_are_fifty_calls(run, loop):
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


def test_bad_signals_and_handlers_are_refused(loop):
    with pytest.raises(TypeError):
        loop.add_signal_handler("text", print)
    with pytest.raises(ValueError, match="invalid signal number"):
        loop.add_signal_handler(5000, print)
    with pytest.raises((RuntimeError, OSError)):
        loop.add_signal_handler(signal.SIGKILL, print)

    async def coroutine_function():
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)


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


def test_the_wakeup_descriptor_is_given_back(loop):
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)
    try:
        loop.run_until_complete(asyncio.sleep(0))
        assert signal.set_wakeup_fd(write) == write
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)
    loop.run_until_complete(asyncio.sleep(0))
    assert signal.set_wakeup_fd(-1) == -1


def test_a_python_handler_runs_while_the_loop_is_idle(loop):
    seen = []

    def handler(number, _frame):
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    before = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        loop.run_forever()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_what_a_python_handler_raises_leaves_the_run(loop, loop_name):
    if loop_name == "asyncio" and FREE_THREADED:
        pytest.skip("CPython's loop sleeps on when the signal comes just before it does, which needs another thread")

    def handler(_number, _frame):
        raise LookupError("from a signal handler")

    before = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    loop.call_soon(timer.start)
    try:
        with pytest.raises(LookupError):
            loop.run_forever()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_interrupts_a_run_and_a_second_run_works(loop_name, busy):
    if loop_name == "asyncio" and busy and FREE_THREADED:
        pytest.skip("CPython's loop loses the callback that it has taken from its queue and not called yet")
    done = in_a_process(
        loop_name,
        """
        async def spin():
            while sys.argv[1] == "True":
                await asyncio.sleep(0)
        task = loop.create_task(spin())
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        print("closed")
        """,
        str(busy),
    )
    assert done.stdout.split() == ["interrupted", "closed"], done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the runner's handler is new in Python 3.11")
def test_ctrl_c_cancels_the_main_task_of_a_runner():
    done = in_a_process(
        "ironloop",
        """
        loop.close()
        async def main():
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("cancelled")
                raise
        try:
            ironloop.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )
    assert done.stdout.split() == ["cancelled", "interrupted"], done.stderr


def test_a_signal_that_another_thread_gets_wakes_the_loop(loop_name):
    if loop_name == "asyncio":
        pytest.skip("without handlers of its own CPython's loop has no wakeup descriptor and sleeps on")
    done = in_a_process(
        loop_name,
        """
        def handler(number, frame):
            loop.call_soon_threadsafe(loop.stop)
        signal.signal(signal.SIGUSR1, handler)
        import time
        def other():
            time.sleep(0.1)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        threading.Thread(target=other).start()
        loop.run_forever()
        loop.close()
        print("stopped")
        """,
    )
    assert done.stdout.split() == ["stopped"], done.stderr
