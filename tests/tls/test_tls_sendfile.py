"""sendfile over TLS: through the fallback, in order with what was written, and not at all without one."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.support.protocols import Paused, Recorder, close_all
from tests.tls.peers import connected_pair

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        yield opened


@pytest.mark.parametrize(
    ("offset", "count"), [(0, None), (1000, None), (0, 100_000), (77, 1), (len(CONTENT), None), (0, 10_000_000)]
)
def test_a_file_is_sent(run, loop, tls, file, offset, count):
    expected = CONTENT[offset:] if count is None else CONTENT[offset : offset + count]

    async def main():
        client, peer, server = await connected_pair(tls)
        assert await loop.sendfile(client.transport, file, offset, count) == len(expected)
        assert file.tell() == (offset + len(expected) if expected else offset)
        assert await peer.received(len(expected)) == expected
        client.transport.write(b"and on")
        assert await peer.received(len(expected) + 6) == expected + b"and on"
        await close_all(client, peer, server)

    run(main)


def test_a_file_goes_behind_what_was_written_before(run, loop, tls, file):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        before = b"x" * 1_000_000
        for _ in range(8):
            client.transport.write(before)
        sending = asyncio.ensure_future(loop.sendfile(client.transport, file))
        await asyncio.sleep(0)
        peer.transport.resume_reading()
        assert await sending == len(CONTENT)
        client.transport.write(b"after")
        expected = before * 8 + CONTENT + b"after"
        assert await peer.received(len(expected)) == expected
        assert client.transport.get_protocol() is client
        await close_all(client, peer, server)

    run(main)


def test_data_still_comes_in_after_a_file_was_sent(run, loop, tls, file):
    async def main():
        client, peer, server = await connected_pair(tls)
        await loop.sendfile(client.transport, file)
        await peer.received(len(CONTENT))
        peer.transport.write(b"thanks")
        assert await client.received(6) == b"thanks"
        await close_all(client, peer, server)

    run(main)


def test_a_file_is_not_sent_without_a_fallback(run, loop, tls, file):
    async def main():
        client, peer, server = await connected_pair(tls)
        with pytest.raises(RuntimeError, match="fallback is disabled and native sendfile is not supported"):
            await loop.sendfile(client.transport, file, fallback=False)
        client.transport.write(b"still works")
        assert await peer.received(11) == b"still works"
        await close_all(client, peer, server)

    run(main)


def test_a_file_is_not_sent_on_a_closed_transport(run, loop, tls, file):
    async def main():
        client, peer, server = await connected_pair(tls)
        client.transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(client.transport, file)
        await client.lost
        await peer.lost
        await close_all(server)

    run(main)


def test_a_peer_that_goes_away_ends_the_sending(run, loop, tls, tmp_path, modern):
    async def main():
        path = tmp_path / "large"
        path.touch()
        os.truncate(path, 50_000_000)
        client, peer, server = await connected_pair(tls)
        with path.open("rb") as opened:
            sending = asyncio.ensure_future(loop.sendfile(client.transport, opened))
            await peer.received(100_000)
            peer.transport.pause_reading()
            while client.transport.get_write_buffer_size() < client.transport.get_write_buffer_limits()[1]:
                await asyncio.sleep(0.001)
            peer.transport.abort()
            with pytest.raises(ConnectionError):
                await sending
        await asyncio.wait([client.lost, peer.lost])
        await close_all(server)

    run(main)
