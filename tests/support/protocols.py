"""Protocols that remember what happened to them."""

from __future__ import annotations

import asyncio
from typing import Any


class Recorder(asyncio.Protocol):
    """Notes every event, in order, and lets a test wait for the ends of things."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[Any] = []
        self.data = bytearray()
        self.transport: Any = None
        self.made = loop.create_future()
        self.ended = loop.create_future()
        self.lost = loop.create_future()
        self._wanted: list[tuple[int, asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")
        self.made.set_result(transport)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        if not self.events or self.events[-1] != "data":
            self.events.append("data")
        self.data += data
        self._check()

    def _check(self) -> None:
        for size, future in self._wanted:
            if len(self.data) >= size and not future.done():
                future.set_result(None)

    async def received(self, size: int) -> bytes:
        """Wait until `size` bytes have come in all."""
        future = asyncio.get_running_loop().create_future()
        self._wanted.append((size, future))
        self._check()
        await future
        return bytes(self.data)

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        self.ended.set_result(None)
        return None

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class HalfOpen(Recorder):
    """Keeps its write side open when the peer closes its own."""

    def eof_received(self) -> bool | None:
        super().eof_received()
        return True


class Paused(Recorder):
    """Does not read until it is told to."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()


async def connected_pair(
    client_factory: Any = Recorder, server_factory: Any = Recorder
) -> tuple[Any, Any, asyncio.AbstractServer]:
    """(client protocol, server protocol, server), connected over loopback."""
    loop = asyncio.get_running_loop()
    served = loop.create_future()

    def factory() -> Any:
        protocol = server_factory()
        if not served.done():
            served.set_result(protocol)
        return protocol

    server = await loop.create_server(factory, "127.0.0.1", 0)
    _, client = await loop.create_connection(client_factory, *server.sockets[0].getsockname())
    peer = await served
    await peer.made
    return client, peer, server


async def close_all(*closables: Any) -> None:
    """Close transports (of protocols) and servers, and wait until they are gone."""
    for item in closables:
        if isinstance(item, Recorder):
            if item.transport is not None:
                item.transport.abort()
                await asyncio.wait([item.lost])
        else:
            item.close()
            await item.wait_closed()
            while getattr(item, "_active_count", 0):  # before Python 3.12.1 it does not wait for its connections
                await asyncio.sleep(0)
