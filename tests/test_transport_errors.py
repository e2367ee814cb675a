"""Connections that break: what the protocol is told, and that a late write harms nobody."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import struct
import sys
import termios

import pytest

from tests.support.protocols import Recorder, close_all, connected_pair


def reset(sock):
    """Close with RST instead of FIN (SO_LINGER, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_reset_is_told_as_such(run, reports):
    async def main():
        client, peer, server = await connected_pair()
        reset(client.transport.get_extra_info("socket"))
        client.transport.abort()
        error = await peer.lost
        assert isinstance(error, ConnectionResetError)
        assert peer.events == ["made", "lost"]
        assert reports == []
        await close_all(server)

    run(main)


@pytest.mark.parametrize("ending", ["reset", "end"])
def test_what_came_before_the_end_of_a_stream_is_received_first(run, loop, ending):
    """A loop that goes on reading behind what it has received meets the end; it is told after the data, as itself."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            peer = socket.create_connection(listener.getsockname())
            sock, _ = listener.accept()
        transport, protocol = await loop.connect_accepted_socket(Recorder, sock)
        # Each size is received in another way.
        sizes = [64 << 10, 200 << 10, 100_000]
        for number, size in enumerate(sizes):
            transport.pause_reading()
            peer.sendall(b"x" * size)
            await all_is_acknowledged(peer)
            if number == 2:
                if ending == "reset":
                    reset(peer)
                peer.close()
            transport.resume_reading()
            while len(protocol.data) < sum(sizes[: number + 1]):
                await asyncio.sleep(0)
        error = await protocol.lost
        assert len(protocol.data) == sum(sizes)
        assert isinstance(error, ConnectionResetError if ending == "reset" else type(None))

    run(main)


async def all_is_acknowledged(sock):
    """Until the other side has received what was sent; a receive buffer of the usual size has room for it."""
    for _ in range(1000):
        left = array.array("i", [0])
        fcntl.ioctl(sock, termios.TIOCOUTQ, left)
        if not left[0]:
            return
        await asyncio.sleep(0.001)


def test_writes_into_a_broken_connection_raise_nothing(run):
    async def main():
        client, peer, server = await connected_pair()
        reset(client.transport.get_extra_info("socket"))
        client.transport.abort()
        await client.lost
        for _ in range(10):
            peer.transport.write(b"x" * 1000)
            await asyncio.sleep(0)
        assert isinstance(await peer.lost, (ConnectionError, type(None)))
        assert peer.events.count("lost") == 1
        await close_all(server)

    run(main)


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_writes_after_the_loss_are_dropped_and_warn_from_the_fifth_on(run, caplog, method, loop_name):
    if loop_name == "asyncio" and method == "writelines" and (3, 12) <= sys.version_info < (3, 13, 8):
        pytest.skip("writelines of these versions queues for ever (CPython 136234)")

    async def main():
        client, peer, server = await connected_pair()
        client.transport.abort()
        await client.lost
        for _ in range(8):
            client.transport.write(b"x") if method == "write" else client.transport.writelines([b"x"])
        assert client.transport.get_write_buffer_size() == 0
        await close_all(peer, server)

    run(main)
    warned = [record for record in caplog.records if record.getMessage() == "socket.send() raised exception."]
    assert 3 <= len(warned) <= 4


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_writes_after_close_are_dropped(run, reports, method, loop_name):
    if loop_name == "asyncio" and method == "writelines" and (3, 12) <= sys.version_info < (3, 13, 8):
        pytest.skip("writelines of these versions queues for ever (CPython 136234)")

    async def main():
        client, peer, server = await connected_pair()
        client.transport.write(b"in time")
        # What has not left at once keeps the transport open, and what is written then leaves behind it, on any loop.
        while client.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        client.transport.close()
        for _ in range(10):
            client.transport.write(b"too late") if method == "write" else client.transport.writelines([b"too", b"late"])
        await peer.lost
        assert peer.data == b"in time"
        await close_all(server)

    run(main)
    assert reports == []


def test_the_loss_is_told_once_whatever_happens(run):
    async def main():
        for order in range(6):
            client, peer, server = await connected_pair()
            if order % 2:
                reset(peer.transport.get_extra_info("socket"))
            peer.transport.abort()
            client.transport.write(b"x" * 100)
            if order % 3 == 0:
                client.transport.close()
            if order % 3 == 1:
                client.transport.abort()
            await client.lost
            for _ in range(3):
                await asyncio.sleep(0.001)
            assert client.events.count("lost") == 1
            await close_all(server)

    run(main)


def test_a_connection_that_is_refused_says_so(run, loop):
    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127.0.0.1', "):
            await loop.create_connection(Recorder, "127.0.0.1", port)

    run(main)
