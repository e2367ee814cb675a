"""The end of a TLS connection in order: close_notify from either end, answered or not, and how long that may take."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time

import pytest

from tests.support.protocols import Echo, Paused, Recorder, close_all
from tests.tls.peers import ManualPeer, connect, connected_pair, listening, manual_client, serve

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH_VERSIONS = pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])

has_shutdown_timeout = pytest.mark.skipif(sys.version_info < (3, 11), reason="ssl_shutdown_timeout is new in 3.11")


def up_to(tls, version):
    context = tls.server_context()
    context.maximum_version = version
    return context


async def with_manual_server(loop, tls, **options):
    """(a server worked by hand, the protocol that is its client)"""
    with listening() as sock:
        manual, (_, protocol) = await asyncio.gather(
            ManualPeer.accept(tls, sock),
            loop.create_connection(
                Recorder, *sock.getsockname(), ssl=tls.client_context(), server_hostname="localhost", **options
            ),
        )
    return manual, protocol


@BOTH_VERSIONS
def test_close_says_so_and_waits_for_the_answer(run, tls, version, modern):
    async def main():
        async with manual_client(tls, context=up_to(tls, version)) as (manual, protocol):
            protocol.transport.write(b"bye")
            protocol.transport.close()
            assert await manual.receive(100) == b"bye"
            assert not protocol.lost.done()
            await manual.unwrap()
            assert await protocol.lost is None
            await manual.raw_end()

    run(main)


@BOTH_VERSIONS
def test_the_peers_close_is_answered(run, tls, version, modern):
    async def main():
        async with manual_client(tls, context=up_to(tls, version)) as (manual, protocol):
            await manual.send(b"bye")
            await manual.unwrap()
            assert await protocol.lost is None
            assert bytes(protocol.data) == b"bye"
            assert protocol.events == ["made", "data", "eof", "lost"]
            await manual.raw_end()

    run(main)


def test_a_client_closes_in_order_too(run, loop, tls, modern):
    async def main():
        manual, protocol = await with_manual_server(loop, tls)
        protocol.transport.write(b"bye")
        protocol.transport.close()
        assert await manual.receive(100) == b"bye"
        await manual.unwrap()
        assert await protocol.lost is None
        await manual.raw_end()
        manual.close()

    run(main)


def test_both_ends_may_close_at_once(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        client.transport.close()
        peer.transport.close()
        assert await client.lost is None
        assert await peer.lost is None
        await close_all(server)

    run(main)


def test_the_end_is_seen_after_a_pause(run, tls, modern):
    """Nor is the closing end done before: its close_notify is not answered until it is read."""

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Paused)
        client.transport.write(b"last words")
        client.transport.close()
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert peer.events == ["made"]
        assert not client.lost.done()
        peer.transport.resume_reading()
        assert await peer.lost is None
        assert peer.events == ["made", "data", "eof", "lost"]
        assert bytes(peer.data) == b"last words"
        assert await client.lost is None
        await close_all(server)

    run(main)


def test_close_while_reading_is_paused_ends(run, tls, modern):
    async def main():
        async with manual_client(tls, Paused) as (manual, protocol):
            protocol.transport.close()
            assert await manual.receive(1) == b""
            await manual.unwrap()
            assert await protocol.lost is None

    run(main)


def test_close_delivers_a_full_queue_before_it_says_so(run, tls, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            data = bytes(range(256)) * 12_000
            protocol.transport.write(data)
            protocol.transport.close()
            protocol.transport.write(b"too late")
            assert not protocol.lost.done()
            assert await manual.receive(len(data) + 100) == data
            await manual.unwrap()
            assert await protocol.lost is None

    run(main)


@has_shutdown_timeout
@BOTH_VERSIONS
def test_a_peer_that_never_answers_is_waited_for_as_long_as_was_asked(run, tls, reports, version):
    async def main():
        async with manual_client(tls, context=up_to(tls, version), ssl_shutdown_timeout=0.05) as (_, protocol):
            started = time.monotonic()
            protocol.transport.close()
            error = await protocol.lost
            assert 0.05 <= time.monotonic() - started < 20  # the default is 30
            assert isinstance(error, TimeoutError)
            assert str(error) == "SSL shutdown timed out"
            assert protocol.events == ["made", "lost"]
            assert protocol.transport.is_closing()
            assert reports == []

    run(main)


@has_shutdown_timeout
def test_a_server_that_never_answers_is_given_up_by_its_client(run, loop, tls):
    async def main():
        manual, protocol = await with_manual_server(loop, tls, ssl_shutdown_timeout=0.05)
        protocol.transport.close()
        error = await protocol.lost
        assert isinstance(error, TimeoutError)
        assert str(error) == "SSL shutdown timed out"
        manual.close()

    run(main)


@has_shutdown_timeout
def test_a_peer_that_does_not_read_is_given_up(run, tls):
    async def main():
        async with manual_client(tls, ssl_shutdown_timeout=0.05) as (_, protocol):
            protocol.transport.write(b"x" * 10_000_000)
            protocol.transport.close()
            error = await protocol.lost
            assert isinstance(error, TimeoutError)
            assert protocol.events[-1] == "lost"
            assert protocol.transport.get_write_buffer_size() == 0

    run(main)


@has_shutdown_timeout
def test_a_peer_that_closes_and_does_not_read_is_given_up(run, tls, request, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 15):
        pytest.skip("CPython's transport waits for ever before 3.15")
    request.getfixturevalue("better") if loop_name == "ironloop" else None

    async def main():
        async with manual_client(tls, ssl_shutdown_timeout=0.05) as (manual, protocol):
            try:
                protocol.transport.write(b"x" * 10_000_000)
                await manual.send_close_notify()
                done, _ = await asyncio.wait([protocol.lost], timeout=20)
                assert done
            finally:
                manual.reset()
                await asyncio.wait([protocol.lost])

    run(main)


def test_data_that_comes_after_close_is_told_as_the_error_that_it_is(run, tls, reports, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            protocol.transport.close()
            await manual.send(b"too late")
            error = await protocol.lost
            assert isinstance(error, ssl.SSLError)
            assert error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
            assert reports == []

    run(main)


@has_shutdown_timeout
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
@BOTH_VERSIONS
def test_close_ends_soon_while_the_peer_streams_on(run, tls, reports, version, paused):
    async def stream(manual):
        try:
            while True:
                await manual.send(bytes(10_000))
        except ConnectionError:
            pass

    async def main():
        async with manual_client(tls, context=up_to(tls, version), ssl_shutdown_timeout=0.1) as (manual, protocol):
            streaming = asyncio.ensure_future(stream(manual))
            await protocol.received(100_000)
            if paused:
                protocol.transport.pause_reading()
            started = time.monotonic()
            protocol.transport.close()
            error = await protocol.lost
            assert time.monotonic() - started < 20
            assert isinstance(error, (ssl.SSLError, TimeoutError, type(None)))
            assert protocol.events.count("lost") == 1
            received = len(protocol.data)
            streaming.cancel()
            await asyncio.wait([streaming])
            assert len(protocol.data) == received
            assert reports == []

    run(main)


@has_shutdown_timeout
def test_close_ends_while_both_ends_stream(run, tls):
    class Streaming(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(bytes(500_000))

    async def main():
        client, peer, server = await connected_pair(tls, Streaming, Streaming, ssl_shutdown_timeout=0.1)
        await client.received(1_000_000)
        await peer.received(1_000_000)
        started = time.monotonic()
        client.transport.close()
        await client.lost
        await peer.lost
        assert time.monotonic() - started < 20
        assert client.events.count("lost") == peer.events.count("lost") == 1
        await close_all(server)

    run(main)


def test_closing_twice_changes_nothing(run, tls, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            for _ in range(3):
                protocol.transport.close()
                assert protocol.transport.is_closing()
            await manual.unwrap()
            assert await protocol.lost is None
            protocol.transport.close()
            assert protocol.events.count("lost") == 1

    run(main)


def test_writes_after_close_are_dropped_and_warn_from_the_fifth_on(run, tls, caplog, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            protocol.transport.close()
            for _ in range(8):
                protocol.transport.write(b"too late")
            protocol.transport.writelines([b"too late"])
            assert await manual.receive(100) == b""
            await manual.unwrap()
            assert await protocol.lost is None
            protocol.transport.write(b"much too late")

    run(main)
    assert {record.getMessage() for record in caplog.records} == {"SSL connection is closed"}
    assert 4 <= len(caplog.records) <= 5


def test_bytes_after_the_peers_close_are_ignored(run, loop, tls, reports, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            await manual.send_close_notify()
            try:
                await loop.sock_sendall(manual.sock, b"no TLS any more")
            except ConnectionError:
                pass
            await asyncio.wait([protocol.lost])
            assert protocol.events == ["made", "eof", "lost"]
            assert reports == []

    run(main)


def test_the_protocol_may_close_when_it_is_told_of_the_end(run, tls, modern):
    class Closing(Recorder):
        def eof_received(self):
            super().eof_received()
            self.transport.write(b"bye")
            self.transport.close()

    async def main():
        async with manual_client(tls, Closing) as (manual, protocol):
            await manual.send(b"hello")
            await manual.send_close_notify()
            assert await protocol.lost is None
            assert protocol.events == ["made", "data", "eof", "lost"]
            await manual.raw_end()

    run(main)


def test_a_closed_server_lets_its_connections_end_in_order(run, loop, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        server.close()
        client.transport.write(b"still here")
        assert await peer.received(10) == b"still here"
        client.transport.close()
        assert await peer.lost is None
        assert await client.lost is None
        await server.wait_closed()

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_a_server_can_end_its_connections_and_handshakes(run, tls, method):
    async def main():
        server, made = await serve(tls)
        with socket.create_connection(server.sockets[0].getsockname()):
            silent = await made.get()
            client = await connect(tls, server)
            peer = await made.get()
            await peer.made
            getattr(server, method)()
            await asyncio.wait([client.lost, peer.lost])
            server.close()
            await server.wait_closed()
            assert silent.transport is None

    run(main)
