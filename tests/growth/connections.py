"""One repetition of what concerns streams: connections of every kind, with and without TLS, and their ends."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from typing import Any

import pytest

from tests.support.certificate import client_context, server_context
from tests.support.protocols import Echo, Recorder

FILE_BYTES = 100_000


class Filled(asyncio.BufferedProtocol):
    """Closes when it has got something."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = bytearray(100)

    def get_buffer(self, _size: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, _size: int) -> None:
        self.transport.close()


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await writer.drain()
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's side of a stream."""
    writer.writelines([await reader.readuntil(b"o"), b""])
    await writer.drain()
    writer.close()
    await writer.wait_closed()


class Connections:
    """The coroutines want `loop`, and what `prepare` makes."""

    loop: Any

    async def prepare(self, loop: Any) -> None:
        self.loop = loop
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "socket")
        self.server = await loop.create_server(Echo, "127.0.0.1", 0)
        self.secure = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
        self.streams = await asyncio.start_server(answer, "127.0.0.1", 0)
        self.local = await loop.create_unix_server(Echo, self.path)
        self.address = self.server.sockets[0].getsockname()
        self.secure_address = self.secure.sockets[0].getsockname()
        self.trusting, self.serving = client_context(), server_context()
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (until `finish`)
        self.file.write(bytes(FILE_BYTES))

    async def finish(self) -> None:
        for server in (self.server, self.secure, self.streams, self.local):
            server.close()
            await server.wait_closed()
        self.file.close()
        self.folder.cleanup()

    async def pair(self, factory: Any = Recorder) -> tuple[Any, Any]:
        """The protocols of two connections that are each other's ends."""
        left, right = socket.socketpair()
        _, one = await self.loop.create_connection(factory, sock=left)
        _, other = await self.loop.connect_accepted_socket(Recorder, right)
        return one, other

    async def servers(self) -> None:
        server = await self.loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        await server.start_serving()
        assert repr(server)
        server.close()
        await server.wait_closed()

    async def connections(self) -> None:
        await talk(*await asyncio.open_connection(*self.address))

    async def protocols(self) -> None:
        """All that a transport can be asked."""
        transport, protocol = await self.loop.create_connection(Recorder, *self.address)
        transport.set_write_buffer_limits(high=10)
        transport.write(b"hello")
        transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        await protocol.received(8)
        transport.pause_reading()
        transport.resume_reading()
        transport.set_protocol(protocol)
        assert transport.get_protocol() is protocol
        for name in ("socket", "peername", "sockname", "unheard of"):
            transport.get_extra_info(name)
        assert repr(transport)
        assert transport.get_write_buffer_limits()
        assert not transport.get_write_buffer_size()
        with pytest.raises(TypeError):
            transport.write("text")
        transport.write_eof()
        await protocol.lost

    async def full_connections(self) -> None:
        """More than the sockets hold: the writer is paused, and its connection is aborted with the rest."""
        one, other = await self.pair()
        other.transport.pause_reading()
        one.transport.write(bytes(1 << 20))
        assert one.events == ["made", "pause"]
        one.transport.abort()
        await asyncio.wait([one.lost])
        other.transport.abort()
        await asyncio.wait([other.lost])

    async def buffered_protocols(self) -> None:
        one, other = await self.pair(Filled)
        other.transport.write(b"x")
        await other.lost
        assert one.transport.is_closing()

    async def stream_servers(self) -> None:
        await talk(*await asyncio.open_connection(*self.streams.sockets[0].getsockname()))

    async def unix(self) -> None:
        await talk(*await asyncio.open_unix_connection(self.path))

    async def accepted_sockets(self) -> None:
        one, other = await self.pair(Echo)
        other.transport.write(b"hello")
        await other.received(5)
        other.transport.close()
        await one.lost

    async def sent_files(self) -> None:
        one, other = await self.pair()
        sent, _ = await asyncio.gather(self.loop.sendfile(one.transport, self.file), other.received(FILE_BYTES))
        assert sent == FILE_BYTES
        one.transport.close()
        await other.lost

    async def refused_connections(self) -> None:
        with pytest.raises(OSError):
            await self.loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
        with pytest.raises(ZeroDivisionError):
            await self.loop.create_connection(lambda: 1 // 0, *self.address)

    async def cancelled_connections(self) -> None:
        task = asyncio.ensure_future(self.loop.create_connection(Recorder, *self.secure_address, ssl=self.trusting))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def secure_connections(self) -> None:
        await talk(*await asyncio.open_connection(*self.secure_address, ssl=self.trusting))

    async def secure_protocols(self) -> None:
        transport, protocol = await self.loop.create_connection(Recorder, *self.secure_address, ssl=self.trusting)
        transport.write(b"hello")
        await protocol.received(5)
        assert transport.get_extra_info("cipher")
        assert repr(transport)
        transport.pause_reading()
        transport.resume_reading()
        transport.close()
        await protocol.lost

    async def started_tls(self) -> None:
        left, right = socket.socketpair()
        ours, protocol = await self.loop.create_connection(asyncio.Protocol, sock=left)
        peer, echo = await self.loop.create_connection(Echo, sock=right)
        secure = await asyncio.gather(
            self.loop.start_tls(ours, protocol, self.trusting, server_hostname="localhost"),
            self.loop.start_tls(peer, echo, self.serving, server_side=True),
        )
        for transport in secure:
            transport.abort()
        await echo.lost

    async def failed_handshakes(self) -> None:
        with pytest.raises(OSError):
            await self.loop.create_connection(asyncio.Protocol, *self.address, ssl=self.trusting)

    async def distrusted_servers(self) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await self.loop.create_connection(
                asyncio.Protocol, *self.secure_address, ssl=self.trusting, server_hostname="elsewhere"
            )
