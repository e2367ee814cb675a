"""asyncio's streams over TLS: open_connection and start_server with ssl=, and StreamWriter.start_tls."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys

import pytest

from tests.support.builds import whole_calls
from tests.tls.peers import ManualPeer

has_start_tls = pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in Python 3.11")


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def stop(server, *writers):
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.001)


async def serve(tls, handler, **options):
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls.server_context(), **options)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="localhost", **options
    )
    return server, reader, writer


def test_every_way_to_read(run, tls):
    async def main():
        server, reader, writer = await serve(tls, echo)
        writer.write(b"a line\nexactly10!until|rest")
        assert await reader.readline() == b"a line\n"
        assert await reader.readexactly(10) == b"exactly10!"
        assert await reader.readuntil(b"|") == b"until|"
        assert await reader.read(4) == b"rest"
        assert not writer.can_write_eof()
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        await stop(server, writer)
        assert reader.at_eof()

    run(main)


def test_the_end_of_the_stream_is_seen(run, tls, modern):
    async def speak(_reader, writer):
        writer.writelines([b"all ", b"there ", b"is"])
        await writer.drain()
        writer.close()

    async def main():
        server, reader, writer = await serve(tls, speak)
        assert await reader.read() == b"all there is"
        assert reader.at_eof()
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(1)
        await stop(server, writer)

    run(main)


def test_drain_waits_for_a_slow_reader(run, tls):
    data = bytes(range(256)) * 20_000

    async def send(writer):
        for start in range(0, len(data), 50_000):
            writer.write(data[start : start + 50_000])
            await writer.drain()

    async def main():
        server, reader, writer = await serve(tls, echo)
        sent = asyncio.ensure_future(send(writer))
        assert await reader.readexactly(len(data)) == data
        await sent
        await stop(server, writer)

    run(main)


def test_incomplete_reads_and_overruns_raise(run, tls, modern):
    async def main():
        server, reader, writer = await serve(tls, echo, limit=100)
        writer.write(b"x" * 1000)
        with pytest.raises(asyncio.LimitOverrunError):
            await reader.readuntil(b"|")
        await reader.readexactly(1000)
        await stop(server, writer)

    run(main)


def test_many_clients_at_once(run, tls):
    async def client(address, context, number):
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
        for turn in range(10):
            message = b"%d %d\n" % (number, turn)
            writer.write(message)
            assert await reader.readline() == message
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.server_context())
        address = server.sockets[0].getsockname()
        context = tls.client_context()
        await asyncio.gather(*(client(address, context, number) for number in range(30)))
        await stop(server)

    run(main)


def test_a_refused_certificate_raises_from_open_connection(run, tls):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.server_context("expired"))
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=tls.client_context())
        await stop(server)

    run(main)


def test_a_reset_is_raised_by_the_reader(run, tls):
    async def reset(_reader, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def main():
        server, reader, writer = await serve(tls, reset)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()
        await stop(server)

    run(main)


async def ask_for_tls(reader, writer):
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"GO\n"


async def agree_on_tls(reader, writer):
    assert await reader.readline() == b"STARTTLS\n"
    writer.write(b"GO\n")
    await writer.drain()


async def upgrading_server(tls, finished):
    """Answers to STARTTLS, goes over to TLS and echoes."""

    async def handler(reader, writer):
        await agree_on_tls(reader, writer)
        await writer.start_tls(tls.server_context())
        assert writer.get_extra_info("ssl_object").server_side
        await echo(reader, writer)
        finished.set_result(None)

    return await asyncio.start_server(handler, "127.0.0.1", 0)


@has_start_tls
def test_a_stream_goes_over_to_tls(run, tls):
    async def main():
        finished = asyncio.get_running_loop().create_future()
        server = await upgrading_server(tls, finished)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await ask_for_tls(reader, writer)
        await writer.start_tls(tls.client_context(), server_hostname="localhost")
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        data = bytes(range(256)) * 4000
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await stop(server, writer)
        await finished

    run(main)


@has_start_tls
def test_a_stream_that_was_upgraded_sees_the_end(run, tls):
    async def handler(reader, writer):
        await agree_on_tls(reader, writer)
        await writer.start_tls(tls.server_context())
        writer.write(b"all there is")
        writer.close()

    async def main():
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await ask_for_tls(reader, writer)
        await writer.start_tls(tls.client_context(), server_hostname="localhost")
        assert await reader.read() == b"all there is"
        await stop(server, writer)

    run(main)


@has_start_tls
@whole_calls
def test_a_hello_that_was_read_ahead_is_not_lost(run, loop, tls, loop_name, request):
    """It came in one segment with the request, and waits in the StreamReader (CPython 142352)."""
    if loop_name == "asyncio" and not any(
        (3, minor) == sys.version_info[:2] and sys.version_info >= (3, minor, micro)
        for minor, micro in ((13, 12), (14, 3), (15, 0))
    ):
        pytest.skip("CPython of this version loses it")
    if loop_name == "ironloop":
        request.getfixturevalue("better")

    async def main():
        finished = loop.create_future()
        server = await upgrading_server(tls, finished)
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        manual = ManualPeer(sock, tls.client_context(), server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            manual.tls.do_handshake()
        await loop.sock_sendall(sock, b"STARTTLS\n" + manual.outgoing.read())
        assert await loop.sock_recv(sock, 3) == b"GO\n"
        await asyncio.wait_for(manual.handshake(), 30)
        await manual.send(b"hello")
        assert await manual.receive(5) == b"hello"
        await manual.unwrap()
        manual.close()
        await finished
        await stop(server)

    run(main)


@has_start_tls
def test_a_stream_whose_upgrade_is_refused_is_closed(run, tls):
    async def handler(reader, writer):
        await agree_on_tls(reader, writer)
        with pytest.raises(OSError, match=r".*"):
            await writer.start_tls(tls.server_context("second"))
            await reader.readexactly(1)
        writer.close()

    async def main():
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await ask_for_tls(reader, writer)
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await writer.start_tls(tls.client_context(), server_hostname="localhost")
        assert writer.transport.is_closing()
        writer.close()
        await stop(server)

    run(main)
