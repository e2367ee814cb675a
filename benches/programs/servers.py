"""Servers: other echoes over TCP, Unix sockets and UDP than those of `echoes`, and streams of bytes each way."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from typing import TYPE_CHECKING, Any

from programs.echoes import BACKLOG, Echo, serve, serve_with_streams

if TYPE_CHECKING:
    pass

PIECE = bytes(64 * 1024)


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


class Source(asyncio.Protocol):
    """Writes as long as the transport has room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.paused = False
        asyncio.get_running_loop().call_soon(self.resume_writing)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while not self.paused and not self.transport.is_closing():
            self.transport.write(PIECE)


class Sink(asyncio.Protocol):
    """Looks at nothing but the length."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def serve_buffered(size: int) -> None:
    await serve(BufferedEcho)


async def serve_pipelined(size: int) -> None:
    await serve(Pipelined)


async def serve_source(size: int) -> None:
    await serve(Source)


async def serve_sink(size: int) -> None:
    await serve(Sink)


async def serve_unix(size: int) -> None:
    directory = tempfile.mkdtemp(prefix="ironloop-bench-")  # sampling.py removes it
    path = os.path.join(directory, "socket")
    try:
        server = await asyncio.get_running_loop().create_unix_server(Echo, path, backlog=BACKLOG)
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


async def serve_lines(size: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    await serve_with_streams(echo)


async def serve_sock(size: int) -> None:
    """With sock_accept, sock_recv and sock_sendall."""
    loop = asyncio.get_running_loop()

    async def echo(sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            while data := await loop.sock_recv(sock, 256 * 1024):
                await loop.sock_sendall(sock, data)

    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    connections = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        connections.add(asyncio.create_task(echo(sock)))
