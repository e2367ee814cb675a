"""sendfile through a transport: what is sent, in which order, what is refused, and what happens meanwhile.

Files with a descriptor leave through sendfile(2), others are read in a thread and written ("fallback").
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import socket
import ssl
import struct
import sys

import pytest

from tests.support.children import until
from tests.support.pipes import turns
from tests.support.protocols import HalfOpen, Recorder, close_all, connected_pair

# More than the buffers of two sockets hold; no part of it is like another.
DATA = random.Random(41).randbytes(1 << 21)
SIZE = len(DATA)
BUFFER = 1 << 17


@pytest.fixture(params=["tcp", "unix"])
def sockets(request):
    """(ours, the peer's)"""
    if request.param == "unix":
        ours, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            peer, _ = listener.accept()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        peer.setblocking(False)
        yield ours, peer


# What does not depend on the kind of socket.
ANY_SOCKETS = pytest.mark.parametrize("sockets", ["unix"], indirect=True)


@pytest.fixture
def opened(tmp_path):
    """The file for the kernel."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as file:
        yield file


@pytest.fixture(params=["descriptor", "fallback"])
def file(request):
    return request.getfixturevalue("opened") if request.param == "descriptor" else io.BytesIO(DATA)


@pytest.fixture
def large_file(loop_name, file):
    """For tests in which more than a block of the file waits in the transport."""
    if loop_name == "asyncio" and sys.version_info >= (3, 12) and isinstance(file, io.BytesIO):
        pytest.skip(
            "CPython's fallback overwrites blocks that its transport, which copies none since 3.12, has to send"
        )
    return file


@contextlib.asynccontextmanager
async def connected(sock, factory=Recorder):
    """(transport, protocol) for a connected socket."""
    transport, protocol = await asyncio.get_running_loop().create_connection(factory, sock=sock)
    try:
        yield transport, protocol
    finally:
        transport.abort()
        await asyncio.wait([protocol.lost])


async def receive(sock, size):
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < size:
        part = await loop.sock_recv(sock, min(size - len(got), 1 << 18))
        assert part, f"the stream ended after {len(got)} of {size} bytes"
        got += part
    return bytes(got)


def reset(sock):
    """Close a socket so that the other end gets an error; what it had not read is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (1000, None), (0, 5000), (300, 70_000), (SIZE - 9, 100), (SIZE, None), (SIZE + 5, 7), (0, 1)],
)
def test_a_part_of_a_file_is_sent(run, loop, sockets, large_file, offset, count):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            expected = DATA[offset : None if count is None else offset + count]
            receiving = asyncio.create_task(receive(peer, len(expected) + 3))
            assert await loop.sendfile(transport, large_file, offset, count) == len(expected)
            if expected:
                assert large_file.tell() == offset + len(expected)
            transport.write(b"end")
            assert await receiving == expected + b"end"

    run(main)


def test_the_kernel_starts_at_the_offset_wherever_the_file_stands(run, loop, sockets, opened):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            opened.seek(77)
            assert await loop.sendfile(transport, opened, count=1000) == 1000
            assert opened.tell() == 1000
            assert await receive(peer, 1000) == DATA[:1000]

    run(main)


@ANY_SOCKETS
def test_an_empty_file_is_sent_at_once(run, loop, sockets, tmp_path):
    ours, peer = sockets
    (tmp_path / "empty").touch()

    async def main():
        async with connected(ours) as (transport, _):
            with (tmp_path / "empty").open("rb") as empty:
                assert await loop.sendfile(transport, empty) == 0
            assert await loop.sendfile(transport, io.BytesIO()) == 0
            transport.write(b"end")
            assert await receive(peer, 3) == b"end"

    run(main)


def test_twenty_megabytes_reach_a_slow_reader(run, loop, sockets, tmp_path):
    ours, peer = sockets
    data = DATA * 10
    path = tmp_path / "large"
    path.write_bytes(data)

    async def main():
        async with connected(ours) as (transport, _):
            with path.open("rb") as large:
                task = asyncio.create_task(loop.sendfile(transport, large))
                got = bytearray()
                while len(got) < len(data):
                    got += await loop.sock_recv(peer, 1 << 16)
                    await asyncio.sleep(0)
                assert await task == len(data) == large.tell()
                assert got == data

    run(main)


def test_files_and_writes_keep_their_order(run, loop, sockets, file):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            expected = b""
            for number in range(10):
                # Two writes in one step: a loop may hold the second one back.
                transport.write(b"first%d" % number)
                transport.write(b"second%d" % number)
                assert await loop.sendfile(transport, file, number * 1000, 900) == 900
                expected += b"first%dsecond%d" % (number, number) + DATA[number * 1000 :][:900]
            assert await receive(peer, len(expected)) == expected

    run(main)


def test_a_file_comes_behind_megabytes_that_are_queued(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            head = bytes(3 * SIZE)
            transport.write(head)
            task = asyncio.create_task(loop.sendfile(transport, large_file))
            await turns()
            assert not task.done()
            size, got = await asyncio.gather(task, receive(peer, len(head) + SIZE))
            assert size == SIZE
            assert got == head + DATA
            transport.write(b"tail")
            assert await receive(peer, 4) == b"tail"

    run(main)


@pytest.mark.parametrize("queued", [0, 3 * SIZE])
def test_nothing_else_is_sent_while_the_kernel_sends_a_file(run, loop, sockets, opened, queued):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            transport.write(bytes(queued))
            task = asyncio.create_task(loop.sendfile(transport, opened))
            await asyncio.sleep(0)
            for call in (transport.write, lambda data: transport.writelines([data])):
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    call(b"not now")
            # CPython's dictionary of transports raises the KeyError.
            with pytest.raises((RuntimeError, KeyError)):
                await loop.sendfile(transport, opened)
            assert await asyncio.gather(task, receive(peer, queued + SIZE)) == [SIZE, bytes(queued) + DATA]
            transport.write(b"now")
            assert await receive(peer, 3) == b"now"

    run(main)


@pytest.mark.parametrize("half", ["client", "server"])
def test_both_ends_of_a_server_s_connection_send_files(run, loop, large_file, half):
    async def main():
        client, peer, server = await connected_pair()
        sender, receiver = (client, peer) if half == "client" else (peer, client)
        assert await loop.sendfile(sender.transport, large_file) == SIZE
        assert await receiver.received(SIZE) == DATA
        await close_all(client, peer, server)

    run(main)


class OnlyReadable:
    def __init__(self):
        self.readinto = io.BytesIO(DATA[:10_000]).readinto


def test_a_file_that_can_only_be_read_falls_back(run, loop, sockets):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            receiving = asyncio.create_task(receive(peer, 10_000))
            assert await loop.sendfile(transport, OnlyReadable()) == 10_000
            assert await receiving == DATA[:10_000]

    run(main)


@ANY_SOCKETS
@pytest.mark.parametrize("unsupported", [io.BytesIO(DATA), OnlyReadable()], ids=["BytesIO", "OnlyReadable"])
def test_without_fallback_such_a_file_is_refused(run, loop, sockets, unsupported):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                await loop.sendfile(transport, unsupported, fallback=False)
            await usable(transport, protocol, peer)

    run(main)


async def usable(transport, protocol, peer):
    """The transport writes to its own protocol's peer, and reads."""
    assert transport.get_protocol() is protocol
    assert transport.is_reading()
    transport.write(b"to the peer")
    assert await receive(peer, 11) == b"to the peer"
    peer.send(b"from the peer")
    assert await protocol.received(13) == b"from the peer"


@ANY_SOCKETS
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
def test_bad_arguments_are_refused_and_change_nothing(run, loop, sockets, file, arguments, error, text):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            with pytest.raises(error, match=text):
                await loop.sendfile(transport, file, **arguments)
            await usable(transport, protocol, peer)
            assert file.tell() == 0

    run(main)


@ANY_SOCKETS
def test_text_files_and_closed_files_are_refused(run, loop, sockets, opened):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            with open(opened.name, encoding="latin-1") as text:
                with pytest.raises(ValueError, match="file should be opened in binary mode"):
                    await loop.sendfile(transport, text)
            with pytest.raises(ValueError, match="closed file"):
                await loop.sendfile(transport, text.buffer)
            await usable(transport, protocol, peer)

    run(main)


@ANY_SOCKETS
@pytest.mark.parametrize("lost", [False, True])
def test_a_closing_transport_sends_no_file(run, loop, sockets, file, lost):
    ours, _peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            transport.close()
            if lost:
                await protocol.lost
            with pytest.raises(RuntimeError, match="Transport is closing"):
                await loop.sendfile(transport, file)

    run(main)


def test_a_half_closed_transport_sends_no_file(run, loop, sockets, opened):
    ours, peer = sockets

    async def main():
        async with connected(ours, HalfOpen) as (transport, protocol):
            transport.write_eof()
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(transport, opened, fallback=False)
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                await loop.sendfile(transport, opened)
            assert transport.get_protocol() is protocol
            peer.send(b"answer")
            assert await protocol.received(6) == b"answer"

    run(main)


def test_datagrams_and_pipes_send_no_files(run, loop, opened):
    async def main():
        datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        read, write = os.pipe()
        with open(read, "rb", buffering=0) as reading, open(write, "wb", buffering=0) as writing:
            reader, _ = await loop.connect_read_pipe(Recorder, reading)
            writer, _ = await loop.connect_write_pipe(Recorder, writing)
            for transport in (datagrams, reader, writer):
                with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
                    await loop.sendfile(transport, opened)
                transport.close()
            await turns()

    run(main)


def test_tls_reads_and_writes_files_itself(run, loop, sockets, opened):
    ours, peer = sockets

    async def main():
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
            context = ssl.SSLContext(protocol)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")  # without certificates
            contexts.append(context)
        (client, protocol), (_, receiver) = await asyncio.gather(
            loop.create_connection(Recorder, sock=ours, ssl=contexts[0], server_hostname=""),
            loop.connect_accepted_socket(Recorder, peer, ssl=contexts[1]),
        )
        with pytest.raises(RuntimeError, match="fallback is disabled and native sendfile is not supported"):
            await loop.sendfile(client, opened, fallback=False)
        assert await loop.sendfile(client, opened, 7, 200_000) == 200_000
        assert opened.tell() == 200_007
        assert await receiver.received(200_000) == DATA[7:200_007]
        await close_all(protocol, receiver)

    run(main)


async def in_the_middle(transport, file, peer):
    """A sendfile of which the peer has read 100 KB, and does not read on."""
    task = asyncio.create_task(asyncio.get_running_loop().sendfile(transport, file))
    receiving = asyncio.create_task(receive(peer, 100_000))
    await asyncio.wait([task, receiving], return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), task.result()
    assert receiving.result() == DATA[:100_000]
    return task


@pytest.mark.parametrize("reading", [True, False])
def test_what_the_peer_sends_meanwhile_is_read_afterwards(run, loop, sockets, large_file, reading):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            if not reading:
                transport.pause_reading()
            task = await in_the_middle(transport, large_file, peer)
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
        async with connected(ours, HalfOpen) as (transport, protocol):
            task = await in_the_middle(transport, large_file, peer)
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


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_peer_that_leaves_in_the_middle_is_an_error(run, loop, sockets, file, leave):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            task = await in_the_middle(transport, file, peer)
            leave(peer)
            with pytest.raises(ConnectionError):
                await task
            assert 100_000 < file.tell() < SIZE
            await protocol.lost
            assert protocol.events[-1] == "lost"
            assert "data" not in protocol.events

    run(main)


def test_a_peer_that_leaves_while_the_file_waits_is_an_error(run, loop, sockets, file):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            transport.write(bytes(SIZE))
            task = asyncio.create_task(loop.sendfile(transport, file))
            await turns()
            reset(peer)
            with pytest.raises(ConnectionError):
                await task
            assert isinstance(await protocol.lost, ConnectionError)

    run(main)


def test_a_transport_that_is_aborted_while_the_file_waits_is_an_error(run, loop, sockets, file):
    ours, _peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            transport.write(bytes(SIZE))
            task = asyncio.create_task(loop.sendfile(transport, file))
            await turns()
            transport.abort()
            with pytest.raises(ConnectionError):
                await task
            assert await protocol.lost is None

    run(main)


def test_a_paused_protocol_is_resumed_once_after_the_fallback(run, loop, sockets):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            transport.write(bytes(SIZE))
            task = asyncio.create_task(loop.sendfile(transport, io.BytesIO(DATA)))
            await turns()
            assert protocol.events == ["made", "pause"]
            await asyncio.gather(task, receive(peer, 2 * SIZE))
            assert protocol.events == ["made", "pause", "resume"]

    run(main)


def test_the_fallback_does_not_pause_a_protocol(run, loop, sockets):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, protocol):
            task = await in_the_middle(transport, io.BytesIO(DATA), peer)
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
        async with connected(ours) as (transport, protocol):
            task = await in_the_middle(transport, large_file, peer)
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
            got = b"".join([part async for part in parts(peer)])
            assert got.endswith(b"tail")
            assert 0 < len(got) - 4 < SIZE - 100_000
            assert got[:-4] == DATA[100_000:][: len(got) - 4]

    run(main)


async def parts(sock):
    """What comes until the end of the stream."""
    while part := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
        yield part


def test_a_sendfile_that_is_cancelled_while_it_waits_sends_nothing(run, loop, sockets, file, reports):
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            transport.write(bytes(SIZE))
            task = asyncio.create_task(loop.sendfile(transport, file))
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
        async with connected(ours, Buffered) as (transport, protocol):
            task = await in_the_middle(transport, large_file, peer)
            peer.send(b"meanwhile")
            assert await receive(peer, SIZE - 100_000) == DATA[100_000:]
            await task
            assert await protocol.data.get() == b"meanwhile"

    run(main)


def test_a_stream_writer_goes_on_behind_a_file(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(b"head")
        task = asyncio.create_task(loop.sendfile(writer.transport, large_file))
        assert await asyncio.gather(task, receive(peer, SIZE + 4)) == [SIZE, b"head" + DATA]
        writer.write(bytes(SIZE))
        draining = asyncio.create_task(writer.drain())
        assert await receive(peer, SIZE) == bytes(SIZE)
        await draining
        peer.send(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        await writer.wait_closed()

    run(main)


@ANY_SOCKETS
def test_debug_mode_sends_files(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        loop.set_debug(True)
        loop.slow_callback_duration = 10
        async with connected(ours) as (transport, protocol):
            task = await in_the_middle(transport, large_file, peer)
            assert await receive(peer, SIZE - 100_000) == DATA[100_000:]
            assert await task == SIZE
            await usable(transport, protocol, peer)

    run(main)


def test_a_transport_that_is_aborted_ends_the_sending_of_a_file(run, loop, loop_name, sockets, opened):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop waits for ever")
    ours, peer = sockets

    async def main():
        async with connected(ours) as (transport, _):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            task = asyncio.create_task(loop.sendfile(transport, opened))
            while not await loop.sock_recv(peer, 1):
                pass
            await asyncio.sleep(0)
            assert not task.done()
            transport.abort()
            with pytest.raises(ConnectionError):
                await task

    run(main)
