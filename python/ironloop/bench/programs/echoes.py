"""Servers that send back what they receive, with protocols and with streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG = 1024


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve_protocol(size: int) -> None:
    await serve(Echo)


async def serve_streams(size: int) -> None:
    """Messages of a known size."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    await serve_with_streams(echo)


async def serve(factory: Callable[[], asyncio.BaseProtocol]) -> None:
    """Print the port, and serve until the process is killed."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()  # not every loop has serve_forever


async def serve_with_streams(echo: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, limit=1 << 20, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()
