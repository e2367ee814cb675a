"""BufferedProtocol: data is received straight into the protocol's buffer."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.protocols import Recorder, close_all


@pytest.mark.parametrize("size", [1, 100, 1000, 65536, 1 << 20])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_everything_arrives_through_a_buffer_of_any_size(run, loop, size, kind):
    total = 1_000_000 if size > 1 else 3000

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.memory = bytearray(size)
            self.data = bytearray()
            self.lost = loop.create_future()

        def get_buffer(self, hint):
            assert hint == -1
            return self.memory if kind is bytearray else memoryview(self.memory)

        def buffer_updated(self, count):
            self.data += self.memory[:count]

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        peers = []

        def factory():
            peers.append(Buffered())
            return peers[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        data = bytes(bytearray(range(251)) * (total // 251 + 1))[:total]
        transport.write(data)
        transport.close()
        await protocol.lost
        assert await peers[0].lost is None
        assert bytes(peers[0].data) == data
        await close_all(server)

    run(main)


def test_a_streaming_protocol_may_become_a_buffered_one(run, loop):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.memory = bytearray(100)
            self.got = loop.create_future()

        def get_buffer(self, hint):
            return self.memory

        def buffer_updated(self, count):
            self.got.set_result(bytes(self.memory[:count]))

    async def main():
        peers = []

        def factory():
            peers.append(Recorder())
            return peers[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"first")
        while not peers:
            await asyncio.sleep(0)
        await peers[0].received(5)
        buffered = Buffered()
        peers[0].transport.set_protocol(buffered)
        transport.write(b"!")  # comes in one
        assert await buffered.got == b"!"
        peers[0].transport.close()
        await close_all(protocol, server)

    run(main)
