"""Back-pressure over TLS in both directions: limits, pauses, resumptions, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from tests.support.bulk import Digest, Flooder, flood_each_other, pattern
from tests.support.leaks import resident_bytes
from tests.support.protocols import Paused, Recorder, close_all
from tests.support.water_marks import KIB, assert_water_marks_can_be_set
from tests.tls.peers import connected_pair


@pytest.mark.parametrize(("buffer", "low", "high"), [("write", 128 * KIB, 512 * KIB), ("read", 64 * KIB, 256 * KIB)])
def test_water_marks_can_be_set(run, tls, buffer, low, high, modern):
    async def main():
        client, peer, server = await connected_pair(tls)
        marks, set_marks, size = (
            getattr(client.transport, name)
            for name in (f"get_{buffer}_buffer_limits", f"set_{buffer}_buffer_limits", f"get_{buffer}_buffer_size")
        )
        assert_water_marks_can_be_set(marks, set_marks, low, high)
        assert size() == 0
        await close_all(client, peer, server)

    run(main)


def test_reading_can_be_paused_and_resumed(run, tls, modern):
    async def main():
        client, peer, server = await connected_pair(tls)
        assert peer.transport.is_reading()
        peer.transport.pause_reading()
        peer.transport.pause_reading()
        assert not peer.transport.is_reading()
        client.transport.write(b"waiting")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not peer.data
        peer.transport.resume_reading()
        peer.transport.resume_reading()
        assert peer.transport.is_reading()
        assert not peer.data
        assert await peer.received(7) == b"waiting"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("side", ["client", "server"])
def test_pausing_in_connection_made_works(run, tls, side, request, modern):
    if side == "client":  # whose last message of the handshake CPython's protocol sends when it reads, or never
        request.getfixturevalue("better")

    async def main():
        factories = (Paused, Recorder) if side == "client" else (Recorder, Paused)
        client, peer, server = await connected_pair(tls, *factories)
        paused, other = (client, peer) if side == "client" else (peer, client)
        other.transport.write(b"early")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not paused.data
        paused.transport.write(b"writing goes on")
        assert await other.received(15) == b"writing goes on"
        paused.transport.resume_reading()
        assert await paused.received(5) == b"early"
        await close_all(client, peer, server)

    run(main)


def test_a_protocol_may_pause_after_each_piece(run, tls, modern):
    class Sipping(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Sipping)
        data = pattern(2_000_000)
        client.transport.write(data)
        assert await peer.received(len(data)) == data
        await close_all(client, peer, server)

    run(main)


def test_pausing_and_resuming_at_once_changes_nothing(run, tls):
    class Flickering(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.resume_reading()

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Flickering)
        data = pattern(1_000_000)
        client.transport.write(data)
        assert await peer.received(len(data)) == data
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_the_protocol_is_paused_once_and_resumed_once(run, tls, method, modern):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        data = pattern(8_000_000)
        for start in range(0, len(data), 1_000_000):
            piece = data[start : start + 1_000_000]
            client.transport.write(piece) if method == "write" else client.transport.writelines([piece])
        assert client.events == ["made", "pause"]
        assert client.transport.get_write_buffer_size() > 512 * KIB
        peer.transport.resume_reading()
        assert await peer.received(len(data)) == data
        while "resume" not in client.events:
            await asyncio.sleep(0)
        assert client.events == ["made", "pause", "resume"]
        assert client.transport.get_write_buffer_size() <= 128 * KIB
        await close_all(client, peer, server)

    run(main)


def test_lowering_the_limit_pauses_at_once(run, tls, modern):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        client.transport.set_write_buffer_limits(high=100_000_000)
        for _ in range(8):
            client.transport.write(bytes(1_000_000))
        assert client.events == ["made"]
        client.transport.set_write_buffer_limits(high=1000)
        assert client.events == ["made", "pause"]
        client.transport.set_write_buffer_limits(high=100_000_000)
        await close_all(client, peer, server)

    run(main)


def test_a_peer_that_does_not_read_pauses_the_writer(run, tls, modern):
    """What it may send before is limited by the sockets' buffers and those of both transports."""

    async def stays_paused(protocol):
        for _ in range(5):
            await asyncio.sleep(0.001)
        return protocol.events[-1] == "pause"

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        sent = 0
        while not (client.events[-1] == "pause" and await stays_paused(client)) and sent < 100_000_000:
            client.transport.write(bytes(64 * KIB))
            sent += 64 * KIB
            await asyncio.sleep(0)
        assert sent < 30_000_000
        assert await stays_paused(client)
        # Resumed only where the kernel had more room than it said.
        pauses = client.events.count("pause")
        assert client.events == ["made", "pause"] + ["resume", "pause"] * (pauses - 1)
        peer.transport.resume_reading()
        await peer.received(sent)
        await close_all(client, peer, server)

    run(main)


def test_what_waits_for_the_peer_keeps_its_order(run, tls):
    """Large and small, of every type, in pieces and alone, while the peer reads and while it does not."""

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        data = pattern(5_000_000)
        sent = bytearray()
        while client.transport.get_write_buffer_size() < 1_000_000:
            client.transport.write(data)
            client.transport.writelines([data[:10], bytearray(data[10:300_000]), memoryview(data)[:7]])
            client.transport.write(bytearray(b"small"))
            sent += data + data[:300_000] + data[:7] + b"small"
        peer.transport.resume_reading()
        await peer.received(len(sent) - 1_000_000)
        client.transport.write(b"the end")
        await peer.received(len(sent) + 7)
        assert bytes(peer.data) == bytes(sent) + b"the end"
        assert client.transport.get_write_buffer_size() == 0
        await close_all(client, peer, server)

    run(main)


def test_writes_from_resume_writing_keep_their_order(run, tls):
    piece = 8_000_000

    class Refilling(Recorder):
        rounds = 1

        def fill(self):
            for _ in range(8):
                self.transport.write(b"%d" % self.rounds * (piece // 8))

        def resume_writing(self):
            super().resume_writing()
            if self.rounds < 3:
                self.rounds += 1
                self.fill()

    async def main():
        client, peer, server = await connected_pair(tls, Refilling, Paused)
        client.fill()
        peer.transport.resume_reading()
        await peer.received(2 * piece)
        while len(peer.data) < client.rounds * piece:
            await peer.received(client.rounds * piece)
        assert bytes(peer.data) == b"".join(b"%d" % (number + 1) * piece for number in range(client.rounds))
        await close_all(client, peer, server)

    run(main)


@pytest.mark.slow
def test_both_ends_flood_each_other_without_a_stall(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls, Flooder, Flooder)
        await flood_each_other(client, peer)
        await close_all(client, peer, server)

    run(main)


@pytest.mark.slow
def test_memory_stays_flat_while_a_lot_comes_through(run, tls, modern):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Digest)

        async def send(size):
            for _ in range(size // 1_000_000):
                client.transport.write(bytes(1_000_000))
                while client.events[-1] == "pause":
                    await asyncio.sleep(0)

        await send(20_000_000)
        gc.collect()
        before = resident_bytes()
        await send(80_000_000)
        assert resident_bytes() - before < 20_000_000
        client.transport.close()
        assert await peer.lost is None
        assert peer.count == 100_000_000
        await client.lost
        await close_all(server)

    run(main)


@pytest.mark.slow
def test_memory_is_given_back_when_the_connection_is_lost(run, tls, better):
    """CPython's protocol keeps a memory BIO as large as it ever was."""

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        before = resident_bytes()
        for _ in range(10):
            client.transport.write(bytearray(b"x" * 10_000_000))
        peer.transport.abort()
        await client.lost
        await close_all(server)
        gc.collect()
        assert resident_bytes() - before < 40_000_000

    run(main)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, memory):
        loop = asyncio.get_running_loop()
        self.memory = memory
        self.data = bytearray()
        self.events = []
        self.made = loop.create_future()
        self.lost = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.made.set_result(None)

    def get_buffer(self, hint):
        assert isinstance(hint, int)
        return self.memory

    def buffer_updated(self, count):
        self.data += self.memory[:count]

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)


@pytest.mark.parametrize("size", [1, 100, 1000, 65536, 1 << 20])
def test_everything_arrives_through_a_buffer_of_any_size(run, tls, size, modern):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, lambda: Buffered(memoryview(bytearray(size))))
        data = pattern(1_000_000 if size > 1 else 2000)
        client.transport.write(data)
        client.transport.close()
        await client.lost
        assert await peer.lost is None
        assert bytes(peer.data) == data
        assert peer.events == ["eof", "lost"]
        await close_all(server)

    run(main)


@pytest.mark.parametrize("size", [1, 1000, 65536])
def test_a_buffer_may_be_a_bytearray(run, tls, size, request, modern):
    """What is left of which CPython's protocol copies, and reads into the copy."""
    if size > 1:
        request.getfixturevalue("better")

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, lambda: Buffered(bytearray(size)))
        data = pattern(100_000 if size > 1 else 2000)
        client.transport.write(data)
        client.transport.close()
        await client.lost
        await peer.lost
        await close_all(server)
        assert bytes(peer.data) == data

    run(main)


def test_a_streaming_protocol_may_become_a_buffered_one_and_back(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        client.transport.write(b"first")
        assert await peer.received(5) == b"first"
        buffered = Buffered(memoryview(bytearray(100)))
        peer.transport.set_protocol(buffered)
        client.transport.write(b"second")
        while bytes(buffered.data) != b"second":
            await asyncio.sleep(0)
        peer.transport.set_protocol(peer)
        client.transport.write(b"third")
        assert await peer.received(10) == b"firstthird"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython's TLS transport had no writelines of its own")
def test_writelines_is_written_before_it_returns(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        parts = [bytearray(b"one "), bytearray(b"two")]
        client.transport.writelines(parts)
        for part in parts:
            part[:] = b"x" * len(part)
        assert await peer.received(7) == b"one two"
        await close_all(client, peer, server)

    run(main)
