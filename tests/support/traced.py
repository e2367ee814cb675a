"""A program whose trace is looked at: a connection to a server of its own, five bytes there and back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import ironloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def nothing() -> None:
    pass


async def echo(path: Path, meanwhile: Callable[[], Awaitable[None]] = nothing) -> None:
    """Keep a trace of it, and of `meanwhile`, in the file `path`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with ironloop.trace(path):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        await meanwhile()
    server.close()
    await server.wait_closed()
