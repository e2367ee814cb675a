"""The programs that are measured: each runs on whatever loop it is given.

A *server* program listens, prints its port or path and serves until it is killed; the load client measures it.
An *inner* program does a fixed amount of work and returns how many operations it did; the harness divides
by the time that `measure` took.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = bytearray(256 * 1024)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(memoryview(self.buffer)[:nbytes]))


class Pipelined(asyncio.Protocol):
    """Answers each request of 1 KiB with a write of its own, as HTTP servers do with pipelined requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        whole = len(data) // 1024 * 1024
        for start in range(0, whole, 1024):
            self.transport.write(data[start : start + 1024])
        self.rest = data[whole:]


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def _serve(factory: Callable[[], asyncio.BaseProtocol]) -> None:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()  # not every loop has serve_forever


async def serve_protocol(size: int) -> None:
    await _serve(Echo)


async def serve_buffered(size: int) -> None:
    await _serve(BufferedEcho)


async def serve_pipelined(size: int) -> None:
    await _serve(Pipelined)


async def serve_unix(size: int) -> None:
    directory = tempfile.mkdtemp(prefix="ironloop-bench-")  # run.py removes it
    path = os.path.join(directory, "socket")
    try:
        server = await asyncio.get_running_loop().create_unix_server(Echo, path)
    except NotImplementedError:
        os.rmdir(directory)
        raise
    print(path, flush=True)
    await asyncio.get_running_loop().create_future()
    server.close()


async def serve_datagrams(size: int) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # room for all datagrams of all windows
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, sock=sock)
    print(port, flush=True)
    await loop.create_future()
    transport.close()


async def serve_streams(size: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()  # not every loop has serve_forever


async def call_soon_chain(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def call_soon_burst(count: int) -> None:
    loop = asyncio.get_running_loop()

    def nothing() -> None:
        pass

    for _ in range(count // 1000):
        for _ in range(1000):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def sleep_zero(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def create_task(count: int) -> None:
    async def nothing() -> None:
        pass

    for _ in range(count):
        await asyncio.create_task(nothing())


async def future_wake(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def timers_cancelled(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(10, print).cancel()


async def timers_fired(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for index in range(count):
        loop.call_later(index * 1e-7, fire)
    await done


async def threadsafe(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    left = count

    def hit() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    def post() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(hit)

    thread = threading.Thread(target=post)
    thread.start()
    await done.wait()
    thread.join()


async def executor(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.run_in_executor(None, int)


def cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(
    loop: asyncio.AbstractEventLoop, program: Callable[[int], Awaitable[None]], count: int
) -> tuple[float, float]:
    """Operations per second, and per second of CPU time; a tenth of the work comes first, to warm up."""

    async def run() -> tuple[float, float]:
        await program(max(count // 10, 1))
        start, cpu = time.perf_counter(), cpu_seconds()
        await program(count)
        return count / (time.perf_counter() - start), count / (cpu_seconds() - cpu)

    return loop.run_until_complete(run())
