"""Pipes with the loop at both ends."""

from __future__ import annotations

import asyncio
import io
import os
from typing import Any

from tests.support.protocols import Recorder

MESSAGE = bytes(range(256)) * 1200  # 300 KB, more than a pipe or a socket takes at once


class CountingFile(io.FileIO):
    """Counts how often it is closed, and insists that its descriptor is its own each time."""

    closes = 0

    def close(self) -> None:
        if not self.closed:
            os.fstat(self.fileno())
            self.closes += 1
        super().close()


def files_of_a_pipe() -> tuple[CountingFile, CountingFile]:
    """(file to read from, file to write to)."""
    read, write = os.pipe()
    return CountingFile(read, "rb"), CountingFile(write, "wb")


async def connected_pipe(
    read_file: Any, write_file: Any, reader_factory: Any = Recorder, writer_factory: Any = Recorder
) -> tuple[Any, Any]:
    """(protocol that reads, protocol that writes)."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.connect_read_pipe(reader_factory, read_file)
    _, writer = await loop.connect_write_pipe(writer_factory, write_file)
    return reader, writer


async def close_pipes(*protocols: Recorder) -> None:
    """Close the protocols' transports and wait until they are gone."""
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.lost


async def turns(count: int = 5) -> None:
    """Let the loop turn, where a test shows that something does not happen."""
    for _ in range(count):
        await asyncio.sleep(0.001)
