"""Handlers of Python, set with `signal.signal`: they run while the loop sleeps, and what they raise has an owner."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading

import pytest

from tests.support.builds import FREE_THREADED
from tests.support.programs import run_with_loop


@pytest.fixture
def python_handler():
    """Sets the handler of SIGUSR1."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def signal_soon():
    """The main thread gets SIGUSR1 from another one, soon: most often once the loop sleeps."""
    timer = threading.Timer(0.02, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
    timer.start()
    yield
    timer.join()


@pytest.fixture(params=[False, True], ids=["alone", "beside_a_handler_of_the_loop"])
def other_handler(request, loop):
    if request.param:
        loop.add_signal_handler(signal.SIGUSR2, print)
    yield
    loop.remove_signal_handler(signal.SIGUSR2)


@pytest.mark.usefixtures("other_handler")
def test_a_python_handler_runs_while_the_loop_is_idle(loop, python_handler):
    seen = []

    def handler(number, _frame):
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    python_handler(handler)
    with signal_soon():
        loop.run_forever()
    assert seen == [signal.SIGUSR1]


def test_what_a_python_handler_writes_in_pieces_leaves_an_idle_loop(loop, python_handler):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))

    def handler(_number, _frame):
        for piece in (b"in ", b"two ", b"or three ", b"pieces"):
            transport.write(piece)

    received = bytearray()

    def receive():
        while not received.endswith(b"pieces"):
            received.extend(peer.recv(100))
        loop.call_soon_threadsafe(loop.stop)

    python_handler(handler)
    receiver = threading.Thread(target=receive)
    receiver.start()
    with signal_soon():
        loop.run_forever()
    receiver.join()
    assert received == b"in two or three pieces"
    transport.abort()
    loop.call_soon(loop.stop)
    loop.run_forever()
    peer.close()


@pytest.mark.usefixtures("other_handler")
def test_what_a_python_handler_raises_leaves_an_idle_run(loop, python_handler, loop_name):
    if loop_name == "asyncio" and FREE_THREADED:
        pytest.skip("CPython's loop sleeps on when the signal comes just before it does, which needs another thread")
    python_handler(fail)
    with signal_soon(), pytest.raises(LookupError):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()


def fail(_number, _frame):
    raise LookupError("from a signal handler")


@pytest.mark.usefixtures("other_handler")
def test_what_a_python_handler_raises_in_a_callback_is_that_callback_s(loop, python_handler, reports):
    def callback():
        signal.raise_signal(signal.SIGUSR1)
        return len(reports)  # the handler has run before

    python_handler(fail)
    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()
    (report,) = reports
    assert report["message"].startswith("Exception in callback test_what_")
    assert repr(report["exception"]) == "LookupError('from a signal handler')"


@pytest.mark.usefixtures("other_handler")
def test_what_a_python_handler_raises_in_a_task_is_that_task_s(run, python_handler):
    async def main():
        with pytest.raises(LookupError):
            signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0)

    python_handler(fail)
    run(main)


def test_a_signal_that_another_thread_gets_wakes_the_loop(loop_name):
    if loop_name == "asyncio":
        pytest.skip("without handlers of its own CPython's loop has no wakeup descriptor and sleeps on")
    done = run_with_loop(
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
