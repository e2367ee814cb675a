"""The public API, used as programs use it; mypy and pyright check it, and `test_usage.py` runs it.

`assert_type` where a type would be easy to lose: `Any` satisfies everything else.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import ssl
import sys
from typing import TYPE_CHECKING

import ironloop

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Remember(asyncio.Protocol):
    def __init__(self, loop: ironloop.Loop) -> None:
        self.received = b""
        self.lost: asyncio.Future[None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, loop: ironloop.Loop) -> None:
        self.received: asyncio.Future[bytes] = loop.create_future()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.received.set_result(data)


class Child(asyncio.SubprocessProtocol):
    def __init__(self, loop: ironloop.Loop) -> None:
        self.exited: asyncio.Future[None] = loop.create_future()

    def process_exited(self) -> None:
        self.exited.set_result(None)


class Subclass(ironloop.Loop):
    """Programs derive their own."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        super().default_exception_handler(context)


async def number(value: int) -> int:
    await asyncio.sleep(0)
    return value


def running_loop() -> ironloop.Loop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ironloop.Loop)
    return loop


async def callbacks(loop: ironloop.Loop) -> None:
    context = contextvars.copy_context()
    assert_type(loop.call_soon(print, end := "", context=context), asyncio.Handle)
    loop.call_soon_threadsafe(len, end).cancel()
    timer = loop.call_later(60, number, 1)
    assert_type(timer, asyncio.TimerHandle)
    assert timer.when() > loop.time()
    timer.cancel()
    loop.call_at(loop.time() + 60, max, 1, 2, context=context).cancel()
    assert timer.cancelled()
    if sys.version_info >= (3, 12):
        assert_type(timer.get_context(), contextvars.Context)


async def tasks(loop: ironloop.Loop) -> None:
    task = loop.create_task(number(1), name="one")
    assert_type(task, asyncio.Task[int])
    assert_type(await task, int)
    if sys.version_info >= (3, 11):
        assert_type(await loop.create_task(number(1), context=contextvars.copy_context()), int)
    assert_type(await loop.run_in_executor(None, os.getpid), int)
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


async def switches(loop: ironloop.Loop) -> None:
    assert_type(loop.get_debug(), bool)
    loop.set_debug(False)
    loop.slow_callback_duration = 0.5

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert_type(loop.is_running(), bool)
    assert_type(loop.is_closed(), bool)
    loop.add_signal_handler(signal.SIGUSR1, print, "signal")
    assert_type(loop.remove_signal_handler(signal.SIGUSR1), bool)


async def descriptors(loop: ironloop.Loop) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        loop.add_reader(left, print, "readable")
        loop.add_writer(left.fileno(), print)
        assert_type(loop.remove_reader(left), bool)
        assert_type(loop.remove_writer(left), bool)
        await loop.sock_sendall(left, b"ab")
        assert_type(await loop.sock_recv(right, 1), bytes)
        assert_type(await loop.sock_recv_into(right, bytearray(1)), int)


async def names(loop: ironloop.Loop) -> None:
    found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    family, _kind, _proto, _name, address = found[0]
    assert family == socket.AF_INET
    assert_type(address, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes])
    assert_type(await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST), tuple[str, str])


async def streams(loop: ironloop.Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=10)
    async with server:
        host, port = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(lambda: Remember(loop), host, port)
        assert_type(protocol, Remember)
        transport.set_write_buffer_limits(high=2**16)
        assert_type(transport.get_write_buffer_size(), int)
        transport.writelines([b"a", bytearray(b"b")])
        transport.write(memoryview(b"c"))
        transport.pause_reading()
        transport.resume_reading()
        assert transport.is_reading()
        peer: tuple[str, int] = transport.get_extra_info("peername")
        assert peer == (host, port)
        transport.close()
        await protocol.lost


async def datagrams(loop: ironloop.Loop) -> None:
    receiver, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(loop), local_addr=("127.0.0.1", 0))
    assert_type(protocol, Datagrams)
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    sender.sendto(b"datagram")
    assert_type(await protocol.received, bytes)
    sender.abort()
    receiver.close()


async def pipes(loop: ironloop.Loop) -> None:
    reading, writing = os.pipe()
    reader, protocol = await loop.connect_read_pipe(lambda: Remember(loop), os.fdopen(reading, "rb", 0))
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    writer.write(b"pipe")
    writer.close()
    await protocol.lost
    assert protocol.received == b"pipe"
    reader.close()


async def children(loop: ironloop.Loop) -> None:
    transport, protocol = await loop.subprocess_exec(lambda: Child(loop), sys.executable, "-c", "pass", stdin=None)
    await protocol.exited
    assert_type(transport.get_returncode(), int | None)
    assert_type(transport.get_pid(), int)
    transport.close()


async def tls(loop: ironloop.Loop, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context) as server:
        port: int = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(
            lambda: Remember(loop), "127.0.0.1", port, ssl=client_context, server_hostname="localhost"
        )
        tls_object: ssl.SSLObject = transport.get_extra_info("ssl_object")
        assert tls_object.version() is not None
        transport.close()
        await protocol.lost
        transport, protocol = await loop.create_connection(lambda: Remember(loop), "127.0.0.1", port)
        upgraded = await loop.start_tls(transport, protocol, client_context, server_hostname="localhost")
        assert_type(upgraded, asyncio.Transport)
        upgraded.close()
        await protocol.lost


async def main(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> str:
    loop = running_loop()
    for part in (callbacks, tasks, switches, descriptors, names, streams, datagrams, pipes, children):
        await part(loop)
    await tls(loop, server_context, client_context)
    return ironloop.tls_backend


def start(main: Coroutine[Any, Any, str]) -> str:
    """The ways to run a program."""
    loop = ironloop.new_event_loop()
    assert_type(loop, ironloop.Loop)
    assert_type(loop.run_until_complete(number(1)), int)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    Subclass().close()
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=ironloop.new_event_loop) as runner:
            assert_type(runner.run(number(2)), int)
    if sys.version_info >= (3, 12):
        assert_type(asyncio.run(number(3), loop_factory=ironloop.new_event_loop), int)
    assert_type(ironloop.__version__, str)
    assert_type(ironloop.run(number(4), debug=False), int)
    return ironloop.run(main)


def install() -> asyncio.AbstractEventLoop:
    """While asyncio has policies."""
    ironloop.install()
    asyncio.set_event_loop_policy(ironloop.EventLoopPolicy())  # pyright: ignore[reportDeprecated]
    return asyncio.new_event_loop()
