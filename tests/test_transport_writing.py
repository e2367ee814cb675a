"""Writing more than the socket takes: queues, flow control, nothing lost."""

from __future__ import annotations

import array
import asyncio
import gc
import hashlib
import sys

import pytest

from tests.support.builds import FREE_THREADED
from tests.support.bulk import Digest, Flooder, flood_each_other, pattern
from tests.support.leaks import resident_bytes
from tests.support.protocols import Paused, Recorder, close_all, connected_pair


@pytest.mark.slow
def test_twenty_megabytes_before_close_all_arrive(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, Digest)
        data = pattern(20_000_000)
        client.transport.write(data)
        client.transport.close()
        assert await peer.lost is None
        assert peer.count == len(data)
        assert peer.hash.digest() == hashlib.sha256(data).digest()
        assert await client.lost is None
        assert client.transport.get_extra_info("socket").fileno() == -1
        await close_all(server)

    run(main)


@pytest.mark.slow
def test_the_end_of_the_stream_comes_behind_nine_megabytes(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, Digest)
        data = pattern(9_000_000)
        client.transport.write(data)
        client.transport.write_eof()
        await peer.lost
        assert peer.count == len(data)
        assert peer.hash.digest() == hashlib.sha256(data).digest()
        await close_all(client, server) if not client.lost.done() else await close_all(server)

    run(main)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_is_changed_after_the_write_arrives_as_it_was(run, kind, loop_name):
    if loop_name == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("from Python 3.12 on CPython's transport keeps a view of what was not sent at once")

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        original = bytearray(pattern(8_000_000))
        expected = bytes(original)
        client.transport.write(original if kind is bytearray else memoryview(original))
        original[:] = bytes(len(original))
        peer.transport.resume_reading()
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("code", ["I", "Q", "H"])
def test_a_view_of_wide_items_that_the_socket_takes_in_parts_arrives_exactly(run, method, code, loop_name):
    if loop_name == "asyncio" and (method == "write" or sys.version_info >= (3, 12)):
        pytest.skip("CPython's transport counts what was sent in items instead of bytes")

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        view = memoryview(array.array(code, range(60_000)))
        expected = bytes(view)
        for _ in range(40):
            client.transport.write(view) if method == "write" else client.transport.writelines([view, b"-"])
        assert client.transport.get_write_buffer_size() > 0
        peer.transport.resume_reading()
        expected = expected * 40 if method == "write" else (expected + b"-") * 40
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("count", [3, 1024, 1025, 5000])
def test_writelines_of_many_pieces_arrive_in_order(run, count):
    async def main():
        client, peer, server = await connected_pair()
        pieces = [b"%06d " % number * (number % 7 + 1) for number in range(count)]
        client.transport.writelines(pieces)
        expected = b"".join(pieces)
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_the_protocol_is_paused_once_and_resumed_once(run, method, loop_name):
    if loop_name == "asyncio" and method == "writelines" and (3, 12) <= sys.version_info < (3, 12, 9):
        pytest.skip("writelines of this version does not pause (CPython 127655)")
    if loop_name == "asyncio" and method == "writelines" and (3, 13) <= sys.version_info < (3, 13, 2):
        pytest.skip("writelines of this version does not pause (CPython 127655)")

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        data = pattern(8_000_000)
        for start in range(0, len(data), 1_000_000):
            piece = data[start : start + 1_000_000]
            client.transport.write(piece) if method == "write" else client.transport.writelines([piece])
        assert client.events == ["made", "pause"]
        assert client.transport.get_write_buffer_size() > 0
        assert "write=<polling" in repr(client.transport)
        peer.transport.resume_reading()
        assert await peer.received(len(data)) == data
        while "resume" not in client.events:
            await asyncio.sleep(0)
        assert client.events == ["made", "pause", "resume"]
        assert client.transport.get_write_buffer_size() == 0
        await close_all(client, peer, server)

    run(main)


def test_lowering_the_marks_pauses_at_once(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        client.transport.set_write_buffer_limits(high=100_000_000)
        client.transport.write(pattern(8_000_000))
        assert client.events == ["made"]
        client.transport.set_write_buffer_limits(high=1000)
        assert client.events == ["made", "pause"]
        await close_all(client, peer, server)

    run(main)


def test_abort_drops_the_queue_and_tells_the_protocol_once(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        client.transport.write(pattern(5_000_000))
        assert client.transport.get_write_buffer_size() > 0
        client.transport.abort()
        client.transport.abort()
        assert client.transport.get_write_buffer_size() == 0
        assert await client.lost is None
        assert client.events == ["made", "pause", "lost"]
        await close_all(peer, server)

    run(main)


def test_close_may_be_followed_by_abort(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        client.transport.write(pattern(5_000_000))
        client.transport.close()
        assert not client.lost.done()
        client.transport.abort()
        await client.lost
        assert client.events.count("lost") == 1
        await close_all(peer, server)

    run(main)


@pytest.mark.slow
def test_both_ends_flood_each_other_without_a_stall(run):
    async def main():
        client, peer, server = await connected_pair(Flooder, Flooder)
        await flood_each_other(client, peer)
        await close_all(client, peer, server)

    run(main)


@pytest.mark.slow
def test_memory_is_given_back_when_the_connection_is_lost(run, loop_name):
    if loop_name == "asyncio" and FREE_THREADED:
        pytest.skip("CPython's loop queues Python objects, whose memory these builds give back some time later")

    async def main():
        client, peer, server = await connected_pair(Recorder, Paused)
        before = resident_bytes()
        for _ in range(15):
            client.transport.write(bytearray(b"x" * 10_000_000))
        assert client.transport.get_write_buffer_size() > 100_000_000
        peer.transport.abort()
        await client.lost
        gc.collect()
        assert resident_bytes() - before < 40_000_000
        assert client.transport.get_write_buffer_size() == 0
        await close_all(server)

    run(main)


def test_writes_from_resume_writing_keep_their_order(run):
    class Refilling(Recorder):
        rounds = 0

        def resume_writing(self):
            super().resume_writing()
            Refilling.rounds += 1
            if Refilling.rounds <= 2:
                self.transport.write(b"%d" % Refilling.rounds * 10_000_000)

    async def main():
        Refilling.rounds = 0
        client, peer, server = await connected_pair(Refilling, Paused)
        client.transport.write(b"0" * 10_000_000)
        peer.transport.resume_reading()
        expected = b"".join(b"%d" % n * 10_000_000 for n in range(3))
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)
