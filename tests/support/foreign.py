"""A program: threads that have no business there call every method of a loop, and of what it makes, while it works.

    foreign.py LOOP WHAT SEED CALLS

asyncio allows other threads `call_soon_threadsafe` only. Whatever else they call may raise, may do it at once or later,
and may end connections; but the process lives, and the loop still does everything afterwards. It says "alive" then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import socket
import sys
import threading
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import ironloop

from tests.support.certificate import client_context, server_context

THREADS = 4
NEW_LOOP = {"asyncio": asyncio.SelectorEventLoop, "ironloop": ironloop.new_event_loop}
PIPE = os.pipe()

#: Arguments with which a method does something; without an entry it is called with none. Coroutines are closed.
ARGUMENTS: dict[str, list[Any]] = {
    "add_reader": [PIPE[0], int],
    "add_writer": [PIPE[1], int],
    "call_at": [0, int],
    "call_exception_handler": [{"message": "from a foreign thread"}],
    "call_later": [0.0001, int],
    "call_soon": [int],
    "call_soon_threadsafe": [int],
    "get_extra_info": ["socket"],
    "remove_reader": [PIPE[0]],
    "remove_writer": [PIPE[1]],
    "run_in_executor": [None, int],
    "sendto": [b"datagram", None],
    "set_debug": [False],
    "set_exception_handler": [lambda loop, context: None],
    "set_protocol": [asyncio.Protocol()],
    "set_task_factory": [None],
    "set_write_buffer_limits": [1000],
    "write": [b"x" * 5000],
    "writelines": [[b"x" * 100, b"y" * 3000]],
}
#: They end the loop, or run it, which is allowed after another thread's `stop`, wait for threads, or print.
LEFT_OUT = {
    "close",
    "default_exception_handler",
    "run_forever",
    "run_until_complete",
    "set_default_executor",
    "watch",
}


class Sink(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data[:100])


class Garden:
    """Keeps something of each kind alive for the threads to call."""

    def __init__(self, loop: Any, what: str) -> None:
        self.loop = loop
        self.what = what
        self.target: Any = loop
        self.ready = threading.Event()
        self.over = False

    async def plant(self) -> list[Any]:
        """The thing to call, first, and what belongs to it."""
        if self.what == "loop":
            return [self.loop]
        if self.what == "handles":
            return [self.loop.call_later(0.001, int)]
        if self.what == "datagrams":
            address = ("127.0.0.1", 9)
            return [(await self.loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address))[0]]
        if self.what == "pipes":
            read, write = os.pipe()
            reading = await self.loop.connect_read_pipe(Sink, os.fdopen(read, "rb", 0))
            writing = await self.loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb", 0))
            return [writing[0], reading[0]]
        left, right = socket.socketpair()
        options: dict[str, Any] = {}
        served: dict[str, Any] = {}
        if self.what == "tls":
            options = {"ssl": client_context(), "server_hostname": "localhost"}
            served = {"ssl": server_context()}
        left.setblocking(False)
        made = await asyncio.gather(
            self.loop.create_unix_connection(Sink, sock=left, **options),
            self.loop.connect_accepted_socket(Sink, right, **served),
        )
        return [transport for transport, _ in made]

    async def tend(self) -> None:
        while not self.over:
            grown = await self.plant()
            self.target = grown[0]
            self.ready.set()
            for _ in range(20):
                await asyncio.sleep(0.0005)
                if self.what == "handles" or (self.what != "loop" and self.target.is_closing()):
                    break
            for transport in grown:
                if self.what not in ("loop", "handles"):
                    transport.close()

    def run(self) -> None:
        """The loop's own thread; a foreign `stop` only makes it run again."""
        asyncio.set_event_loop(self.loop)
        tending = self.loop.create_task(self.tend())
        while not tending.done():
            self.loop.run_until_complete(asyncio.wait([tending])) if self.over else self.loop.run_forever()


def call_everything(garden: Garden, seed: int, calls: int) -> None:
    chance = random.Random(seed)
    garden.ready.wait()
    for _ in range(calls):
        target = garden.target
        names = [name for name in dir(target) if not name.startswith("_")]
        name = chance.choice(names)
        if name in LEFT_OUT and target is garden.loop:
            continue
        # What a wrong thread is told is up to the loop; a crash is not caught here.
        with contextlib.suppress(Exception):
            method = getattr(target, name)
            arguments = ARGUMENTS.get(name, [])
            if name == "create_task":
                arguments = [asyncio.sleep(0)]
            made = method(*arguments) if callable(method) else None
            if asyncio.iscoroutine(made):
                made.close()


async def check(loop: Any) -> None:
    """All that a program needs works."""
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    server.close()
    assert await loop.run_in_executor(None, pow, 2, 10) == 1024
    await asyncio.sleep(0.001)


def main(name: str, what: str, seed: int, calls: int) -> None:
    loop = NEW_LOOP[name]()
    loop.set_exception_handler(lambda loop, context: None)
    garden = Garden(loop, what)
    own = threading.Thread(target=garden.run)
    own.start()
    foreign = [
        threading.Thread(target=call_everything, args=(garden, seed * THREADS + number, calls))
        for number in range(THREADS)
    ]
    for thread in foreign:
        thread.start()
    for thread in foreign:
        thread.join()
    garden.over = True
    loop.call_soon_threadsafe(loop.stop)
    own.join()
    loop.run_until_complete(check(loop))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    print("alive")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
