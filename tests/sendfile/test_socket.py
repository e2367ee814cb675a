"""Files through a plain socket: which sockets and files are refused, and what happens meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import pytest

from tests.support.sendfile import ANY_SOCKETS, DATA, SIZE, in_the_middle, receive, receive_rest


def test_one_file_goes_both_ways_at_once(run, loop, sockets, tmp_path):
    ours, peer = sockets
    (tmp_path / "file").write_bytes(DATA)

    async def main():
        with (tmp_path / "file").open("rb") as one, (tmp_path / "file").open("rb") as other:
            results = await asyncio.gather(
                loop.sock_sendfile(ours, one),
                loop.sock_sendfile(peer, other, 99),
                receive(peer, SIZE),
                receive(ours, SIZE - 99),
            )
        assert results == [SIZE, SIZE - 99, DATA, DATA[99:]]

    run(main)


@ANY_SOCKETS
def test_a_pipe_is_no_regular_file(run, loop, sockets):
    ours, _peer = sockets

    async def main():
        read, write = os.pipe()
        with open(read, "rb", buffering=0) as reading, open(write, "wb", buffering=0) as writing:
            writing.write(b"some data")
            # Newer versions of CPython try to set its position.
            with pytest.raises((asyncio.SendfileNotAvailableError, OSError)):
                await loop.sock_sendfile(ours, reading, count=4, fallback=False)

    run(main)


def test_datagram_and_tls_sockets_are_refused(run, loop, opened):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                await loop.sock_sendfile(datagrams, opened)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with context.wrap_socket(socket.socket(), server_hostname="localhost") as tls:
            tls.setblocking(False)
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await loop.sock_sendfile(tls, opened)

    run(main)


@ANY_SOCKETS
def test_debug_mode_insists_on_sockets_that_do_not_block(run, loop, sockets, file):
    ours, peer = sockets

    async def main():
        loop.set_debug(True)
        loop.slow_callback_duration = 10
        ours.setblocking(True)
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_sendfile(ours, file)
        ours.setblocking(False)
        assert await loop.sock_sendfile(ours, file, 1, 1000) == 1000
        assert await receive(peer, 1000) == DATA[1:1001]

    run(main)


def test_a_cancelled_sendfile_frees_the_socket(run, loop, sockets, file):
    ours, peer = sockets

    async def main():
        task = await in_the_middle(loop.sock_sendfile(ours, file), peer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.remove_writer(ours) is False
        ours.shutdown(socket.SHUT_WR)
        got = await receive_rest(peer)
        assert got == DATA[100_000:][: len(got)]
        assert len(got) < SIZE - 100_000
        peer.send(b"answer")
        assert await receive(ours, 6) == b"answer"

    run(main)


def test_a_peer_that_goes_away_in_the_middle_is_an_error(run, loop, sockets, file):
    ours, peer = sockets

    async def main():
        task = await in_the_middle(loop.sock_sendfile(ours, file), peer)
        peer.close()
        with pytest.raises(ConnectionError):
            await task
        assert 100_000 <= file.tell() < SIZE
        assert loop.remove_writer(ours) is False

    run(main)


def test_a_peer_that_went_away_before_is_an_error(run, loop, sockets, file):
    ours, peer = sockets
    peer.close()

    async def main():
        with pytest.raises(ConnectionError):
            await loop.sock_sendfile(ours, file)

    run(main)


def test_an_unconnected_socket_is_an_error(run, loop, file):
    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sock_sendfile(sock, file, fallback=False)
            with pytest.raises(OSError):
                await loop.sock_sendfile(sock, file)

    run(main)
