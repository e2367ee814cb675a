"""What is counted: `python programs.py NAME COUNT` does COUNT operations on ironloop.

Nothing here depends on time or on the order of threads, as far as that is possible, and there is no garbage
collection: the same count of operations has to take the same instructions.
"""

from __future__ import annotations

import asyncio
import gc
import pathlib
import socket
import sys
from typing import TYPE_CHECKING, Any

import ironloop

# Those that are measured by time, too.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "python" / "ironloop" / "bench" / "programs"))
from callbacks import call_soon_chain
from tasks import create_task, future_wake, sleep_zero

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KIB = 1024
AT_ONCE = 100


async def timers_cancelled(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(10, print).cancel()


async def timers_fired(count: int) -> None:
    """In batches that are due at once."""
    loop = asyncio.get_running_loop()

    def fire() -> None:
        pass

    for _ in range(count // AT_ONCE):
        due = loop.time()
        for _ in range(AT_ONCE):
            loop.call_at(due, fire)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def threadsafe(count: int) -> None:
    """From the loop's own thread, so that no switch of threads is counted."""
    loop = asyncio.get_running_loop()

    def hit() -> None:
        pass

    for _ in range(count // AT_ONCE):
        for _ in range(AT_ONCE):
            loop.call_soon_threadsafe(hit)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Caller(Echo):
    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.left, self.missing, self.done = count, KIB, done

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing:
            return
        self.left -= 1
        if self.left:
            self.missing = KIB
            self.transport.write(bytes(KIB))
        elif not self.done.done():
            self.done.set_result(None)


async def echo(count: int) -> None:
    """1 KiB there and back over loopback; both ends are on this loop."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    done = loop.create_future()
    transport, _ = await loop.create_connection(lambda: Caller(count, done), *server.sockets[0].getsockname())
    transport.write(bytes(KIB))
    await done
    transport.close()
    server.close()


async def streams(count: int) -> None:
    """1 KiB there and back, with streams at both ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            writer.write(await reader.readexactly(KIB))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(count):
        writer.write(bytes(KIB))
        await reader.readexactly(KIB)
    writer.close()
    server.close()


async def datagrams(count: int) -> None:
    """1 KiB there and back."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    class Answer(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)

    class Ask(Answer):
        left = count

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.left -= 1
            if self.left:
                self.transport.sendto(data)
            elif not done.done():
                done.set_result(None)

    there, _ = await loop.create_datagram_endpoint(Answer, ("127.0.0.1", 0), family=socket.AF_INET)
    here, _ = await loop.create_datagram_endpoint(Ask, remote_addr=there.get_extra_info("sockname"))
    here.sendto(bytes(KIB))
    await done
    here.close()
    there.close()


# By name: the program, and how many operations make it long enough to count and short enough to wait for.
PROGRAMS: dict[str, tuple[Callable[[int], Awaitable[None]], int]] = {
    "call_soon_chain": (call_soon_chain, 10_000),
    "sleep_zero": (sleep_zero, 10_000),
    "create_task": (create_task, 5_000),
    "future_wake": (future_wake, 5_000),
    "timers_cancelled": (timers_cancelled, 10_000),
    "timers_fired": (timers_fired, 5_000),
    "threadsafe": (threadsafe, 5_000),
    "echo": (echo, 2_000),
    "streams": (streams, 2_000),
    "datagrams": (datagrams, 2_000),
}


def main() -> None:
    program, _ = PROGRAMS[sys.argv[1]]
    gc.disable()

    async def run() -> None:
        await program(int(sys.argv[2]))

    ironloop.run(run())


if __name__ == "__main__":
    main()
