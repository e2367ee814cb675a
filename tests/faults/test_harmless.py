"""Interrupted, unready and short system calls, one in three: every byte still arrives, once and in order."""

from __future__ import annotations

import asyncio
import os
import random
import socket

import pytest
from ironloop import _native

from tests.support.certificate import client_context, server_context
from tests.support.protocols import Recorder, close_all

SIZES = [1, 100, 5_000, 70_000, 300_000]


@pytest.fixture(params=range(3))
def noise(request, faults):
    _native.set_faults(f"seed={request.param},rate=0.3")
    return random.Random(request.param)


def messages(noise):
    return [noise.randbytes(noise.choice(SIZES)) for _ in range(20)]


class Reader(Recorder):
    def __init__(self, expected):
        super().__init__()
        self.expected = expected
        self.complete = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        super().data_received(data)
        if len(self.data) >= self.expected and not self.complete.done():
            self.complete.set_result(None)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("way", ["write", "writelines", "drain"])
def test_streams_lose_nothing(run, loop, noise, tls, way):
    sent = messages(noise)
    answered = loop.create_future()

    async def answer(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        answered.set_result(None)

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context() if tls else None)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=client_context() if tls else None)
        waiting = asyncio.ensure_future(reader.readexactly(sum(map(len, sent))))
        if way == "writelines":
            writer.writelines(sent)
        else:
            for piece in sent:
                writer.write(piece)
                if way == "drain":
                    await writer.drain()
        assert await waiting == b"".join(sent)
        writer.close()
        await writer.wait_closed()
        await answered
        await close_all(server)

    run(main)


def test_pipes_lose_nothing(run, loop, noise):
    sent = messages(noise)

    async def main():
        fds = os.pipe()
        total = sum(map(len, sent))
        _, reader = await loop.connect_read_pipe(lambda: Reader(total), os.fdopen(fds[0], "rb", 0))
        writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(fds[1], "wb", 0))
        for piece in sent:
            writer.write(piece)
        await reader.complete
        assert bytes(reader.data) == b"".join(sent)
        writer.close()
        await reader.lost

    run(main)


def test_datagrams_arrive_whole(run, loop, noise):
    class Endpoint(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = asyncio.Queue()

        def datagram_received(self, data, addr):
            self.received.put_nowait(data)

    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Endpoint, ("127.0.0.1", 0))
        own = transport.get_extra_info("sockname")
        for number in range(300):
            sent = [b"%d" % number * 50, b"", bytes(1000)]
            for datagram in sent:
                transport.sendto(datagram, own)
            assert [await protocol.received.get() for _ in sent] == sent
        transport.close()
        await asyncio.sleep(0)

    run(main)


def test_sockets_lose_nothing(run, loop, noise):
    sent = messages(noise)

    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            sending = asyncio.ensure_future(loop.sock_sendall(left, b"".join(sent)))
            received = bytearray()
            while len(received) < sum(map(len, sent)):
                received += await loop.sock_recv(right, 50_000)
            await sending
            assert bytes(received) == b"".join(sent)

    run(main)
