"""What a protocol was given is its own: as long as it keeps it, in whatever way, it does not change."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.builds import FREE_THREADED
from tests.support.certificate import client_context, server_context

SIZES = (100, 600, 1024, 1024, 2000)
ROUNDS = 40


def message(number: int, size: int) -> bytes:
    return bytes([number % 251, *[number * 7 % 253] * (size - 1)])


KEEPERS = {
    "the object": lambda data: (data, lambda kept: kept),
    "a view": lambda data: (memoryview(data), bytes),
    "a part of a view": lambda data: (memoryview(data)[1:], bytes),
    "a key": lambda data: ({data: None}, lambda kept: next(iter(kept))),
    "a closure": lambda data: (lambda: data, lambda kept: kept()),
    "an exception": lambda data: (ValueError(data), lambda kept: kept.args[0]),
}


def check(kept, number, size):
    how, thing, back = kept
    expected = message(number, size)
    assert back(thing) == (expected[1:] if how == "a part of a view" else expected), how


class Keeper(asyncio.Protocol, asyncio.DatagramProtocol):
    """Keeps each other message, in one of the ways, and looks at the others only; some are hashed first."""

    def __init__(self, done):
        self.kept, self.seen, self.done = [], 0, done
        self.ways = list(KEEPERS.items())
        self.lost = done.get_loop().create_future()

    def connection_lost(self, _exc):
        self.lost.set_result(None)

    def datagram_received(self, data, _sender):
        self.data_received(data)

    def data_received(self, data):
        number, self.seen = self.seen, self.seen + 1
        size = SIZES[number % len(SIZES)]
        if number % 3 == 0:
            hash(data)
        assert data == message(number, size)
        if number % 2:
            how, keep = self.ways[number // 2 % len(self.ways)]
            self.kept.append((number, size, (how, *keep(data))))
        if not self.done.done():
            self.done.set_result(None)


async def deliver(loop, keeper, send):
    """One message after the other, so that each is received apart."""
    for number in range(ROUNDS):
        keeper.done = loop.create_future()
        send(message(number, SIZES[number % len(SIZES)]))
        await asyncio.wait_for(keeper.done, 30)
    assert keeper.seen == ROUNDS
    for number, size, kept in keeper.kept:
        check(kept, number, size)


class PieceKeeper(asyncio.Protocol):
    """Keeps each third piece of a stream as it is, each third in one of the ways, and of the others what is in them."""

    def __init__(self, done):
        self.pieces, self.done = [], done

    def data_received(self, data):
        number = len(self.pieces)
        if number % 3 == 0:
            data = bytes(bytearray(data))
        ways = list(KEEPERS)
        how = ways[number // 3 % len(ways)] if number % 3 == 1 else "the object"
        missing = data[:1] if how == "a part of a view" else b""
        self.pieces.append((missing, *KEEPERS[how](data)))

    def connection_lost(self, exc):
        self.done.set_result(exc)


def test_of_a_long_stream(run, loop):
    """Received in blocks, which are used again when nobody has kept them."""
    stream = b"".join(number.to_bytes(4, "little") for number in range(6_000_000))

    async def main():
        keeper = PieceKeeper(loop.create_future())
        left, right = connected()
        right.setblocking(False)
        await loop.create_connection(lambda: keeper, sock=left)
        with right:
            await loop.sock_sendall(right, stream)
        assert await keeper.done is None
        received = b"".join(missing + bytes(back(kept)) for missing, kept, back in keeper.pieces)
        assert received == stream

    run(main)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def test_of_a_stream(run, loop, family):
    async def main():
        keeper = Keeper(loop.create_future())
        left, right = socket.socketpair() if family == socket.AF_UNIX else connected()
        transport, _ = await loop.create_connection(lambda: keeper, sock=left)
        with right:
            await deliver(loop, keeper, right.sendall)
        transport.close()

    run(main)


def connected():
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        return left, server.accept()[0]


def test_of_datagrams(run, loop):
    async def main():
        keeper = Keeper(loop.create_future())
        transport, _ = await loop.create_datagram_endpoint(lambda: keeper, local_addr=("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.connect(transport.get_extra_info("sockname"))
            await deliver(loop, keeper, sender.send)
        transport.close()

    run(main)


class Client(asyncio.Protocol):
    def __init__(self, lost):
        self.lost = lost

    def connection_lost(self, _exc):
        self.lost.set_result(None)


def test_of_a_tls_connection(run, loop):
    async def main():
        keeper, lost = Keeper(loop.create_future()), loop.create_future()
        server = await loop.create_server(lambda: keeper, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(
            lambda: Client(lost), *address, ssl=client_context(), server_hostname="localhost"
        )
        await deliver(loop, keeper, transport.write)
        transport.close()
        await asyncio.wait_for(asyncio.gather(lost, keeper.lost), 30)
        server.close()
        await server.wait_closed()

    run(main)


def received_one_by_one(run, loop, receive, messages):
    """`receive` is called with each of the messages, which are sent one after the other."""

    class Receiver(asyncio.Protocol):
        def data_received(self, data):
            receive(data)
            received.set_result(None)

    async def main():
        nonlocal received
        left, right = socket.socketpair()
        transport, _ = await loop.create_connection(Receiver, sock=left)
        with right:
            for one in messages:
                received = loop.create_future()
                right.send(one)
                await received
        transport.close()

    received = None
    run(main)


@pytest.mark.skipif(FREE_THREADED, reason="nothing is kept where another thread may be looking")
def test_what_nobody_keeps_is_used_again(run, loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("about our own memory")
    places: list[int] = []
    received_one_by_one(run, loop, lambda data: places.append(id(data)), [b"x" * 1024] * 5)
    assert len(places) == 5
    assert len(set(places)) == 1


def test_a_hash_is_that_of_the_data(run, loop):
    hashes: list[tuple[int, int]] = []

    def look(data):
        hashes.append((hash(data), hash(bytes(bytearray(data)))))

    received_one_by_one(run, loop, look, [message(number, 1024) for number in range(5)])
    assert len({data for data, _ in hashes}) == 5
    assert all(data == copy for data, copy in hashes)
