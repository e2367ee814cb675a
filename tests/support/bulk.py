"""A lot of bytes: a pattern to know them by, and protocols that do not keep them."""

from __future__ import annotations

import asyncio
import hashlib

from tests.support.protocols import Recorder


def pattern(size: int) -> bytes:
    """Bytes that do not repeat at powers of two, so that a piece in the wrong place shows."""
    return bytes(bytearray(range(251)) * (size // 251 + 1))[:size]


class Digest(Recorder):
    """Counts and hashes what it gets, without keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.hash = hashlib.sha256()

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        self.hash.update(data)


class Flooder(Digest):
    """Writes whenever it may, and waits for as much."""

    CHUNK = pattern(1 << 16)
    SIZE = 480 * len(CHUNK)

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.paused = False
        self.expected = hashlib.sha256()
        self.complete = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        while not self.paused and self.sent < self.SIZE:
            self.transport.write(self.CHUNK)
            self.expected.update(self.CHUNK)
            self.sent += len(self.CHUNK)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.count >= self.SIZE and not self.complete.done():
            self.complete.set_result(None)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.start()


async def flood_each_other(client: Flooder, peer: Flooder) -> None:
    """Until both have got all, unharmed."""
    client.start()
    peer.start()
    await client.complete
    await peer.complete
    assert (client.count, peer.count) == (peer.sent, client.sent)
    assert client.hash.digest() == peer.expected.digest()
    assert peer.hash.digest() == client.expected.digest()
