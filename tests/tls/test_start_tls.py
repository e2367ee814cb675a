"""start_tls: a connection that has begun in the clear goes on over TLS, also inside of TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.support.protocols import connected_pair as plain_pair
from tests.tls import peers
from tests.tls.peers import ManualPeer, listening


async def upgrade(loop, tls, client, peer, **options):
    """Both ends of a plain connection at once."""
    client.transport, peer.transport = await asyncio.gather(
        loop.start_tls(client.transport, client, tls.client_context(), server_hostname="localhost", **options),
        loop.start_tls(peer.transport, peer, tls.server_context(), server_side=True, **options),
    )


def without_flow(events):
    """Whether the kernel takes megabytes at once, is its own affair."""
    return [event for event in events if event not in ("pause", "resume")]


async def plain_client(loop, factory=Recorder):
    """(protocol that connected in the clear, the socket of its peer)"""
    with listening() as sock:
        _, protocol = await loop.create_connection(factory, *sock.getsockname())
        accepted, _ = await loop.sock_accept(sock)
    return protocol, accepted


def test_both_ends_go_over_to_tls(run, loop, tls):
    async def main():
        client, peer, server = await plain_pair()
        client.transport.write(b"in the clear, ")
        assert await peer.received(14) == b"in the clear, "
        plain = client.transport
        await upgrade(loop, tls, client, peer)
        assert client.transport is not plain
        assert client.transport.get_protocol() is client
        assert plain.get_protocol() is not client
        client.transport.write(b"and in secret")
        assert await peer.received(27) == b"in the clear, and in secret"
        peer.transport.write(b"answer")
        assert await client.received(6) == b"answer"
        for protocol in (client, peer):
            assert protocol.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert protocol.transport.get_extra_info("socket").fileno() > 0
            assert protocol.events == ["made", "data"]
        assert client.transport.get_extra_info("peername") == server.sockets[0].getsockname()
        await close_all(client, peer, server)

    run(main)


def test_what_was_upgraded_ends_in_order(run, loop, tls, modern):
    async def main():
        client, peer, server = await plain_pair()
        await upgrade(loop, tls, client, peer)
        data = bytes(range(256)) * 8000
        client.transport.write(data)
        client.transport.close()
        assert await peer.lost is None
        assert bytes(peer.data) == data
        assert peer.events == ["made", "data", "eof", "lost"]
        assert await client.lost is None
        assert without_flow(client.events) == ["made", "eof", "lost"]
        await close_all(server)

    run(main)


def test_a_hello_that_came_before_is_not_lost(run, loop, tls):
    """The server pauses reading after the request, and upgrades when the hello waits in the socket."""

    class Upgrading(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if self.data.endswith(b"\n"):
                self.transport.pause_reading()

    async def main():
        protocol, sock = await plain_client(loop, Upgrading)
        await loop.sock_sendall(sock, b"STARTTLS\n")
        assert await protocol.received(9) == b"STARTTLS\n"
        manual = ManualPeer(sock, tls.client_context(), server_hostname="localhost")
        shaking = asyncio.ensure_future(manual.handshake())
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert bytes(protocol.data) == b"STARTTLS\n"
        protocol.transport = await loop.start_tls(protocol.transport, protocol, tls.server_context(), server_side=True)
        await shaking
        protocol.transport.write(b"hello")
        assert await manual.receive(5) == b"hello"
        await close_all(protocol)
        manual.close()

    run(main)


def test_an_upgrade_waits_behind_a_full_queue(run, loop, tls, reports):
    """What was written in the clear is sent in the clear, before the hello."""

    async def main():
        protocol, sock = await plain_client(loop)
        data = bytes(range(256)) * 40_000
        protocol.transport.write(data)
        assert protocol.events == ["made", "pause"]
        upgrading = asyncio.ensure_future(
            loop.start_tls(protocol.transport, protocol, tls.client_context(), server_hostname="localhost")
        )
        await asyncio.sleep(0)
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(sock, len(data) - len(received))
        assert received == data
        manual = ManualPeer(sock, tls.server_context(), server_side=True)
        await manual.handshake()
        protocol.transport = await upgrading
        protocol.transport.write(b"in secret")
        assert await manual.receive(9) == b"in secret"
        await manual.send(b"answer")
        assert await protocol.received(6) == b"answer"
        await close_all(protocol)
        manual.close()

    run(main)


def test_an_upgrade_behind_a_full_queue_reports_nothing(run, loop, tls, reports, better):
    """CPython's protocol is told to resume although nobody told it to pause, and asserts that somebody did."""

    async def main():
        protocol, sock = await plain_client(loop)
        protocol.transport.write(bytes(10_000_000))
        upgrading = asyncio.ensure_future(
            loop.start_tls(protocol.transport, protocol, tls.client_context(), server_hostname="localhost")
        )
        received = 0
        while received < 10_000_000:
            received += len(await loop.sock_recv(sock, 10_000_000 - received))
        manual = ManualPeer(sock, tls.server_context(), server_side=True)
        await manual.handshake()
        protocol.transport = await upgrading
        protocol.transport.write(b"in secret")
        assert await manual.receive(9) == b"in secret"
        assert reports == []
        await close_all(protocol)
        manual.close()

    run(main)


def test_what_comes_with_the_last_message_of_the_handshake_is_not_lost(run, loop, tls):
    async def main():
        protocol, sock = await plain_client(loop)
        manual = ManualPeer(sock, tls.client_context(), server_hostname="localhost")
        upgrading = asyncio.ensure_future(
            loop.start_tls(protocol.transport, protocol, tls.server_context(), server_side=True)
        )
        while True:
            try:
                manual.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await manual.flush()
                manual.incoming.write(await loop.sock_recv(sock, 1 << 16))
        await manual.send(b"early bird")
        protocol.transport = await upgrading
        assert await protocol.received(10) == b"early bird"
        await close_all(protocol)
        manual.close()

    run(main)


def test_tls_goes_through_tls(run, loop, tls, modern):
    async def main():
        client, peer, server = await peers.connected_pair(tls)
        outer = client.transport
        await upgrade(loop, tls, client, peer)
        assert client.transport is not outer
        data = bytes(range(256)) * 8000
        client.transport.write(data)
        assert await peer.received(len(data)) == data
        peer.transport.write(data)
        assert await client.received(len(data)) == data
        inner = client.transport.get_extra_info("ssl_object")
        assert inner is not outer.get_extra_info("ssl_object")
        assert inner.version() == "TLSv1.3"
        client.transport.close()
        assert await peer.lost is None
        assert await client.lost is None
        assert without_flow(peer.events) == ["made", "data", "eof", "lost"]
        await close_all(server)

    run(main)


def test_tls_goes_through_tls_through_tls(run, loop, tls, modern):
    async def main():
        client, peer, server = await plain_pair(Recorder, Echo)
        for depth in range(1, 4):
            await upgrade(loop, tls, client, peer)
            client.transport.write(b"deep")
            await client.received(4 * depth)
        await close_all(client, peer, server)

    run(main)


def test_buffered_protocols_can_be_upgraded(run, loop, tls):
    class Buffered(Recorder, asyncio.BufferedProtocol):
        def __init__(self):
            super().__init__()
            self.memory = memoryview(bytearray(1000))

        def get_buffer(self, hint):
            return self.memory

        def buffer_updated(self, count):
            self.data_received(bytes(self.memory[:count]))

    async def main():
        client, peer, server = await plain_pair(Recorder, Buffered)
        client.transport.write(b"in the clear, ")
        assert await peer.received(14) == b"in the clear, "
        await upgrade(loop, tls, client, peer)
        client.transport.write(b"and in secret")
        assert await peer.received(27) == b"in the clear, and in secret"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("context", [None, True, object()], ids=["none", "true", "object"])
def test_an_upgrade_needs_a_context(run, loop, context):
    async def main():
        client, peer, server = await plain_pair()
        with pytest.raises(TypeError, match=r"sslcontext is expected to be an instance of ssl\.SSLContext, got "):
            await loop.start_tls(client.transport, client, context)
        client.transport.write(b"still in the clear")
        assert await peer.received(18) == b"still in the clear"
        await close_all(client, peer, server)

    run(main)


def test_an_upgrade_needs_a_stream_of_the_loops(run, loop, tls):
    async def main():
        datagram, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        for transport in (datagram, object(), None):
            with pytest.raises(TypeError, match=r"transport .* is not supported by start_tls\(\)"):
                await loop.start_tls(transport, Recorder(), tls.client_context())
        datagram.close()
        await asyncio.sleep(0.001)

    run(main)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_are_positive(run, loop, tls, name):
    if name == "ssl_shutdown_timeout" and sys.version_info < (3, 11):
        pytest.skip("new in Python 3.11")

    async def main():
        client, peer, server = await plain_pair()
        for value in (0, -1):
            with pytest.raises(ValueError, match=f"{name} should be a positive number, got {value}"):
                await loop.start_tls(client.transport, client, tls.client_context(), **{name: value})
        await close_all(client, peer, server)

    run(main)


def test_a_bad_certificate_ends_the_connection(run, loop, tls, reports, modern):
    async def main():
        protocol, sock = await plain_client(loop)
        manual = ManualPeer(sock, tls.server_context("stranger"), server_side=True)
        upgrading = asyncio.ensure_future(
            loop.start_tls(protocol.transport, protocol, tls.client_context(), server_hostname="localhost")
        )
        with pytest.raises(OSError, match=r".*"):
            await manual.handshake()
            await manual.receive(1)
            raise ConnectionResetError
        with pytest.raises(ssl.SSLCertVerificationError):
            await upgrading
        assert isinstance(await protocol.lost, ssl.SSLCertVerificationError)
        assert protocol.transport.is_closing()
        assert protocol.transport.get_extra_info("socket").fileno() == -1
        assert reports == []
        manual.close()

    run(main)


def test_an_upgrade_that_stalls_times_out(run, loop, tls, reports):
    async def main():
        protocol, sock = await plain_client(loop)
        with pytest.raises(ConnectionAbortedError) as raised:
            await loop.start_tls(
                protocol.transport,
                protocol,
                tls.client_context(),
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )
        assert str(raised.value) == "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
        assert protocol.transport.is_closing()
        assert reports == []
        await ManualPeer(sock, tls.server_context(), server_side=True).raw_end()
        sock.close()

    run(main)


@pytest.mark.parametrize("how", ["FIN", "RST", "no TLS"])
def test_an_upgrade_that_breaks_is_an_error(run, loop, tls, reports, how):
    async def main():
        protocol, sock = await plain_client(loop)
        upgrading = asyncio.ensure_future(
            loop.start_tls(protocol.transport, protocol, tls.client_context(), server_hostname="localhost")
        )
        await loop.sock_recv(sock, 1 << 16)
        manual = ManualPeer(sock, tls.server_context(), server_side=True)
        if how == "no TLS":
            with contextlib.suppress(ConnectionError):  # the beginning is enough to refuse it
                await loop.sock_sendall(sock, b"what?\n" * 10)
        else:
            manual.end() if how == "FIN" else manual.reset()
        with pytest.raises(ssl.SSLError if how == "no TLS" else ConnectionResetError):
            await upgrading
        assert protocol.transport.is_closing()
        assert reports == []
        if how != "RST":
            await manual.raw_end()
        manual.close()

    run(main)


def test_an_upgrade_that_is_cancelled_closes_the_connection(run, loop, tls, reports):
    async def main():
        protocol, sock = await plain_client(loop)
        upgrading = asyncio.ensure_future(
            loop.start_tls(protocol.transport, protocol, tls.client_context(), server_hostname="localhost")
        )
        assert await loop.sock_recv(sock, 1 << 16)
        upgrading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrading
        assert protocol.transport.is_closing()
        await ManualPeer(sock, tls.server_context(), server_side=True).raw_end()
        sock.close()
        assert reports == []

    run(main)
