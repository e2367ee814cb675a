"""sendfile through a transport: offset, count, order, refusals."""

from __future__ import annotations

import asyncio
import io

import pytest

from tests.support.protocols import Recorder, close_all, connected_pair

DATA = bytes(range(256)) * 4096


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        yield opened


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (0, 5000), (300, 70_000)])
def test_a_part_of_a_file_is_sent(run, loop, file, offset, count):
    async def main():
        client, peer, server = await connected_pair()
        expected = DATA[offset : None if count is None else offset + count]
        assert await loop.sendfile(client.transport, file, offset, count) == len(expected)
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


def test_the_file_comes_behind_what_was_written(run, loop, file):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        head = b"h" * 8_000_000
        client.transport.write(head)
        task = asyncio.ensure_future(loop.sendfile(client.transport, file))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            client.transport.write(b"not now")
        peer.transport.resume_reading()
        assert await task == len(DATA)
        client.transport.write(b"tail")
        assert await peer.received(len(head) + len(DATA) + 4) == head + DATA + b"tail"
        await close_all(client, peer, server)

    run(main)


def test_a_closing_transport_sends_no_file(run, loop, file):
    async def main():
        client, peer, server = await connected_pair()
        client.transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(client.transport, file)
        await client.lost
        await close_all(peer, server)

    run(main)


def test_a_connection_that_is_lost_meanwhile_raises(run, loop, file):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        client.transport.write(b"h" * 8_000_000)
        task = asyncio.ensure_future(loop.sendfile(client.transport, file))
        await asyncio.sleep(0)
        client.transport.abort()
        with pytest.raises((ConnectionError, RuntimeError)):
            await task
        await asyncio.wait([client.lost])
        await close_all(peer, server)

    run(main)


def test_what_is_no_file_of_the_system_is_read_and_written(run, loop):
    async def main():
        client, peer, server = await connected_pair()
        assert await loop.sendfile(client.transport, io.BytesIO(DATA), 100) == len(DATA) - 100
        client.transport.write(b"tail")
        assert await peer.received(len(DATA) - 96) == DATA[100:] + b"tail"
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(client.transport, io.BytesIO(DATA), fallback=False)
        await close_all(client, peer, server)

    run(main)


def test_reading_and_writing_waits_for_a_slow_peer(run, loop):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        head = b"h" * 8_000_000
        client.transport.write(head)
        task = asyncio.ensure_future(loop.sendfile(client.transport, io.BytesIO(DATA)))
        await asyncio.sleep(0.01)
        assert not task.done()
        peer.transport.resume_reading()
        assert await task == len(DATA)
        assert await peer.received(len(head) + len(DATA)) == head + DATA
        await close_all(client, peer, server)

    run(main)
