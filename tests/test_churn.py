"""Thousands of connections, cancelled, aborted and closed at any moment: every byte reaches its own protocol."""

from __future__ import annotations

import asyncio
import collections
import random
import socket

import pytest

from tests.support.meddling import descriptors_of_another_thread

CONNECTIONS = 10_000
AT_ONCE = 50
SIZE = 16


class Owned(asyncio.Protocol):
    """Insists that all it receives is its identity, again and again; what is not goes to `foreign`."""

    def __init__(self, churn, identity=None):
        self.churn = churn
        self.identity = identity
        self.count = 0
        self.transport = None
        churn.alive.add(self)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        start = self.count % SIZE
        self.count += len(data)
        expected = (self.identity * (len(data) // SIZE + 2))[start : start + len(data)]
        if data != expected:
            self.churn.foreign.append((self.identity, data))

    def connection_lost(self, exc):
        self.churn.alive.discard(self)


class Server(Owned):
    """Echoes. The first bytes are the identity, which has to be one that was given out, and once only."""

    def __init__(self, churn):
        super().__init__(churn)
        self.first = b""

    def data_received(self, data):
        if self.identity is None:
            self.first += data
            if len(self.first) < SIZE:
                return
            data = self.first
            self.identity = data[:SIZE]
            if self.identity not in self.churn.given_out:
                self.churn.foreign.append(("nobody's or twice", self.identity))
            self.churn.given_out.discard(self.identity)
        super().data_received(data)
        self.transport.write(data)


class Client(Owned):
    def __init__(self, churn, identity, size):
        super().__init__(churn, identity)
        self.size = size
        self.complete = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        super().data_received(data)
        if self.count >= self.size and not self.complete.done():
            self.complete.set_result(None)


class Churn:
    """The clients, what they have done, and what went wrong. The same seed gives the same clients."""

    def __init__(self, loop, address, seed):
        self.loop = loop
        self.address = address
        self.random = random.Random(seed)
        self.alive = set()
        self.given_out = set()
        self.foreign = []
        self.ends = collections.Counter()

    async def client(self, identity, repeats, own_socket, end):
        protocol = Client(self, identity, repeats * SIZE)
        try:
            transport = await self.connect(protocol, own_socket)
        except asyncio.CancelledError:
            if protocol.transport is None:
                self.alive.discard(protocol)
            raise
        try:
            self.given_out.add(identity)
            transport.write(identity * repeats)
            await protocol.complete
        finally:
            getattr(transport, end)()

    async def connect(self, protocol, own_socket):
        if not own_socket:
            transport, _ = await self.loop.create_connection(lambda: protocol, *self.address)
            return transport
        sock = socket.socket()
        try:
            sock.setblocking(False)
            await self.loop.sock_connect(sock, self.address)
            transport, _ = await self.loop.create_connection(lambda: protocol, sock=sock)
        except asyncio.CancelledError:
            sock.close()
            raise
        return transport

    async def one(self):
        chance = self.random
        identity = chance.getrandbits(8 * SIZE).to_bytes(SIZE, "big")
        repeats, own_socket = chance.randrange(1, 40), chance.random() < 0.3
        end, turns = chance.choice(("close", "abort")), chance.choice((None, None, 0, 1, 2, 3, 4, 5, 6, 8))
        task = self.loop.create_task(self.client(identity, repeats, own_socket, end))
        if turns is not None:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            self.ends["cancelled"] += 1
        else:
            assert task.exception() is None
            self.ends["complete"] += 1

    async def some(self, count):
        for _ in range(count):
            await self.one()


@pytest.mark.slow
def test_ten_thousand_connections_under_cancellation_get_no_byte_of_each_other(run, loop, reports):
    async def main():
        churn = Churn(loop, None, seed=1)
        server = await loop.create_server(lambda: Server(churn), "127.0.0.1", 0, backlog=512)
        churn.address = server.sockets[0].getsockname()
        with descriptors_of_another_thread():
            await asyncio.gather(*(churn.some(CONNECTIONS // AT_ONCE) for _ in range(AT_ONCE)))
            server.close()
            while churn.alive:
                await asyncio.sleep(0.001)
        assert churn.foreign == []
        assert sum(churn.ends.values()) == CONNECTIONS
        assert min(churn.ends["complete"], churn.ends["cancelled"]) > CONNECTIONS // 10, churn.ends

    run(main)
    assert reports == []
