"""Handshakes that stall, break, time out or are cancelled, and peers that speak no TLS at all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import threading
import time

import pytest

from tests.support.builds import whole_calls
from tests.support.leaks import open_descriptors
from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import ManualPeer, connect, listening, serve, tells_of

GARBAGE = {
    "a web request": b"GET / HTTP/1.0\r\n\r\n",
    "zeros": bytes(1000),
    "a broken hello": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "random bytes": bytes(range(200, 256)) * 50,
}


def client_hello(tls):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def raw_connection(loop, server):
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, server.sockets[0].getsockname())
    return sock


async def until_closed(loop, sock):
    """Read to the end, whatever kind of end it is."""
    data = b""
    try:
        while piece := await loop.sock_recv(sock, 1 << 16):
            data += piece
    except ConnectionError:
        pass
    sock.close()
    return data


async def client_is_served(tls, server):
    """In the end: the server's timeout, meant for others, may be too short for a slow machine."""
    served = False
    while not served:
        with contextlib.suppress(OSError):
            client = await connect(tls, server)
            client.transport.write(b"hello")
            answer = asyncio.ensure_future(client.received(5))
            await asyncio.wait([answer, client.lost], return_when=asyncio.FIRST_COMPLETED)
            served = answer.done()
            answer.cancel()
            await close_all(client)


@pytest.mark.parametrize("start", [0, 1, 100], ids=["silent", "after a byte", "after half a hello"])
def test_a_client_that_stalls_is_cut_off_by_the_server(run, loop, tls, reports, start):
    async def main():
        server, made = await serve(tls, Echo, ssl_handshake_timeout=0.05)
        started = time.monotonic()
        sock = await raw_connection(loop, server)
        await loop.sock_sendall(sock, client_hello(tls)[:start])
        assert await until_closed(loop, sock) == b""
        assert 0.04 <= time.monotonic() - started < 30  # the default is 60
        assert (await made.get()).events == []
        assert reports == []
        await client_is_served(tls, server)
        await close_all(server)

    run(main)


def test_a_server_that_stalls_is_given_up_by_the_client(run, loop, tls, reports):
    async def main():
        with listening() as sock:
            with pytest.raises(ConnectionAbortedError) as raised:
                await loop.create_connection(
                    Recorder, *sock.getsockname(), ssl=tls.client_context(), ssl_handshake_timeout=0.05
                )
        assert str(raised.value) == "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
        assert reports == []

    run(main)


def test_the_timeout_of_an_accepted_socket_is_honoured(run, loop, tls):
    async def main():
        with listening() as sock:
            client = socket.create_connection(sock.getsockname())
            accepted, _ = sock.accept()
        with pytest.raises(ConnectionAbortedError, match=r"SSL handshake is taking longer than 0\.05 seconds"):
            await loop.connect_accepted_socket(Recorder, accepted, ssl=tls.server_context(), ssl_handshake_timeout=0.05)
        assert client.recv(1) == b""
        client.close()

    run(main)


def test_fifty_stalled_handshakes_block_nobody_and_cost_no_thread(run, loop, tls, reports):
    async def main():
        server, made = await serve(tls, Echo)
        before = threading.active_count()
        stalled = [await raw_connection(loop, server) for _ in range(50)]
        for number, sock in enumerate(stalled):
            await loop.sock_sendall(sock, client_hello(tls)[: number * 2])
        started = time.monotonic()
        for _ in range(3):
            await client_is_served(tls, server)
        assert time.monotonic() - started < 30  # those take 60
        assert threading.active_count() <= before
        for sock in stalled:
            sock.close()
        while made.qsize() > 3:
            assert (await made.get()).transport is None or made.qsize() < 3
        await client_is_served(tls, server)
        assert reports == []
        await close_all(server)

    run(main)


@pytest.mark.parametrize("garbage", list(GARBAGE.values()), ids=list(GARBAGE))
def test_a_client_that_speaks_no_tls_harms_nobody(run, loop, tls, reports, garbage):
    async def main():
        server, made = await serve(tls, Echo)
        sock = await raw_connection(loop, server)
        with contextlib.suppress(ConnectionError):  # the beginning is enough to refuse it
            await loop.sock_sendall(sock, garbage)
        await until_closed(loop, sock)
        assert (await made.get()).events == []
        assert reports == []
        await client_is_served(tls, server)
        await close_all(server)

    run(main)


@pytest.mark.parametrize("garbage", list(GARBAGE.values()), ids=list(GARBAGE))
def test_a_server_that_speaks_no_tls_is_an_error(run, loop, tls, reports, garbage):
    async def main():
        with listening() as sock:
            connecting = asyncio.ensure_future(
                loop.create_connection(
                    Recorder, *sock.getsockname(), ssl=tls.client_context(), server_hostname="localhost"
                )
            )
            accepted, _ = await loop.sock_accept(sock)
            await loop.sock_recv(accepted, 1 << 16)
            with contextlib.suppress(ConnectionError):  # the beginning is enough to refuse it
                await loop.sock_sendall(accepted, garbage)
            with pytest.raises(ssl.SSLError) as raised:
                await connecting
            assert raised.value.library == "SSL"
            await until_closed(loop, accepted)
        assert reports == []

    run(main)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("start", [0, 20, None], ids=["at once", "in its hello", "after its hello"])
def test_a_client_that_leaves_in_mid_handshake_harms_nobody(run, loop, tls, reports, how, start):
    async def main():
        server, made = await serve(tls, Echo)
        before = len(open_descriptors())
        hello = client_hello(tls)
        manual = ManualPeer(await raw_connection(loop, server), tls.client_context(), server_hostname="localhost")
        await loop.sock_sendall(manual.sock, hello[:start])
        manual.reset() if how == "RST" else manual.close()
        assert (await made.get()).events == []
        await client_is_served(tls, server)
        while len(open_descriptors()) > before:
            await asyncio.sleep(0)
        assert reports == []
        await close_all(server)

    run(main)


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_server_that_leaves_in_mid_handshake_is_an_error(run, loop, tls, reports, how):
    async def main():
        with listening() as sock:
            connecting = asyncio.ensure_future(
                loop.create_connection(
                    Recorder, *sock.getsockname(), ssl=tls.client_context(), server_hostname="localhost"
                )
            )
            accepted, _ = await loop.sock_accept(sock)
            manual = ManualPeer(accepted, tls.server_context(), server_side=True)
            await loop.sock_recv(accepted, 1 << 16)
            manual.reset() if how == "RST" else manual.close()
            with pytest.raises(ConnectionResetError):
                await connecting
        assert reports == []

    run(main)


def test_a_connect_that_is_cancelled_in_mid_handshake_closes_its_socket(run, loop, tls, reports):
    async def main():
        with listening() as sock:
            protocols = []

            def factory():
                protocols.append(Recorder())
                return protocols[-1]

            connecting = asyncio.ensure_future(
                loop.create_connection(factory, *sock.getsockname(), ssl=tls.client_context())
            )
            accepted, _ = await loop.sock_accept(sock)
            assert await loop.sock_recv(accepted, 1 << 16)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert await until_closed(loop, accepted) == b""
            assert protocols[0].events == []
        assert reports == []

    run(main)


def test_a_handshake_that_comes_byte_by_byte_is_one(run, loop, tls):
    async def main():
        server, made = await serve(tls, Echo)
        sock = await raw_connection(loop, server)
        manual = ManualPeer(sock, tls.client_context(), server_hostname="localhost")
        whole_flush = manual.flush

        async def slow_flush():
            for byte in manual.outgoing.read():
                await loop.sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(0)

        manual.flush = slow_flush
        await manual.handshake()
        manual.flush = whole_flush
        await manual.send(b"hello")
        assert await manual.receive(5) == b"hello"
        manual.close()
        await (await made.get()).lost
        await close_all(server)

    run(main)


async def handshake_up_to_the_last_message(loop, manual):
    """The last message of the client stays in `outgoing`."""
    while True:
        try:
            manual.tls.do_handshake()
        except ssl.SSLWantReadError:
            await manual.flush()
            manual.incoming.write(await loop.sock_recv(manual.sock, 1 << 16))
        else:
            return


@pytest.mark.parametrize("end", ["open", "close_notify", "FIN"])
def test_what_comes_with_the_last_message_of_the_handshake_is_not_lost(run, loop, tls, modern, end):
    async def main():
        server, made = await serve(tls)
        manual = ManualPeer(await raw_connection(loop, server), tls.client_context(), server_hostname="localhost")
        await handshake_up_to_the_last_message(loop, manual)
        manual.tls.write(b"early ")
        manual.tls.write(b"bird")
        await (manual.send_close_notify() if end == "close_notify" else manual.flush())
        if end != "open":
            manual.end()
        protocol = await made.get()
        assert await protocol.received(10) == b"early bird"
        if end == "open":
            await close_all(protocol)
            assert protocol.events == ["made", "data", "lost"]
        else:
            await asyncio.wait([protocol.lost])
            assert protocol.events == ["made", "data", "eof", "lost"]
        manual.close()
        await close_all(server)

    run(main)


@whole_calls
def test_a_refused_server_is_told_why(run, loop, tls, better):
    """By an alert, which CPython's protocol makes and never sends. Nobody waits for it to leave, so it does at once."""

    async def main():
        with listening() as sock:
            connecting = asyncio.ensure_future(
                loop.create_connection(Recorder, *sock.getsockname(), ssl=tls.client_context())
            )
            accepted, _ = await loop.sock_accept(sock)
            manual = ManualPeer(accepted, tls.server_context("stranger"), server_side=True)
            with pytest.raises(ssl.SSLError) as raised:
                await manual.handshake()
                await manual.receive(1)
            assert "_ALERT_UNKNOWN_CA" in raised.value.reason
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting
            manual.close()

    run(main)


@whole_calls
def test_a_refused_client_is_told_why(run, tls, better):
    async def main():
        context = tls.server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        server, _ = await serve(tls, context=context)
        context = tls.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError) as raised:
            await connect(tls, server, context=context)
        assert tells_of(raised.value, "PROTOCOL_VERSION")
        await close_all(server)

    run(main)


@pytest.mark.parametrize("kind", ["refused", "silent", "cancelled", "reset"])
def test_failed_handshakes_leave_no_descriptor(run, loop, tls, kind):
    async def main():
        with listening() as sock:
            server, _ = await serve(tls, Echo, tls.server_context("stranger"))
            addresses = {"refused": server.sockets[0].getsockname()}
            before = len(open_descriptors())
            for _ in range(20):
                task = asyncio.ensure_future(
                    loop.create_connection(
                        Recorder,
                        *addresses.get(kind, sock.getsockname()),
                        ssl=tls.client_context(),
                        ssl_handshake_timeout=0.002 if kind == "silent" else None,
                    )
                )
                if kind != "refused":
                    accepted, _ = await loop.sock_accept(sock)
                    await loop.sock_recv(accepted, 1 << 16)
                    if kind == "cancelled":
                        task.cancel()
                    if kind == "reset":
                        ManualPeer(accepted, tls.server_context(), server_side=True).reset()
                await asyncio.wait([task])
                with pytest.raises((OSError, asyncio.CancelledError)):
                    task.result()
                if kind in ("silent", "cancelled"):
                    await until_closed(loop, accepted)
            while len(open_descriptors()) > before:
                gc.collect()
                await asyncio.sleep(0)
            await close_all(server)

    run(main)


def test_a_forked_child_may_close_what_it_inherited(run, tls):
    """Closing descriptors in a child says nothing on the connections of the parent."""

    async def main():
        server, _ = await serve(tls, Echo)
        client = await connect(tls, server)
        child = os.fork()
        if child == 0:
            os.close(client.transport.get_extra_info("socket").fileno())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, server)

    run(main)
