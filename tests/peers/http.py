"""A small HTTP/1.1 server on streams, written by hand, so that nothing but the loop is between a peer and the test.

It keeps connections open. GET /N answers with N bytes that do not repeat soon; a request with a body, with the SHA-256
of what came. It does no chunks, no ranges, and no errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECE = bytes(bytearray(range(251)) * 1000)


def pattern(size: int) -> bytes:
    return (PIECE * (size // len(PIECE) + 1))[:size]


class HttpServer:
    """Counts its connections and requests, and remembers the last request's headers, in small letters."""

    def __init__(self) -> None:
        self.connections = self.requests = 0
        self.headers: dict[str, str] = {}
        self.ssl_object: ssl.SSLObject | None = None
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.ssl_object = writer.get_extra_info("ssl_object")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await self._answer(head, reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await writer.wait_closed()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        request, *lines = head.split("\r\n")
        method, path, _ = request.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(self.headers.get("content-length", 0))
        if self.headers.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if method == "GET":
            body = pattern(int(path.rpartition("/")[2]))
        else:
            digest = hashlib.sha256()
            while size:
                piece = await reader.read(min(size, 1 << 16))
                if not piece:
                    raise ConnectionError("the body ended early")
                size -= len(piece)
                digest.update(piece)
            body = digest.hexdigest().encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/plain\r\n\r\n" % len(body))
        for start in range(0, len(body), 1 << 18):
            writer.write(body[start : start + (1 << 18)])
            await writer.drain()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


@contextlib.asynccontextmanager
async def http_server(context: ssl.SSLContext) -> AsyncIterator[HttpServer]:
    """Serves on a free port of 127.0.0.1 until the end of the block, which ends its connections."""
    handler = HttpServer()
    server = await asyncio.start_server(handler.accept, "127.0.0.1", 0, ssl=context)
    handler.port = server.sockets[0].getsockname()[1]
    try:
        yield handler
    finally:
        server.close()
        for writer in handler.writers:
            writer.transport.abort()
        if handler.tasks:
            await asyncio.wait(handler.tasks)
        await server.wait_closed()
