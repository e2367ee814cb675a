"""TLS in bulk: a gibibyte each way, ten thousand connections, a thousand stalled handshakes, a lot of garbage.

That is with IRONLOOP_SCALE=1; by default the first two are a quarter and a tenth of it. What is measured is the memory
and the descriptors of the process, which has both ends.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import socket
import threading

import pytest

from tests.support.leaks import open_descriptors, resident_bytes
from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import connect, connected_pair, serve
from tests.tls.test_tls_handshake import client_hello, client_is_served, raw_connection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MB = 1 << 20
FULL = os.environ.get("IRONLOOP_SCALE") == "1"
STREAM_BYTES = 1024 * MB if FULL else 256 * MB
#: What malloc's heap may need to find its shape.
GROWTH = STREAM_BYTES // 128
CONNECTIONS = 10_000 if FULL else 1000
#: Does not repeat within a record, and not at powers of two.
PIECE = bytes(bytearray(range(251)) * 1000)
TWICE = PIECE * 2


@pytest.fixture
def run_long(loop):
    """As `run`, without its limit of time."""
    return lambda main: loop.run_until_complete(main())


@pytest.fixture
def many_descriptors():
    """Room for both ends of a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("not enough descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Bulk(Recorder):
    """Sends pieces as fast as they go; what it gets has to be such pieces, of which it keeps nothing."""

    def __init__(self):
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()
        self.count = 0
        self.wanted = None
        self.memory = []

    def pause_writing(self):
        self.free.clear()

    def resume_writing(self):
        self.free.set()

    async def send(self, size):
        for _ in range(size // len(PIECE)):
            self.transport.write(PIECE)
            await self.free.wait()

    def data_received(self, data):
        start = self.count % len(PIECE)
        while data:
            part = data[: len(PIECE)]
            assert part == TWICE[start : start + len(part)]
            start = (start + len(part)) % len(PIECE)
            data = data[len(PIECE) :]
            if self.count // (16 * MB) != (self.count + len(part)) // (16 * MB):
                self.memory.append(resident_bytes())
            self.count += len(part)
        if self.wanted is not None and self.count >= self.wanted[0]:
            self.wanted[1].set_result(None)
            self.wanted = None

    async def has(self, size):
        self.wanted = size, asyncio.get_running_loop().create_future()
        await self.wanted[1]


@pytest.mark.parametrize("way", ["up", "down"])
def test_memory_stays_flat_while_a_gibibyte_comes_through(run_long, tls, way, modern):
    size = STREAM_BYTES // len(PIECE) * len(PIECE)

    async def main():
        client, peer, server = await connected_pair(tls, Bulk, Bulk)
        sender, reader = (client, peer) if way == "up" else (peer, client)
        await asyncio.gather(sender.send(size), reader.has(size))
        assert reader.count == size
        settled = reader.memory[2:]
        assert max(settled) - settled[0] < GROWTH, [sample // 1024 for sample in reader.memory]
        await close_all(client, peer, server)

    run_long(main)


async def visit(tls, server, made, context, count):
    """So many connections, fifty at once, each of which says something and closes in order."""
    for _ in range(count // 50):
        clients = await asyncio.gather(*(connect(tls, server, context=context) for _ in range(50)))
        for client in clients:
            client.transport.write(b"hello")
        for client in clients:
            assert await client.received(5) == b"hello"
            client.transport.close()
        for client in clients:
            assert await client.lost is None
        while not made.empty():
            await asyncio.wait([(await made.get()).lost])


def test_ten_thousand_connections_give_back_what_they_took(run_long, tls):
    async def main():
        server, made = await serve(tls, Echo)
        context = tls.client_context()
        await visit(tls, server, made, context, CONNECTIONS // 2)
        gc.collect()
        descriptors, memory = len(open_descriptors()), resident_bytes()
        await visit(tls, server, made, context, CONNECTIONS // 2)
        gc.collect()
        assert len(open_descriptors()) <= descriptors
        assert resident_bytes() - memory < 4 * MB
        await close_all(server)

    run_long(main)


def test_a_thousand_stalled_handshakes_cost_no_thread_and_delay_nobody(run_long, loop, tls, reports, many_descriptors):
    async def main():
        server, made = await serve(tls, Echo, backlog=1000)
        await client_is_served(tls, server)
        await asyncio.wait([(await made.get()).lost])
        descriptors, threads = len(open_descriptors()), threading.active_count()
        stalled = [await raw_connection(loop, server) for _ in range(1000)]
        hello = client_hello(tls)
        for number, sock in enumerate(stalled):
            await loop.sock_sendall(sock, hello[: number % len(hello)])
        protocols = [await made.get() for _ in stalled]
        for _ in range(10):
            await client_is_served(tls, server)
        assert threading.active_count() <= threads
        for sock in stalled:
            sock.close()
        while len(open_descriptors()) > descriptors:
            await asyncio.sleep(0.001)
        assert all(protocol.events == [] for protocol in protocols)
        assert reports == []
        await close_all(server)

    run_long(main)


def garbage(seed):
    """Bytes that are no ClientHello: noise, with or without the head of a record or a handshake message."""
    source = random.Random(seed)
    noise = source.randbytes(source.randrange(1, 20_000))
    heads = [b"", b"\x16\x03\x01", b"\x16\x03\x01\xff\xff", b"\x16\x03\x03\x02\x00\x01\x00", b"\x80\x2e\x01\x03\x01"]
    return source.choice(heads) + noise


def test_garbage_from_two_hundred_clients_harms_nobody(run_long, loop, tls, reports):
    async def babble(server, number):
        sock = await raw_connection(loop, server)
        try:
            await loop.sock_sendall(sock, garbage(number))
            sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, 1 << 16):
                pass
        except OSError:
            pass  # it was thrown out before it had said everything
        sock.close()

    async def main():
        server, made = await serve(tls, Echo)
        descriptors = len(open_descriptors())
        await asyncio.gather(
            *(babble(server, number) for number in range(200)), *(client_is_served(tls, server) for _ in range(20))
        )
        while len(open_descriptors()) > descriptors:
            await asyncio.sleep(0.001)
        served = [protocol for protocol in (made.get_nowait() for _ in range(made.qsize())) if protocol.events]
        assert len(served) == 20
        assert reports == []
        await close_all(server)

    run_long(main)
