"""The end of a datagram transport: close, abort, and nothing afterwards."""

from __future__ import annotations

import pytest

from tests.support.builds import whole_calls
from tests.support.datagrams import Endpoint, close, deaf, opened, plain, turns


@pytest.mark.parametrize("methods", ["close", "abort", "close close abort", "abort close", "abort abort"])
def test_the_connection_is_lost_once(run, methods):
    async def main():
        protocol = await opened()
        transport = protocol.transport
        assert not transport.is_closing()
        for method in methods.split():
            getattr(transport, method)()
            assert transport.is_closing()
        assert protocol.events == ["made"]
        assert await protocol.lost is None
        await turns(2)
        transport.close()
        transport.abort()
        await turns(2)
        assert protocol.events == ["made", "lost"]
        assert transport.is_closing()

    run(main)


@pytest.mark.parametrize("method", ["close", "abort"])
def test_nothing_is_received_after_the_end(run, method):
    async def main():
        protocol = await opened()
        with plain() as sender:
            for _ in range(10):
                sender.sendto(b"late", protocol.address)
            getattr(protocol.transport, method)()
            sender.sendto(b"later", protocol.address)
            await protocol.lost
            await turns(3)
        assert protocol.events == ["made", "lost"]

    run(main)


@pytest.mark.parametrize("method", ["close", "abort"])
def test_nothing_is_received_after_a_callback_that_ends_it(run, method):
    class Once(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            getattr(self.transport, method)()

    async def main():
        protocol = await opened(Once)
        with plain() as sender:
            for number in range(20):
                sender.sendto(b"%d" % number, protocol.address)
            await protocol.lost
            await turns(3)
        assert protocol.events == ["made", "datagram", "lost"]
        assert protocol.datagrams[0][0] == b"0"

    run(main)


@whole_calls
def test_no_error_is_received_after_the_end(run):
    async def main():
        with deaf() as peer:
            client = await opened(remote_addr=peer.getsockname())
            client.transport.sendto(b"x")
            client.transport.close()
            client.transport.sendto(b"y")
            await client.lost
            await turns(3)
            assert client.events == ["made", "lost"]

    run(main)


def test_a_transport_may_be_closed_as_soon_as_it_is_made(run):
    class Hasty(Endpoint):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def main():
        sock = plain()
        with plain() as sender:
            sender.sendto(b"x", sock.getsockname())
            protocol = await opened(Hasty, sock=sock)
            assert protocol.transport.is_closing()
            await protocol.lost
            await turns(2)
        assert protocol.events == ["made", "lost"]
        assert sock.fileno() == -1

    run(main)


def test_the_last_datagram_leaves_before_the_end(run):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        client.transport.sendto(b"bye")
        client.transport.close()
        await client.lost
        assert await server.received(1) == [b"bye"]
        await close(server)

    run(main)
