"""Looking for events before blocking: the setting, and that a loop that does it misses nothing.

When it is worth it is decided in src/engine/reactor/spin.rs, and tested there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import ironloop
import pytest


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def spinning(loop):
    """A loop that looks for events for a second, `await warm_up()` after events that came at once."""
    loop.busy_poll = 1.0
    with peers(1) as socks:
        yield lambda: exchange(loop, socks)


@contextlib.contextmanager
def peers(count):
    """Sockets whose other ends a thread answers."""
    pairs = [socket.socketpair() for _ in range(count)]

    def answer(theirs):
        with theirs:
            while data := theirs.recv(1):
                # Later than the loop, which has to wait then.
                time.sleep(0.0005)
                theirs.send(data)

    threads = [threading.Thread(target=answer, args=(theirs,)) for _, theirs in pairs]
    for thread in threads:
        thread.start()
    socks = [ours for ours, _ in pairs]
    for sock in socks:
        sock.setblocking(False)
    try:
        yield socks
    finally:
        for sock in socks:
            sock.close()
        for thread in threads:
            thread.join()


async def exchange(loop, socks):
    """A byte to and fro on each of them, one after the other, 50 times."""
    for _ in range(50):
        for sock in socks:
            await loop.sock_sendall(sock, b"x")
            await loop.sock_recv(sock, 1)


@pytest.mark.parametrize(("count", "spins"), [(1, True), (4, True), (8, False)])
def test_it_is_for_a_loop_that_waits_for_few(loop, count, spins):
    loop.busy_poll = 1.0
    with peers(count) as socks:
        loop.run_until_complete(exchange(loop, socks))
    assert (loop.metrics().spin > 0) == spins


def default_with(value):
    environment = {name: text for name, text in os.environ.items() if name != "IRONLOOP_BUSY_POLL"}
    if value is not None:
        environment["IRONLOOP_BUSY_POLL"] = value
    code = "import ironloop; loop = ironloop.new_event_loop(); print(loop.busy_poll); loop.close()"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(("value", "seconds"), [(None, 50e-6), ("0", 0.0), ("0.001", 0.001), ("1", 1.0)])
def test_the_environment_sets_the_default(value, seconds):
    done = default_with(value)
    assert float(done.stdout) == seconds
    assert not done.stderr


@pytest.mark.parametrize("value", ["", "much", "-1", "2", "nan"])
def test_a_default_that_is_no_number_of_seconds_is_warned_of(value):
    done = default_with(value)
    assert float(done.stdout) == 50e-6
    assert f"IRONLOOP_BUSY_POLL is a number of seconds from 0 to 1, not {value!r}" in done.stderr


def test_a_loop_can_be_told(loop):
    loop.busy_poll = 0
    assert loop.busy_poll == 0
    loop.busy_poll = 1e-4
    assert loop.busy_poll == 1e-4
    for wrong in (-1e-9, 1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="busy_poll is a number of seconds from 0 to 1, not"):
            loop.busy_poll = wrong
    with pytest.raises(TypeError):
        loop.busy_poll = "1"
    assert loop.busy_poll == 1e-4


def test_timers_are_on_time(loop, spinning):
    async def main():
        await spinning()
        for delay in (0.0, 1e-5, 1e-4, 1e-3, 1e-2):
            due = loop.time() + delay
            await asyncio.sleep(delay)
            assert loop.time() >= due

    loop.run_until_complete(main())


def test_other_threads_get_the_interpreter_and_the_loop(loop, spinning):
    async def main():
        await spinning()
        for _ in range(20):
            done = loop.create_future()
            thread = threading.Thread(
                target=lambda done=done: loop.call_soon_threadsafe(done.set_result, sum(range(9)))
            )
            thread.start()
            assert await done == 36
            thread.join()

    loop.run_until_complete(main())


def test_signals_are_handled(loop, spinning):
    async def main():
        await spinning()
        for _ in range(5):
            done = loop.create_future()
            loop.add_signal_handler(signal.SIGUSR1, done.set_result, "signal")
            thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
            thread.start()
            assert await done == "signal"
            thread.join()

    loop.run_until_complete(main())
