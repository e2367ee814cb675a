"""create_datagram_endpoint: its parameters and what it refuses."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pathlib
import socket
import sys

import pytest

from tests.support.datagrams import LOCAL, Boom, Echo, Endpoint, close, drained, emptied, opened, plain, turns

# lo's broadcast address, which every machine has.
BROADCAST = "127.255.255.255"


NOT_A_PAIR = AssertionError if sys.version_info < (3, 11) else TypeError


def test_the_local_address_can_be_chosen(run):
    async def main():
        protocol = await opened(Endpoint, ("127.0.0.2", 0))
        host, port = protocol.address
        assert host == "127.0.0.2"
        assert port > 0
        assert protocol.transport.get_extra_info("peername") is None
        await close(protocol)

    run(main)


def test_local_and_remote_address_can_both_be_given(run):
    async def main():
        server = await opened()
        client = await opened(Endpoint, ("127.0.0.3", 0), server.address)
        client.transport.sendto(b"hello")
        await server.received(1)
        assert server.datagrams[0][1] == client.address
        assert client.address[0] == "127.0.0.3"
        await close(client, server)

    run(main)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_family_is_enough(run, family, path):
    async def main():
        host = {socket.AF_INET: LOCAL, socket.AF_INET6: ("::1", 0), socket.AF_UNIX: path}[family]
        server = await opened(Endpoint, host, family=family)
        client = await opened(family=family)
        assert client.transport.get_extra_info("socket").family == family
        client.transport.sendto(b"hello", server.address)
        assert await server.received(1) == [b"hello"]
        await close(client, server)

    run(main)


def test_the_family_chooses_among_the_addresses_of_a_name(run):
    async def main():
        protocol = await opened(Endpoint, ("localhost", 0), family=socket.AF_INET, flags=socket.AI_PASSIVE)
        assert protocol.transport.get_extra_info("socket").family == socket.AF_INET
        assert protocol.address[0] == "127.0.0.1"
        await close(protocol)

    run(main)


def test_the_protocol_number_reaches_the_socket(run):
    async def main():
        protocol = await opened(Endpoint, LOCAL, proto=socket.IPPROTO_UDP)
        sock = protocol.transport.get_extra_info("socket")
        assert (sock.type, sock.proto) == (socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        await close(protocol)

    run(main)


def test_the_arguments_reach_the_resolver(run, loop):
    async def main():
        asked = []

        async def resolve(host, port, **keywords):
            asked.append((host, port, keywords))
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", LOCAL)]

        loop.getaddrinfo = resolve
        protocol = await opened(Endpoint, ("some.host", 1234), family=socket.AF_INET, proto=17, flags=64)
        expected = {"family": socket.AF_INET, "type": socket.SOCK_DGRAM, "proto": 17, "flags": 64}
        assert asked == [("some.host", 1234, expected)]
        await close(protocol)

    run(main)


def test_addresses_are_tried_until_one_can_be_bound(run, loop):
    async def main():
        async def two(*_arguments, **_keywords):
            return [
                (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("203.0.113.1", 0)),
                (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
            ]

        loop.getaddrinfo = two
        protocol = await opened(Endpoint, ("some.host", 0))
        assert protocol.address[0] == "::1"
        await close(protocol)

    run(main)


def test_a_name_without_addresses_says_so(run, loop):
    async def main():
        async def none(*_arguments, **_keywords):
            return []

        loop.getaddrinfo = none
        with pytest.raises(OSError, match=r"getaddrinfo\(\) returned empty list"):
            await opened(Endpoint, ("some.host", 0))

    run(main)


def test_a_port_can_be_shared(run):
    async def main():
        first = await opened(Endpoint, LOCAL, reuse_port=True)
        second = await opened(Endpoint, first.address, reuse_port=True)
        assert second.address == first.address
        with pytest.raises(OSError) as raised:
            await opened(Endpoint, first.address)
        assert raised.value.errno == errno.EADDRINUSE
        await close(first, second)

    run(main)


@pytest.mark.parametrize("remote", [True, False])
def test_broadcasts_can_be_allowed(run, remote):
    async def main():
        with plain(("", 0)) as listener:
            target = (BROADCAST, listener.getsockname()[1])
            client = await opened(Endpoint, LOCAL, target if remote else None, allow_broadcast=True)
            assert client.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            client.transport.sendto(b"1", target)
            sent = [b"1"]
            if remote:
                # The socket is not connected, the transport alone remembers the address.
                assert client.transport.get_extra_info("peername") is None
                client.transport.sendto(b"2")
                sent.append(b"2")
                with pytest.raises(ValueError, match="Invalid address: must be None or"):
                    client.transport.sendto(b"3", ("127.0.0.1", target[1]))
            assert await drained(listener, len(sent)) == sent
            await close(client)

    run(main)


def test_a_broadcast_that_was_not_allowed_is_an_error(run):
    async def main():
        client = await opened()
        client.transport.sendto(b"x", (BROADCAST, 9))
        await emptied(client.transport)
        assert [type(error) for error in client.errors] == [PermissionError]
        assert not client.transport.is_closing()
        await close(client)

    run(main)


@pytest.mark.parametrize(
    ("arguments", "exception", "text"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": LOCAL, "remote_addr": ("::1", 9)}, ValueError, "can not get address information"),
        ({"local_addr": "127.0.0.1"}, NOT_A_PAIR, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1",)}, NOT_A_PAIR, "2-tuple is expected"),
        ({"remote_addr": ["127.0.0.1", 9]}, NOT_A_PAIR, "2-tuple is expected"),
        ({"remote_addr": ("::1", 9, 0, 0)}, NOT_A_PAIR, "2-tuple is expected"),
        ({"family": socket.AF_UNIX, "local_addr": b"/bytes"}, TypeError, "string is expected"),
        ({"family": socket.AF_UNIX, "local_addr": pathlib.Path("/path")}, TypeError, "string is expected"),
        ({"family": socket.AF_UNIX, "remote_addr": LOCAL}, TypeError, "string is expected"),
        ({"family": socket.AF_UNIX, "remote_addr": "/no/such/socket"}, FileNotFoundError, "No such file"),
        ({"local_addr": ("localhost", 0), "flags": socket.AI_NUMERICHOST}, socket.gaierror, "Errno -"),
        ({"local_addr": ("::1", 0), "family": socket.AF_INET}, socket.gaierror, "Errno -"),
        ({"local_addr": ("203.0.113.1", 0)}, OSError, os.strerror(errno.EADDRNOTAVAIL)),
        ({"local_addr": ("127.0.0.1", 99999)}, OverflowError, "port must be 0-65535"),
        ({"remote_addr": (BROADCAST, 9)}, PermissionError, "Permission denied"),
        ({"family": socket.AF_INET, "proto": socket.IPPROTO_TCP}, OSError, "Protocol not supported"),
        ({"family": socket.AF_INET, "no_such": 1}, TypeError, "unexpected keyword argument"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(run, loop, arguments, exception, text):
    async def main():
        with pytest.raises(exception, match=text) as raised:
            await loop.create_datagram_endpoint(lambda: pytest.fail("the factory was called"), **arguments)
        assert type(raised.value) is exception

    run(main)


def test_an_endpoint_may_bring_its_own_socket(run):
    async def main():
        server = await opened(Echo)
        sock = plain()
        sock.setblocking(True)
        protocol = await opened(sock=sock)
        assert sock.gettimeout() == 0
        assert protocol.transport.get_extra_info("socket").fileno() == sock.fileno()
        protocol.transport.sendto(b"hello", server.address)
        assert await protocol.received(1) == [b"hello"]
        await close(protocol, server)
        assert sock.fileno() == -1

    run(main)


def test_a_socket_that_is_connected_needs_no_address(run):
    async def main():
        server = await opened(Echo)
        sock = plain()
        sock.connect(server.address)
        protocol = await opened(sock=sock)
        assert protocol.transport.get_extra_info("peername") == server.address
        protocol.transport.sendto(b"1")
        protocol.transport.sendto(b"2", server.address)
        assert await protocol.received(2) == [b"1", b"2"]
        await close(protocol, server)

    run(main)


def test_a_stream_socket_is_refused(run, loop):
    async def main():
        with socket.socket() as sock:
            with pytest.raises(ValueError, match=r"(?i)a (udp|datagram) socket was expected, got <socket"):
                await loop.create_datagram_endpoint(Endpoint, sock=sock)

    run(main)


@pytest.mark.parametrize(
    "modifier",
    [
        {"local_addr": LOCAL},
        {"remote_addr": ("127.0.0.1", 9)},
        {"family": 1},
        {"proto": 1},
        {"flags": 1},
        {"reuse_port": True},
        {"allow_broadcast": True},
    ],
    ids=lambda modifier: next(iter(modifier)),
)
def test_a_socket_of_ones_own_cannot_be_modified(run, loop, modifier):
    async def main():
        with plain() as sock:
            with pytest.raises(ValueError) as raised:
                await loop.create_datagram_endpoint(Endpoint, sock=sock, **modifier)
            text = "socket modifier keyword arguments can not be used when sock is specified. ("
            assert str(raised.value).startswith(text)
            # Python 3.10 names reuse_address= as well, which nobody gave.
            assert "{}={}".format(*next(iter(modifier.items()))) in str(raised.value)
            assert sock.fileno() != -1

    run(main)


def test_a_failing_protocol_factory_raises_to_the_caller(run, loop):
    def factory():
        raise Boom("factory")

    async def main():
        with plain() as sock:
            with pytest.raises(Boom):
                await loop.create_datagram_endpoint(factory, sock=sock)
            assert sock.fileno() != -1

    run(main)


def test_a_cancelled_creation_leaves_nothing_behind(run, loop):
    async def main():
        sock = plain()
        protocol = Endpoint()
        task = asyncio.ensure_future(loop.create_datagram_endpoint(lambda: protocol, sock=sock))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await protocol.lost is None
        assert protocol.events == ["made", "lost"]
        await turns(1)
        assert sock.fileno() == -1

    run(main)


@pytest.mark.parametrize("local", [True, False])
def test_debug_mode_logs_the_creation(run, loop, caplog, local):
    caplog.set_level(logging.DEBUG, logger="asyncio")
    loop.set_debug(True)

    async def main():
        with plain() as peer:
            protocol = await opened(Endpoint, LOCAL if local else None, peer.getsockname())
            record = next(r for r in caplog.records if r.getMessage().startswith("Datagram endpoint "))
            assert record.levelno == (logging.INFO if local else logging.DEBUG)
            assert f"remote_addr={peer.getsockname()!r} created: (" in record.getMessage()
            assert ("local_addr=" in record.getMessage()) is local
            await close(protocol)

    run(main)
