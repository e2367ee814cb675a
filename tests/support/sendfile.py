"""What the tests of sendfile share: the data, the two calls under one name, and a peer that reads as it likes."""

from __future__ import annotations

import asyncio
import io
import random
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.protocols import Recorder

if TYPE_CHECKING:
    from collections.abc import Coroutine

#: More than the buffers of two sockets hold; no part of it is like another.
DATA = random.Random(41).randbytes(1 << 21)
SIZE = len(DATA)

#: For what does not depend on the kind of socket.
ANY_SOCKETS = pytest.mark.parametrize("sockets", ["unix"], indirect=True)


class ByTransport:
    """`loop.sendfile` for a transport over a connected socket; gone at the end of the block."""

    def __init__(self, sock: socket.socket, factory: Any = Recorder) -> None:
        self._sock = sock
        self._factory = factory

    async def __aenter__(self) -> ByTransport:
        self._loop = asyncio.get_running_loop()
        self.transport: Any
        self.protocol: Any
        self.transport, self.protocol = await self._loop.create_connection(self._factory, sock=self._sock)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.transport.abort()
        await asyncio.wait([self.protocol.lost])

    async def write(self, data: bytes) -> None:
        self.transport.write(data)

    def sendfile(self, file: Any, *arguments: Any, **keywords: Any) -> Coroutine[Any, Any, int]:
        return self._loop.sendfile(self.transport, file, *arguments, **keywords)

    async def assert_usable(self, peer: socket.socket) -> None:
        """Nothing is on its way; it writes and reads, for its own protocol."""
        assert self.transport.get_protocol() is self.protocol
        assert self.transport.is_reading()
        self.transport.write(b"to the peer")
        assert await receive(peer, 11) == b"to the peer"
        peer.send(b"from the peer")
        assert await self.protocol.received(13) == b"from the peer"


class BySocket:
    """`loop.sock_sendfile` for the socket itself; nothing waits for it at the end of the block."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def __aenter__(self) -> BySocket:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._loop.remove_writer(self._sock) is False

    async def write(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    def sendfile(self, file: Any, *arguments: Any, **keywords: Any) -> Coroutine[Any, Any, int]:
        return self._loop.sock_sendfile(self._sock, file, *arguments, **keywords)

    async def assert_usable(self, peer: socket.socket) -> None:
        """Nothing is on its way; it writes and reads."""
        await self.write(b"to the peer")
        assert await receive(peer, 11) == b"to the peer"
        peer.send(b"from the peer")
        assert await receive(self._sock, 13) == b"from the peer"


class OnlyReadable:
    """A file that can do no more than be read."""

    def __init__(self) -> None:
        self.readinto = io.BytesIO(DATA[:50_000]).readinto


class ReadableWithoutDescriptor(OnlyReadable):
    def fileno(self) -> int:
        raise io.UnsupportedOperation("no descriptor")


async def receive(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < size:
        part = await loop.sock_recv(sock, min(size - len(got), 1 << 18))
        assert part, f"the stream ended after {len(got)} of {size} bytes"
        got += part
    return bytes(got)


async def receive_rest(sock: socket.socket) -> bytes:
    """What comes until the end of the stream."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    while part := await loop.sock_recv(sock, 1 << 18):
        got += part
    return bytes(got)


async def in_the_middle(sending: Coroutine[Any, Any, int], peer: socket.socket) -> asyncio.Task[int]:
    """A file under way of which the peer has read 100 KB, and does not read on."""
    task = asyncio.create_task(sending)
    receiving = asyncio.create_task(receive(peer, 100_000))
    await asyncio.wait([task, receiving], return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), task.result()
    assert receiving.result() == DATA[:100_000]
    return task
