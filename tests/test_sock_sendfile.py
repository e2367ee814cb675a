"""sock_sendfile: a file through a plain socket, by sendfile(2) or, for other files, read and sent in pieces."""

from __future__ import annotations

import asyncio
import io
import os
import random
import socket
import ssl

import pytest

# More than the buffers of two sockets hold; no part of it is like another.
DATA = random.Random(42).randbytes(1 << 21)
SIZE = len(DATA)


@pytest.fixture(params=["tcp", "unix"])
def pair(request):
    if request.param == "unix":
        left, right = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            left = socket.create_connection(listener.getsockname())
            right, _ = listener.accept()
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        yield left, right


# What does not depend on the kind of socket.
ANY_PAIR = pytest.mark.parametrize("pair", ["unix"], indirect=True)


@pytest.fixture
def opened(tmp_path):
    """The file for the kernel."""
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        yield file


@pytest.fixture(params=["descriptor", "fallback"])
def file(request):
    return request.getfixturevalue("opened") if request.param == "descriptor" else io.BytesIO(DATA)


async def receive(sock, size):
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < size:
        part = await loop.sock_recv(sock, min(size - len(got), 1 << 18))
        assert part, f"the stream ended after {len(got)} of {size} bytes"
        got += part
    return bytes(got)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (1000, None), (0, 5000), (300, 70_000), (SIZE - 9, 100), (SIZE, None), (SIZE + 5, 7), (0, 1)],
)
def test_a_part_of_a_file_is_sent(run, loop, pair, file, offset, count):
    left, right = pair

    async def main():
        expected = DATA[offset : None if count is None else offset + count]
        receiving = asyncio.create_task(receive(right, len(expected) + 3))
        assert await loop.sock_sendfile(left, file, offset, count) == len(expected)
        if expected:
            assert file.tell() == offset + len(expected)
        await loop.sock_sendall(left, b"end")
        assert await receiving == expected + b"end"
        assert loop.remove_writer(left) is False

    run(main)


def test_the_kernel_starts_at_the_offset_wherever_the_file_stands(run, loop, pair, opened):
    left, right = pair

    async def main():
        opened.seek(77)
        assert await loop.sock_sendfile(left, opened, count=1000) == 1000
        assert opened.tell() == 1000
        assert await receive(right, 1000) == DATA[:1000]

    run(main)


@ANY_PAIR
def test_an_empty_file_is_sent_at_once(run, loop, pair, tmp_path):
    left, _right = pair
    (tmp_path / "empty").touch()

    async def main():
        with (tmp_path / "empty").open("rb") as empty:
            assert await loop.sock_sendfile(left, empty) == 0
            assert await loop.sock_sendfile(left, empty, 5) == 0
        assert await loop.sock_sendfile(left, io.BytesIO()) == 0

    run(main)


def test_files_and_other_data_keep_their_order(run, loop, pair, file):
    left, right = pair

    async def main():
        expected = b""
        for number in range(10):
            await loop.sock_sendall(left, b"%d" % number)
            assert await loop.sock_sendfile(left, file, number * 1000, 900) == 900
            expected += b"%d" % number + DATA[number * 1000 :][:900]
        assert await receive(right, len(expected)) == expected

    run(main)


def test_one_file_goes_both_ways_at_once(run, loop, pair, tmp_path):
    left, right = pair
    (tmp_path / "file").write_bytes(DATA)

    async def main():
        with (tmp_path / "file").open("rb") as one, (tmp_path / "file").open("rb") as other:
            results = await asyncio.gather(
                loop.sock_sendfile(left, one),
                loop.sock_sendfile(right, other, 99),
                receive(right, SIZE),
                receive(left, SIZE - 99),
            )
        assert results == [SIZE, SIZE - 99, DATA, DATA[99:]]

    run(main)


class OnlyReadable:
    def __init__(self):
        self.readinto = io.BytesIO(DATA[:50_000]).readinto


class ReadableWithoutDescriptor(OnlyReadable):
    def fileno(self):
        raise io.UnsupportedOperation("no descriptor")


@pytest.mark.parametrize("make", [OnlyReadable, ReadableWithoutDescriptor])
def test_a_file_that_can_only_be_read_falls_back(run, loop, pair, make):
    left, right = pair

    async def main():
        receiving = asyncio.create_task(receive(right, 50_000))
        assert await loop.sock_sendfile(left, make()) == 50_000
        assert await receiving == DATA[:50_000]

    run(main)


@ANY_PAIR
@pytest.mark.parametrize("make", [OnlyReadable, ReadableWithoutDescriptor, io.BytesIO])
def test_without_fallback_such_a_file_is_refused(run, loop, pair, make):
    left, right = pair

    async def main():
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sock_sendfile(left, make(), fallback=False)
        with pytest.raises(BlockingIOError):
            right.recv(1)

    run(main)


@ANY_PAIR
def test_a_pipe_is_no_regular_file(run, loop, pair):
    left, _right = pair

    async def main():
        read, write = os.pipe()
        with open(read, "rb", buffering=0) as reading, open(write, "wb", buffering=0) as writing:
            writing.write(b"some data")
            # Newer versions of CPython try to set its position.
            with pytest.raises((asyncio.SendfileNotAvailableError, OSError)):
                await loop.sock_sendfile(left, reading, count=4, fallback=False)

    run(main)


@ANY_PAIR
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"count": 0}, ValueError, r"count must be a positive integer \(got 0\)"),
        ({"count": -5}, ValueError, r"count must be a positive integer \(got -5\)"),
        ({"count": "5"}, TypeError, r"count must be a positive integer \(got '5'\)"),
        ({"offset": -1}, ValueError, r"offset must be a non-negative integer \(got -1\)"),
        ({"offset": 1.0}, TypeError, r"offset must be a non-negative integer \(got 1.0\)"),
        ({"offset": None}, TypeError, r"offset must be a non-negative integer \(got None\)"),
    ],
)
def test_bad_arguments_are_refused(run, loop, pair, file, arguments, error, text):
    async def main():
        with pytest.raises(error, match=text):
            await loop.sock_sendfile(pair[0], file, **arguments)
        assert file.tell() == 0

    run(main)


@ANY_PAIR
def test_text_files_and_closed_files_are_refused(run, loop, pair, opened):
    left, _right = pair

    async def main():
        with open(opened.name, encoding="latin-1") as text:
            with pytest.raises(ValueError, match="file should be opened in binary mode"):
                await loop.sock_sendfile(left, text)
        memory = io.BytesIO(DATA)
        memory.close()
        for closed in (text.buffer, memory):
            with pytest.raises(ValueError, match="closed file"):
                await loop.sock_sendfile(left, closed)

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


@ANY_PAIR
def test_debug_mode_insists_on_sockets_that_do_not_block(run, loop, pair, file):
    left, right = pair

    async def main():
        loop.set_debug(True)
        loop.slow_callback_duration = 10
        left.setblocking(True)
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_sendfile(left, file)
        left.setblocking(False)
        assert await loop.sock_sendfile(left, file, 1, 1000) == 1000
        assert await receive(right, 1000) == DATA[1:1001]

    run(main)


async def in_the_middle(left, right, file):
    """A sock_sendfile of which the peer has read 100 KB, and does not read on."""
    task = asyncio.create_task(asyncio.get_running_loop().sock_sendfile(left, file))
    assert await receive(right, 100_000) == DATA[:100_000]
    assert not task.done()
    return task


def test_a_cancelled_sendfile_frees_the_socket(run, loop, pair, file):
    left, right = pair

    async def main():
        task = await in_the_middle(left, right, file)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.remove_writer(left) is False
        left.shutdown(socket.SHUT_WR)
        got = bytearray()
        while part := await loop.sock_recv(right, 1 << 18):
            got += part
        assert got == DATA[100_000:][: len(got)]
        assert len(got) < SIZE - 100_000
        right.send(b"answer")
        assert await receive(left, 6) == b"answer"

    run(main)


def test_a_peer_that_goes_away_in_the_middle_is_an_error(run, loop, pair, file):
    left, right = pair

    async def main():
        task = await in_the_middle(left, right, file)
        right.close()
        with pytest.raises(ConnectionError):
            await task
        assert 100_000 <= file.tell() < SIZE
        assert loop.remove_writer(left) is False

    run(main)


def test_a_peer_that_went_away_before_is_an_error(run, loop, pair, file):
    left, right = pair
    right.close()

    async def main():
        with pytest.raises(ConnectionError):
            await loop.sock_sendfile(left, file)

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
