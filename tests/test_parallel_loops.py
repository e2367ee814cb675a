"""Loops in threads of their own share nothing: whatever one of them does, the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
from collections import deque

import pytest

from tests.support.certificate import client_context, server_context

THREADS = 4
ROUNDS = 30


async def everything():
    """Callbacks, timers, sockets, TLS, names and threads: one round of each."""
    loop = asyncio.get_running_loop()

    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    for options, context in (({}, None), ({"ssl": client_context()}, server_context())):
        server = await asyncio.start_server(echo, "localhost", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, **options)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
        await asyncio.sleep(0.0001)
        woken = loop.create_future()
        loop.call_soon_threadsafe(woken.set_result, None)
        await woken
    assert await asyncio.to_thread(sum, [1, 2]) == 3


def in_threads(loop_factory, *mains):
    """Run each of the coroutine functions on a loop in a thread of its own; what they raise is raised."""
    failures = []

    def run(main):
        loop = loop_factory()
        try:
            loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.run_until_complete(loop.shutdown_default_executor())
        except BaseException as error:
            failures.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=run, args=(main,)) for main in mains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["callback", "timer", "reader", "finalizer"])
def test_a_loop_whose_callback_does_not_return_keeps_no_other_waiting(loop_factory, where):
    """It returns only when the others are through with everything: a lock that they shared would end this never."""
    finished = threading.Semaphore(0)

    def wait_for_the_others():
        for _ in range(THREADS - 1):
            assert finished.acquire(timeout=50), "the other loops wait for this one"

    class Finalized:
        def __del__(self):
            wait_for_the_others()

    async def holder():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        left, right = socket.socketpair()

        def hold():
            if where != "finalizer":
                wait_for_the_others()
            if not done.done():
                done.set_result(None)

        if where == "timer":
            loop.call_later(0.001, hold)
        elif where == "reader":
            loop.add_reader(left, hold)
            right.send(b"x")
        else:
            # A cancelled handle lets its arguments go, in the middle of the loop's own code.
            loop.call_soon(print, Finalized()).cancel() if where == "finalizer" else None
            loop.call_soon(hold)
        await done
        loop.remove_reader(left)
        left.close()
        right.close()

    async def other():
        await everything()
        finished.release()

    in_threads(loop_factory, holder, *[other] * (THREADS - 1))


@pytest.mark.slow
@pytest.mark.skipif(getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs a Python that runs without the GIL")
def test_loops_go_on_while_one_is_in_code_that_never_lets_the_interpreter_go(loop_factory):
    """One long call into C, without a moment at which a GIL would be handed over, ends when the others are through."""
    finished = []

    async def holder():
        # len(finished) again and again until it is the number wanted.
        deque(iter(finished.__len__, THREADS - 1), maxlen=0)

    async def other():
        await everything()
        finished.append(1)

    # The collector would have to stop all threads, this one too.
    gc.collect()
    gc.disable()
    try:
        in_threads(loop_factory, holder, *[other] * (THREADS - 1))
    finally:
        gc.enable()
