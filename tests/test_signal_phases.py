"""Signals in every phase of connections: in handshakes, in the middle of data, while they close, and in storms."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time

import pytest

from tests.support.certificate import client_context, server_context
from tests.support.children import children, until

MESSAGE = bytes(range(256)) * 400


async def conversation(secure):
    """A connection from its beginning to its end; what came back."""
    served = []

    async def echo(reader, writer):
        writer.write(await reader.readexactly(len(MESSAGE)))
        await writer.drain()
        writer.close()
        served.append(None)

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context() if secure else None)
    options = {"ssl": client_context(), "server_hostname": "localhost"} if secure else {}
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
    writer.write(MESSAGE)
    answer = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    server.close()
    await until(lambda: served)
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_conversation_goes_on_after_ctrl_c_in_any_of_its_turns(loop, reports, secure):
    """The interrupt comes in a callback between the others: the run ends at once, and the next one goes on there."""

    def interrupt_after(turns):
        if turns:
            loop.call_soon(interrupt_after, turns - 1)
        else:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for turns in range(25):
            talking = loop.create_task(conversation(secure))
            loop.call_soon(interrupt_after, turns)
            with pytest.raises(KeyboardInterrupt):
                loop.run_forever()
            assert loop.run_until_complete(asyncio.wait_for(talking, 50)) == MESSAGE
    finally:
        signal.signal(signal.SIGINT, before)
    assert reports == []


class Storm:
    """Signals of several kinds to this process, from a thread, at any moment."""

    NUMBERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.over = False
        self.thread = threading.Thread(target=self._blow)

    def _blow(self):
        while not self.over:
            os.kill(os.getpid(), self.random.choice(self.NUMBERS))
            time.sleep(self.random.random() * 0.0005)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_exception):
        self.over = True
        self.thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_storm_of_signals_disturbs_neither_connections_nor_children(run, loop, reports, secure):
    """One kind is the loop's, one Python's, and SIGCHLD comes without a child, and with one."""
    seen = dict.fromkeys(Storm.NUMBERS, 0)

    def count(number, _frame=None):
        seen[number] += 1

    async def child():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await process.communicate(MESSAGE)
        assert (output, process.returncode) == (MESSAGE, 0)

    async def main():
        with Storm(1):
            for _ in range(5):
                talks = [conversation(secure) for _ in range(5)]
                answers = await asyncio.gather(*talks, child(), child())
                assert answers == [MESSAGE] * 5 + [None] * 2
        await asyncio.sleep(0.01)  # the last signal is on its way
        loop.remove_signal_handler(signal.SIGUSR1)

    before = {number: signal.getsignal(number) for number in Storm.NUMBERS}
    processes = children()
    try:
        loop.add_signal_handler(signal.SIGUSR1, count, signal.SIGUSR1)
        signal.signal(signal.SIGUSR2, count)
        signal.signal(signal.SIGCHLD, count)
        run(main)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert min(seen.values()) > 0, seen
    assert children() <= processes
    assert reports == []
