"""Connected pairs over TLS, and an end of a TLS connection that is worked by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.protocols import Recorder, close_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.tls.certificates import Certificates


async def serve(
    tls: Certificates, factory: Any = Recorder, context: ssl.SSLContext | None = None, **options: Any
) -> tuple[asyncio.AbstractServer, asyncio.Queue[Any]]:
    """A TLS server on loopback, and a queue of the protocols that it makes, in the order of the connections."""
    made: asyncio.Queue[Any] = asyncio.Queue()

    def noted() -> Any:
        protocol = factory()
        made.put_nowait(protocol)
        return protocol

    context = context or tls.server_context()
    loop = asyncio.get_running_loop()
    return await loop.create_server(noted, "127.0.0.1", 0, ssl=context, **options), made


async def connect(
    tls: Certificates, server: Any, factory: Any = Recorder, context: ssl.SSLContext | None = None, **options: Any
) -> Any:
    """The protocol of a new connection to the server, as `localhost` unless told otherwise."""
    options.setdefault("server_hostname", "localhost")
    _, protocol = await asyncio.get_running_loop().create_connection(
        factory, *server.sockets[0].getsockname(), ssl=context or tls.client_context(), **options
    )
    return protocol


async def connected_pair(
    tls: Certificates,
    client_factory: Any = Recorder,
    server_factory: Any = Recorder,
    *,
    client_context: ssl.SSLContext | None = None,
    server_context: ssl.SSLContext | None = None,
    server_hostname: str = "localhost",
    **options: Any,
) -> tuple[Any, Any, asyncio.AbstractServer]:
    """(client protocol, server protocol, server), connected over loopback; both get the options."""
    server, made = await serve(tls, server_factory, server_context, **options)
    client = await connect(tls, server, client_factory, client_context, server_hostname=server_hostname, **options)
    peer = await made.get()
    await peer.made
    return client, peer, server


def tells_of(error: Any, alert: str) -> bool:
    """Whether an error is what an end sees whose peer refuses the handshake, or its certificate, with that alert.

    CPython's protocol drops the alert and closes the connection, so that a reset is all that the other end sees.
    """
    return isinstance(error, ConnectionResetError) or (
        isinstance(error, ssl.SSLError) and f"_ALERT_{alert}" in (error.reason or "")
    )


async def refused(tls: Certificates, server: Any, context: ssl.SSLContext, alert: str) -> None:
    """Connect in vain, because the server refuses the handshake with that alert."""
    with pytest.raises(OSError) as raised:
        await connect(tls, server, context=context)
    assert tells_of(raised.value, alert), repr(raised.value)


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(100)
    sock.setblocking(False)
    return sock


class ManualPeer:
    """One end of a TLS connection of which a test decides when what is sent: `ssl.SSLObject` over a socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, **options: Any) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)

    @classmethod
    async def connect(cls, tls: Certificates, server: Any, context: ssl.SSLContext | None = None) -> ManualPeer:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        peer = cls(sock, context or tls.client_context(), server_hostname="localhost")
        await peer.handshake()
        return peer

    @classmethod
    async def accept(cls, tls: Certificates, sock: socket.socket, context: ssl.SSLContext | None = None) -> ManualPeer:
        accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
        peer = cls(accepted, context or tls.server_context(), server_side=True)
        await peer.handshake()
        return peer

    async def _work(self, function: Any, *arguments: Any) -> Any:
        """Call a function of the SSL object until it has read what it needs."""
        while True:
            try:
                result = function(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
            else:
                await self.flush()
                return result
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
            self.incoming.write(data) if data else self.incoming.write_eof()

    async def flush(self) -> None:
        if self.outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self.sock, self.outgoing.read())

    async def handshake(self) -> None:
        await self._work(self.tls.do_handshake)

    async def send(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    async def receive(self, size: int) -> bytes:
        """`size` bytes, or fewer if the other end said close_notify before."""
        data = b""
        while len(data) < size:
            try:
                piece = await self._work(self.tls.read, size - len(data))
            except ssl.SSLZeroReturnError:
                break
            if not piece:
                break
            data += piece
        return data

    async def send_close_notify(self) -> None:
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        await self.flush()

    async def unwrap(self) -> None:
        """Send close_notify and wait for the other end's."""
        await self._work(self.tls.unwrap)

    def end(self) -> None:
        """Send FIN and no close_notify; closing the socket would send RST if there was something left to read."""
        self.sock.shutdown(socket.SHUT_WR)

    async def raw_end(self) -> None:
        """Read and drop bytes until the other end closes or resets the TCP connection."""
        try:
            while await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Close with RST instead of FIN (SO_LINGER, socket(7))."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


@contextlib.asynccontextmanager
async def manual_client(
    tls: Certificates, factory: Any = Recorder, context: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[ManualPeer, Any]]:
    """(a client worked by hand, the protocol that serves it), until the end of the block and of the server."""
    server, made = await serve(tls, factory, context, **options)
    manual = await ManualPeer.connect(tls, server)
    with contextlib.closing(manual):
        protocol = await made.get()
        await protocol.made
        yield manual, protocol
    await close_all(server)
