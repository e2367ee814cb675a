"""The interface of stream transports, and the order of a connection's events."""

from __future__ import annotations

import array
import asyncio
import socket
import sys
import weakref

import pytest

from tests.support.builds import whole_calls
from tests.support.protocols import Echo, HalfOpen, Paused, Recorder, close_all, connected_pair
from tests.support.water_marks import assert_water_marks_can_be_set


def test_events_come_in_order(run):
    async def main():
        client, peer, server = await connected_pair()
        client.transport.write(b"hello")
        assert await peer.received(5) == b"hello"
        peer.transport.write(b"world")
        assert await client.received(5) == b"world"
        client.transport.close()
        assert await client.lost is None
        assert await peer.lost is None
        assert client.events == ["made", "data", "lost"]
        assert peer.events == ["made", "data", "eof", "lost"]
        await close_all(server)

    run(main)


def test_nothing_happens_synchronously(run, loop):
    async def main():
        calls = []

        class Watching(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                calls.append("made")

            def connection_lost(self, exc):
                super().connection_lost(exc)
                calls.append("lost")

        client, peer, server = await connected_pair(Watching)
        assert calls == ["made"]
        client.transport.close()
        assert calls == ["made"]
        client.transport.abort()
        assert calls == ["made"]
        await client.lost
        await close_all(peer, server)
        assert calls == ["made", "lost"]

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"0123456789abcdef",
        bytearray(b"0123456789abcdef"),
        memoryview(b"0123456789abcdef"),
        memoryview(array.array("I", [1, 2, 3, 4])),
        memoryview(b"0.1.2.3.4.5.6.7.8.9.a.b.c.d.e.f.")[::2],
    ],
    ids=["bytes", "bytearray", "memoryview", "items of four bytes", "every second byte"],
)
def test_every_kind_of_bytes_arrives(run, data, loop_name):
    if loop_name == "asyncio" and isinstance(data, memoryview) and not data.contiguous:
        pytest.skip("CPython's transport ends the connection with a BufferError")

    async def main():
        client, peer, server = await connected_pair()
        client.transport.write(data)
        assert await peer.received(16) == bytes(data)
        await close_all(client, peer, server)

    run(main)


def test_the_end_of_the_input_is_told_of_once(run, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's transport reads again after a pause, and finds the end again")

    async def main():
        client, peer, server = await connected_pair(HalfOpen)
        peer.transport.write_eof()
        await client.ended
        client.transport.pause_reading()
        client.transport.resume_reading()
        client.transport.write(b"after a poll")
        await peer.received(12)
        await asyncio.sleep(0)
        assert client.events == ["made", "eof"]
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("bad", ["text", 5, None, [b"x"], object()])
def test_what_is_no_bytes_is_refused(run, bad, loop_name):
    if loop_name == "asyncio" and sys.version_info >= (3, 15) and bad is not None:
        pytest.skip("from Python 3.15 on CPython's writelines keeps what it had queued when it met the bad item")

    async def main():
        client, peer, server = await connected_pair()
        with pytest.raises(TypeError, match="data argument must be a"):
            client.transport.write(bad)
        if bad is not None:  # which CPython 3.14's writelines passes over
            with pytest.raises(TypeError):
                client.transport.writelines([b"x", bad])
        client.transport.write(b"still works")
        assert (await peer.received(11)).endswith(b"still works")
        await close_all(client, peer, server)

    run(main)


def test_writelines_sends_all_pieces_in_order(run):
    async def main():
        client, peer, server = await connected_pair()
        client.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three"), b""])
        client.transport.writelines([])
        client.transport.writelines(iter([b" four"]))
        assert await peer.received(18) == b"one two three four"
        await close_all(client, peer, server)

    run(main)


def test_half_close_leaves_the_other_direction_open(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, HalfOpen)
        assert client.transport.can_write_eof()
        client.transport.write(b"question")
        client.transport.write_eof()
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            client.transport.write(b"more")
        await peer.ended
        assert bytes(peer.data) == b"question"
        assert not peer.transport.is_closing()
        peer.transport.write(b"answer")
        peer.transport.close()
        assert await client.received(6) == b"answer"
        await client.lost
        await peer.lost
        assert peer.events == ["made", "data", "eof", "lost"]
        await close_all(server)

    run(main)


def test_a_falsy_eof_received_closes_the_transport(run):
    async def main():
        client, peer, server = await connected_pair()
        client.transport.write_eof()
        assert await peer.lost is None
        assert peer.events == ["made", "eof", "lost"]
        assert await client.lost is None
        await close_all(server)

    run(main)


def test_reading_can_be_paused_and_resumed(run):
    async def main():
        client, peer, server = await connected_pair()
        assert peer.transport.is_reading()
        peer.transport.pause_reading()
        peer.transport.pause_reading()
        assert not peer.transport.is_reading()
        assert peer.transport._paused
        client.transport.write(b"waiting")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not peer.data
        peer.transport.resume_reading()
        peer.transport.resume_reading()
        assert peer.transport.is_reading()
        assert not peer.transport._paused
        assert await peer.received(7) == b"waiting"
        await close_all(client, peer, server)
        peer.transport.pause_reading()
        peer.transport.resume_reading()
        assert not peer.transport.is_reading()

    run(main)


@pytest.mark.parametrize("side", ["client", "server"])
def test_pausing_in_connection_made_works(run, side, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 11, 4):
        pytest.skip("CPython's transport starts reading all the same before 3.11.4")

    async def main():
        factories = (Paused, Recorder) if side == "client" else (Recorder, Paused)
        client, peer, server = await connected_pair(*factories)
        paused, other = (client, peer) if side == "client" else (peer, client)
        other.transport.write(b"early")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not paused.data
        paused.transport.resume_reading()
        assert await paused.received(5) == b"early"
        await close_all(client, peer, server)

    run(main)


def test_the_peers_end_is_seen_after_a_pause(run):
    async def main():
        client, peer, server = await connected_pair()
        peer.transport.pause_reading()
        client.transport.write(b"last words")
        client.transport.close()
        await client.lost
        assert peer.events == ["made"]
        peer.transport.resume_reading()
        await peer.lost
        assert bytes(peer.data) == b"last words"
        assert peer.events == ["made", "data", "eof", "lost"]
        await close_all(server)

    run(main)


def test_another_protocol_can_take_over(run):
    async def main():
        client, peer, server = await connected_pair()
        client.transport.write(b"first")
        await peer.received(5)
        other = Recorder()
        other.transport = peer.transport
        peer.transport.set_protocol(other)
        assert peer.transport.get_protocol() is other
        client.transport.write(b"second")
        assert await other.received(6) == b"second"
        assert bytes(peer.data) == b"first"
        client.transport.close()
        await other.lost
        assert peer.events == ["made", "data"]
        await close_all(server)

    run(main)


def test_extra_info_is_known_and_outlives_the_connection(run):
    async def main():
        client, peer, server = await connected_pair()
        address = server.sockets[0].getsockname()
        transport = client.transport
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("sockname") == peer.transport.get_extra_info("peername")
        assert peer.transport.get_extra_info("sockname") == address
        assert transport.get_extra_info("colour") is None
        assert transport.get_extra_info("colour", "green") == "green"
        for one in (transport, peer.transport):
            sock = one.get_extra_info("socket")
            assert sock.family == socket.AF_INET
            assert sock.type == socket.SOCK_STREAM
            assert sock.fileno() >= 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.gettimeout() == 0
            assert one.get_extra_info("socket") is sock
        await close_all(client, peer, server)
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("socket").fileno() == -1

    run(main)


def test_the_socket_of_a_lost_connection_is_a_closed_one(run):
    async def main():
        client, peer, server = await connected_pair()
        await close_all(client, peer, server)
        for one in (client.transport, peer.transport):
            assert one.get_extra_info("socket").fileno() == -1

    run(main)


def test_a_transport_is_one_of_asyncios_and_takes_attributes(run):
    async def main():
        client, peer, server = await connected_pair()
        transport = client.transport
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert weakref.ref(transport)() is transport
        transport.note = 5
        assert transport.note == 5
        written = []
        transport.write = written.append
        transport.write(b"to the list")
        assert written == [b"to the list"]
        assert "fd=" in repr(transport)
        assert "bufsize=0" in repr(transport)
        await close_all(client, peer, server)
        assert "closed" in repr(transport)
        assert transport.is_closing()

    run(main)


def test_water_marks_can_be_set(run):
    async def main():
        client, peer, server = await connected_pair()
        transport = client.transport
        assert_water_marks_can_be_set(transport.get_write_buffer_limits, transport.set_write_buffer_limits)
        assert transport.get_write_buffer_size() == 0
        await close_all(client, peer, server)

    run(main)


def test_write_and_close_deliver_everything(run):
    async def main():
        client, peer, server = await connected_pair()
        client.transport.write(b"bye")
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        await peer.lost
        assert bytes(peer.data) == b"bye"
        await close_all(client, server) if not client.lost.done() else await close_all(server)

    run(main)


@whole_calls
def test_several_writes_of_one_callback_arrive_in_order(run):
    class Chatty(Recorder):
        def data_received(self, data):
            for piece in (b"one ", bytearray(b"two "), b"three ", memoryview(b"four")):
                self.transport.write(piece)
            assert self.transport.get_write_buffer_size() == 0

    async def main():
        client, peer, server = await connected_pair(Recorder, Chatty)
        for number in range(1, 6):
            client.transport.write(b"go")
            got = await client.received(18 * number)
            assert got == b"one two three four" * number
        await close_all(client, peer, server)

    run(main)


@whole_calls
def test_a_handler_that_writes_once_has_its_bytes_on_the_wire_before_it_blocks(run):
    """The peer reads the answer in a thread while the handler still blocks."""
    import threading

    async def main():
        loop = asyncio.get_running_loop()
        # Counts: an event could be cleared for the next round before this one's handler looks.
        read = threading.Semaphore(0)

        class Blocking(Recorder):
            def data_received(self, data):
                self.transport.write(b"answer")
                assert read.acquire(timeout=20), "the answer was not sent before the handler blocked"

        server = await loop.create_server(Blocking, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        def ask():
            with socket.create_connection(address) as sock:
                for _ in range(3):
                    sock.sendall(b"question")
                    assert sock.recv(100) == b"answer"
                    read.release()

        await loop.run_in_executor(None, ask)
        await close_all(server)

    run(main)


def test_echo_of_many_sizes_is_exact(run):
    async def main():
        client, peer, server = await connected_pair(Recorder, Echo)
        sent = b""
        for size in (1, 10, 1000, 4096, 65535, 65536, 65537, 200_000, 1_000_000, 3):
            message = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
            sent += message
            client.transport.write(message)
            assert await client.received(len(sent)) == sent
        await close_all(client, peer, server)

    run(main)
