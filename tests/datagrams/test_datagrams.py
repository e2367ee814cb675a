"""create_datagram_endpoint: datagrams go there and back, in order, and nobody starves."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import sys

import pytest

from tests.support.datagrams import Echo, Endpoint, close, opened, plain, turns


class Flooding(Endpoint):
    """Answers each of its own datagrams with another one, up to a limit."""

    limit = 20_000
    count = 0

    def datagram_received(self, data, addr):
        self.count += 1
        if self.count < self.limit:
            self.transport.sendto(data, addr)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_go_there_and_back(run, host):
    async def main():
        server = await opened(Echo, (host, 0))
        client = await opened(Endpoint, (host, 0))
        client.transport.sendto(b"hello", server.address)
        assert await client.received(1) == [b"hello"]
        assert server.datagrams == [(b"hello", client.address)]
        assert client.datagrams == [(b"hello", server.address)]
        assert len(server.address) == (4 if ":" in host else 2)
        await close(client, server)

    run(main)


def test_events_come_in_order_and_not_synchronously(run):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        assert client.events == ["made"]
        client.transport.sendto(b"hello")
        assert server.events == ["made"]
        await server.received(1)
        server.transport.sendto(b"world", client.address)
        await client.received(1)
        for protocol in (client, server):
            protocol.transport.close()
            assert protocol.events == ["made", "datagram"]
            assert await protocol.lost is None
            assert protocol.events == ["made", "datagram", "lost"]

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"0123456789abcdef",
        bytearray(b"0123456789abcdef"),
        memoryview(b"0123456789abcdef"),
        memoryview(array.array("I", [1, 2, 3, 4])),
    ],
    ids=["bytes", "bytearray", "memoryview", "items of four bytes"],
)
def test_every_kind_of_bytes_arrives(run, data):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        client.transport.sendto(data)
        assert await server.received(1) == [bytes(data)]
        await close(client, server)

    run(main)


@pytest.mark.parametrize("bad", ["text", 5, None, [b"x"], object()])
def test_what_is_no_bytes_is_refused(run, reports, bad):
    async def main():
        server = await opened()
        client = await opened()
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not"):
            client.transport.sendto(bad, server.address)
        client.transport.sendto(b"still works", server.address)
        assert await server.received(1) == [b"still works"]
        await close(client, server)

    run(main)
    assert reports == []


def test_empty_datagrams_are_received(run):
    async def main():
        server = await opened()
        with plain() as sender:
            for data in (b"", b"x", b""):
                sender.sendto(data, server.address)
            assert await server.received(3) == [b"", b"x", b""]
            assert server.datagrams[0] == (b"", sender.getsockname())
        await close(server)

    run(main)


@pytest.mark.parametrize("connected", [True, False])
def test_empty_datagrams_are_sent(run, connected, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 13):
        pytest.skip("before Python 3.13 CPython's sendto() passes over them")

    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address) if connected else await opened()
        for data in (b"", b"x", bytearray()):
            client.transport.sendto(data, server.address)
        assert await server.received(3) == [b"", b"x", b""]
        await close(client, server)

    run(main)


def test_the_largest_datagram_arrives_whole(run):
    async def main():
        server = await opened(Echo)
        client = await opened(remote_addr=server.address)
        data = os.urandom(65507)
        client.transport.sendto(data)
        assert await client.received(1) == [data]
        await close(client, server)

    run(main)


def test_a_unix_datagram_of_more_than_64_kibibytes_arrives_whole(run, path):
    async def main():
        server = await opened(Endpoint, path, family=socket.AF_UNIX)
        client = await opened(Endpoint, None, path, family=socket.AF_UNIX)
        data = os.urandom(150_000)
        client.transport.sendto(data)
        assert await server.received(1) == [data]
        await close(client, server)

    run(main)


def test_a_burst_is_received_in_order(run):
    async def main():
        server = await opened()
        with plain() as sender:
            sent = [b"%d" % number for number in range(150)]
            for data in sent:
                sender.sendto(data, server.address)
            assert await server.received(150) == sent
            assert {addr for _, addr in server.datagrams} == {sender.getsockname()}
        await close(server)

    run(main)


def test_hundreds_of_datagrams_keep_their_order(run):
    async def main():
        server = await opened(Echo)
        client = await opened(remote_addr=server.address)
        sent = [b"%d" % number * (number % 50) or b"-" for number in range(500)]
        for start in range(0, 500, 50):
            for data in sent[start : start + 50]:
                client.transport.sendto(data)
            await client.received(start + 50)
        assert await client.received(500) == sent
        await close(client, server)

    run(main)


def test_what_came_before_the_transport_is_received_after_connection_made(run):
    async def main():
        sock = plain()
        with plain() as sender:
            sender.sendto(b"early", sock.getsockname())
            protocol = await opened(sock=sock)
            assert await protocol.received(1) == [b"early"]
            assert protocol.events == ["made", "datagram"]
        await close(protocol)

    run(main)


def test_hostnames_are_taken_as_the_socket_module_takes_them(run):
    async def main():
        server = await opened()
        client = await opened(family=socket.AF_INET)
        client.transport.sendto(b"by name", ("localhost", server.address[1]))
        client.transport.sendto(b"to any", ("", server.address[1]))
        assert await server.received(2) == [b"by name", b"to any"]
        await close(client, server)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="new in Python 3.11.4")
def test_reading_can_be_paused_and_resumed(run):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        assert server.transport.is_reading()
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.sendto(b"1")
        client.transport.sendto(b"2")
        await turns(10)
        assert server.datagrams == []
        server.transport.resume_reading()
        assert await server.received(2) == [b"1", b"2"]
        await close(client, server)

    run(main)


def test_a_flood_of_datagrams_does_not_keep_a_timer_waiting(run, loop):
    async def main():
        protocol = await opened(Flooding)
        for _ in range(8):
            protocol.transport.sendto(b"x", protocol.address)
        while not protocol.count:
            await asyncio.sleep(0)
        before = protocol.count
        due = loop.create_future()
        loop.call_later(0, due.set_result, None)
        await due
        assert protocol.count - before <= 1000
        assert protocol.count < protocol.limit
        await close(protocol)

    run(main)


def test_a_flood_of_datagrams_gets_its_share_of_each_turn_and_no_more(run):
    async def main():
        protocol = await opened(Flooding)
        other = await opened()
        for _ in range(8):
            protocol.transport.sendto(b"x", protocol.address)
        while not protocol.count:
            await asyncio.sleep(0)
        portions = []
        with plain() as sender:
            for number in range(20):
                before = protocol.count
                sender.sendto(b"%d" % number, other.address)
                await asyncio.sleep(0)
                portions.append(protocol.count - before)
            assert sum(portions) > 0
            assert max(portions) <= 1000
            assert await other.received(20) == [b"%d" % number for number in range(20)]
        assert protocol.count < protocol.limit
        await close(protocol, other)

    run(main)


def test_a_stopped_loop_loses_no_datagrams(run, loop):
    class Stopping(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.loop.stop()

    protocol = run(lambda: opened(Stopping))
    sent = [b"%d" % number for number in range(30)]
    with plain() as sender:
        for data in sent:
            sender.sendto(data, protocol.address)
        while len(protocol.datagrams) < len(sent):
            loop.run_forever()
    assert [data for data, _ in protocol.datagrams] == sent
    run(lambda: close(protocol))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_sock_sendto_waits_for_a_receiver_that_does_not_read(run, loop, path, receiver):
    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(path)
            accepted = 0
            with pytest.raises(BlockingIOError):
                while True:
                    accepted += sender.send(b"x")
            task = asyncio.ensure_future(loop.sock_sendto(sender, b"last", path))
            await turns(3)
            assert not task.done()
            got = [(await loop.sock_recvfrom(receiver, 100))[0] for _ in range(accepted + 1)]
            assert got == [b"x"] * accepted + [b"last"]
            assert await task == 4

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_sock_recvfrom_waits_for_datagrams_also_empty_ones(run, loop):
    async def main():
        with plain() as sender, plain() as taker:
            for data in (b"", b"hello"):
                task = asyncio.ensure_future(loop.sock_recvfrom(taker, 100))
                await turns(2)
                assert not task.done()
                assert await loop.sock_sendto(sender, data, taker.getsockname()) == len(data)
                assert await task == (data, sender.getsockname())
            buffer = bytearray(10)
            task = asyncio.ensure_future(loop.sock_recvfrom_into(taker, buffer, 3))
            await turns(2)
            await loop.sock_sendto(sender, b"abcdef", taker.getsockname())
            assert await task == (3, sender.getsockname())
            assert buffer == b"abc" + bytes(7)

    run(main)
