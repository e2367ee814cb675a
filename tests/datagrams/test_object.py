"""A datagram transport as an object: what it says of itself, and how it is collected."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import warnings
import weakref

from tests.support.builds import whole_calls
from tests.support.datagrams import LOCAL, Endpoint, close, deaf, opened, plain, turns


def test_extra_info_names_the_socket_and_its_addresses(run):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        transport = client.transport
        sock = transport.get_extra_info("socket")
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_DGRAM)
        sockname, peername = sock.getsockname(), sock.getpeername()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
        assert transport.get_extra_info("no such", "default") == "default"
        assert transport.get_extra_info("no such") is None
        assert server.transport.get_extra_info("peername") is None
        await close(client, server)
        await turns(1)
        assert transport.get_extra_info("sockname") == sockname
        assert transport.get_extra_info("peername") == peername == server.address
        assert sock.fileno() == -1

    run(main)


def test_the_protocol_can_be_exchanged(run):
    async def main():
        first = await opened()
        second = Endpoint()
        transport = first.transport

        def exchange(data, addr):
            Endpoint.datagram_received(first, data, addr)
            transport.set_protocol(second)

        first.datagram_received = exchange
        assert transport.get_protocol() is first
        with plain() as sender:
            for number in range(10):
                sender.sendto(b"%d" % number, first.address)
            assert await second.received(9) == [b"%d" % number for number in range(1, 10)]
        assert transport.get_protocol() is second
        transport.close()
        await second.lost
        assert first.events == ["made", "datagram"]
        assert second.events == ["datagram"] * 9 + ["lost"]

    run(main)


def test_a_transport_is_one_of_asyncios_and_takes_attributes(run):
    async def main():
        protocol = await opened()
        transport = protocol.transport
        # CPython's own is a DatagramTransport from Python 3.12 on.
        kind = asyncio.DatagramTransport if sys.version_info >= (3, 12) else asyncio.BaseTransport
        assert isinstance(transport, kind)
        assert weakref.ref(transport)() is transport
        transport.note = 5
        assert transport.note == 5
        sent = []
        transport.sendto = sent.append
        transport.sendto(b"to the list")
        assert sent == [b"to the list"]
        fd = transport.get_extra_info("socket").fileno()
        assert f"fd={fd}" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        await protocol.lost
        await turns(1)
        assert "closed" in repr(transport)

    run(main)


def test_a_closed_transport_is_forgotten(run):
    async def main():
        protocol = await opened()
        transport = weakref.ref(protocol.transport)
        await close(protocol)
        forgotten = weakref.ref(protocol)
        del protocol
        await turns(2)
        gc.collect()
        assert transport() is None
        assert forgotten() is None

    run(main)


def test_an_unclosed_transport_warns_and_is_closed(loop_factory):
    loop = loop_factory()
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, LOCAL))
    sock = transport.get_extra_info("socket")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        del transport
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert str(caught[0].message).startswith("unclosed transport <")
    assert sock.fileno() == -1


@whole_calls
def test_callbacks_run_in_the_context_of_their_creator(run):
    variable = contextvars.ContextVar("variable", default="none")

    class Noting(Endpoint):
        def _note(self, event):
            super()._note((event, variable.get()))

    async def main():
        with deaf() as peer:
            variable.set("creator")
            client = await opened(Noting, None, peer.getsockname())
            variable.set("sender")
            client.transport.sendto(bytes(70_000))
            client.transport.sendto(b"refused")
            await client.seen(("error", "creator"))
            peer.connect(client.address)
            peer.send(b"hello")
            await client.seen(("datagram", "creator"))
            variable.set("closer")
            client.transport.close()
            variable.set("later")
            await client.lost
            assert client.events == [
                ("made", "creator"),
                ("error", "sender"),
                ("error", "creator"),
                ("datagram", "creator"),
                ("lost", "closer"),
            ]

    run(main)


def test_it_is_a_transport_of_both_kinds(run, loop_name):
    async def main():
        endpoint = await opened()
        assert isinstance(endpoint.transport, asyncio.Transport)
        # asyncio's own is one since Python 3.13.
        if loop_name == "ironloop" or sys.version_info >= (3, 13):
            assert isinstance(endpoint.transport, asyncio.DatagramTransport)
        await close(endpoint)

    run(main)
