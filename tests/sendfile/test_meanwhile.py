"""What happens while a transport sends a file: the peer writes or leaves, the sending is cancelled or aborted."""

from __future__ import annotations

import asyncio
import io
import socket
import struct

import pytest

from tests.support.children import until
from tests.support.pipes import turns
from tests.support.protocols import HalfOpen
from tests.support.sendfile import ANY_SOCKETS, DATA, SIZE, ByTransport, in_the_middle, receive, receive_rest


@pytest.mark.parametrize("reading", [True, False])
def test_what_the_peer_sends_meanwhile_is_read_afterwards(run, loop, sockets, large_file, reading):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport, protocol = sender.transport, sender.protocol
            if not reading:
                transport.pause_reading()
            task = await in_the_middle(sender.sendfile(large_file), peer)
            peer.send(b"meanwhile")
            await turns()
            assert not transport.is_reading()
            assert await receive(peer, SIZE - 100_000) == DATA[100_000:]
            await task
            assert transport.is_reading() is reading
            if not reading:
                await turns()
                assert protocol.data == b""
                transport.resume_reading()
            peer.send(b" and later")
            assert await protocol.received(19) == b"meanwhile and later"

    run(main)


def test_the_end_of_the_peer_s_data_is_noticed_afterwards(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours, HalfOpen) as sender:
            transport, protocol = sender.transport, sender.protocol
            task = await in_the_middle(sender.sendfile(large_file), peer)
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await turns()
            assert protocol.events == ["made"]
            assert await receive(peer, SIZE - 100_000) == DATA[100_000:]
            await task
            await protocol.ended
            assert protocol.events == ["made", "data", "eof"]
            transport.write(b"goodbye")
            assert await receive(peer, 7) == b"goodbye"

    run(main)


def reset(sock):
    """Close a socket so that the other end gets an error; what it had not read is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_peer_that_leaves_in_the_middle_is_an_error(run, loop, sockets, file, leave):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            protocol = sender.protocol
            task = await in_the_middle(sender.sendfile(file), peer)
            leave(peer)
            with pytest.raises(ConnectionError):
                await task
            assert 100_000 < file.tell() < SIZE
            await protocol.lost
            assert protocol.events[-1] == "lost"
            assert "data" not in protocol.events

    run(main)


@pytest.mark.parametrize(("end", "told"), [("peer resets", ConnectionError), ("abort", type(None))])
def test_a_connection_that_ends_while_the_file_waits_is_an_error(run, sockets, file, end, told):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            sender.transport.write(bytes(SIZE))
            task = asyncio.create_task(sender.sendfile(file))
            await turns()
            reset(peer) if end == "peer resets" else sender.transport.abort()
            with pytest.raises(ConnectionError):
                await task
            assert isinstance(await sender.protocol.lost, told)

    run(main)


def test_a_transport_that_is_aborted_ends_the_sending_of_a_file(run, loop, loop_name, sockets, opened):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop waits for ever")
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport = sender.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            task = asyncio.create_task(sender.sendfile(opened))
            while not await loop.sock_recv(peer, 1):
                pass
            await asyncio.sleep(0)
            assert not task.done()
            transport.abort()
            with pytest.raises(ConnectionError):
                await task

    run(main)


def test_a_paused_protocol_is_resumed_once_after_the_fallback(run, loop, sockets):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport, protocol = sender.transport, sender.protocol
            transport.write(bytes(SIZE))
            task = asyncio.create_task(sender.sendfile(io.BytesIO(DATA)))
            await turns()
            assert protocol.events == ["made", "pause"]
            await asyncio.gather(task, receive(peer, 2 * SIZE))
            assert protocol.events == ["made", "pause", "resume"]

    run(main)


def test_the_fallback_does_not_pause_a_protocol(run, loop, sockets):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport, protocol = sender.transport, sender.protocol
            task = await in_the_middle(sender.sendfile(io.BytesIO(DATA)), peer)
            await until(transport.get_write_buffer_size)
            await receive(peer, SIZE - 100_000)
            assert await task == SIZE
            assert "pause" not in protocol.events
            transport.write(bytes(SIZE))
            assert "pause" in protocol.events

    run(main)


def test_a_sendfile_that_is_cancelled_in_the_middle_leaves_a_usable_transport(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport, protocol = sender.transport, sender.protocol
            task = await in_the_middle(sender.sendfile(large_file), peer)
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.is_reading()
            assert transport.get_protocol() is protocol
            peer.send(b"from the peer")
            assert await protocol.received(13) == b"from the peer"
            transport.write(b"tail")
            transport.write_eof()
            got = await receive_rest(peer)
            assert got.endswith(b"tail")
            assert 0 < len(got) - 4 < SIZE - 100_000
            assert got[:-4] == DATA[100_000:][: len(got) - 4]

    run(main)


def test_a_sendfile_that_is_cancelled_while_it_waits_sends_nothing(run, loop, sockets, file, reports):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport = sender.transport
            transport.write(bytes(SIZE))
            task = asyncio.create_task(sender.sendfile(file))
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await receive(peer, SIZE) == bytes(SIZE)
            # CPython's transport writes nothing from then on, and reports that its future is cancelled.
            await turns()
            with pytest.raises(BlockingIOError):
                peer.recv(1)

    run(main)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self):
        self.buffer = bytearray(1 << 16)
        self.data = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data.put_nowait(bytes(self.buffer[:nbytes]))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@ANY_SOCKETS
def test_a_buffered_protocol_is_one_afterwards(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours, Buffered) as sender:
            task = await in_the_middle(sender.sendfile(large_file), peer)
            peer.send(b"meanwhile")
            assert await receive(peer, SIZE - 100_000) == DATA[100_000:]
            await task
            assert await sender.protocol.data.get() == b"meanwhile"

    run(main)
