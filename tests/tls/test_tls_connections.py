"""Connections with ssl=: every way to make one, what goes through it, and the order of its events."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import ssl
import subprocess
import sys

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import connect, connected_pair, listening, serve


def pattern(size):
    """Bytes that do not repeat at powers of two, so that a piece in the wrong place shows."""
    return bytes(bytearray(range(251)) * (size // 251 + 1))[:size]


def test_events_come_in_order(run, tls, modern):
    async def main():
        client, peer, server = await connected_pair(tls)
        client.transport.write(b"hello")
        assert await peer.received(5) == b"hello"
        peer.transport.write(b"world")
        assert await client.received(5) == b"world"
        client.transport.close()
        assert client.transport.is_closing()
        assert await client.lost is None
        assert await peer.lost is None
        assert client.events == ["made", "data", "eof", "lost"]
        assert peer.events == ["made", "data", "eof", "lost"]
        await close_all(server)

    run(main)


def test_the_connection_is_made_once_the_handshake_is_done(run, tls):
    class Noting(Recorder):
        def connection_made(self, transport):
            self.version = transport.get_extra_info("ssl_object").version()
            super().connection_made(transport)

    async def main():
        client, peer, server = await connected_pair(tls, Noting, Noting)
        assert client.version == peer.version == "TLSv1.3"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_echo_of_many_sizes_is_exact(run, tls, version):
    async def main():
        context = tls.client_context()
        context.maximum_version = version
        client, peer, server = await connected_pair(tls, Recorder, Echo, client_context=context)
        sent = b""
        for size in (1, 10, 1000, 4096, 16383, 16384, 16385, 65536, 65537, 262_144, 262_145, 1_000_000, 3):
            message = pattern(size)
            sent += message
            client.transport.write(message)
            assert await client.received(len(sent)) == sent
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_every_kind_of_bytes_arrives(run, tls, kind):
    async def main():
        client, peer, server = await connected_pair(tls)
        client.transport.write(kind(b"0123456789"))
        client.transport.write(kind(b""))
        client.transport.writelines([kind(b"abc"), kind(b"def")])
        assert await peer.received(16) == b"0123456789abcdef"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("bad", ["text", 5, None, [b"x"], object()], ids=lambda bad: type(bad).__name__)
def test_what_is_no_bytes_is_refused(run, tls, bad):
    async def main():
        client, peer, server = await connected_pair(tls)
        with pytest.raises(TypeError, match=rf"data: expecting a bytes-like instance, got {type(bad).__name__}"):
            client.transport.write(bad)
        client.transport.write(b"still works")
        assert await peer.received(11) == b"still works"
        await close_all(client, peer, server)

    run(main)


def test_many_small_writes_arrive_in_order(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        pieces = [b"%d," % number for number in range(5000)]
        for piece in pieces:
            client.transport.write(piece)
        expected = b"".join(pieces)
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("count", [0, 1, 3, 1025, 5000])
def test_writelines_of_many_pieces_arrive_in_order(run, tls, count):
    async def main():
        client, peer, server = await connected_pair(tls)
        pieces = [b"%06d " % number * (number % 7 + 1) for number in range(count)]
        client.transport.writelines(pieces)
        client.transport.writelines(iter([b"the ", b"end"]))
        expected = b"".join(pieces) + b"the end"
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


def test_what_is_changed_after_the_write_arrives_as_it_was(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        original = bytearray(pattern(10_000))
        expected = bytes(original)
        client.transport.write(original)
        original[:] = bytes(len(original))
        assert await peer.received(len(expected)) == expected
        await close_all(client, peer, server)

    run(main)


def test_what_is_written_in_connection_made_is_the_first_that_arrives(run, tls):
    class Greeter(Recorder):
        def connection_made(self, transport):
            transport.write(b"welcome ")
            super().connection_made(transport)

    async def main():
        client, peer, server = await connected_pair(tls, Greeter, Greeter)
        peer.transport.write(b"back")
        client.transport.write(b"home")
        assert await client.received(12) == b"welcome back"
        assert await peer.received(12) == b"welcome home"
        await close_all(client, peer, server)

    run(main)


def test_a_connection_may_be_closed_in_connection_made(run, tls, modern):
    class Hasty(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"bye")
            transport.close()

    async def main():
        server, _ = await serve(tls, Hasty)
        client = await connect(tls, server)
        assert await client.lost is None
        assert bytes(client.data) == b"bye"
        assert client.events == ["made", "data", "eof", "lost"]
        await close_all(server)

    run(main)


def test_write_and_close_deliver_everything(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        data = pattern(300_000)
        client.transport.write(data)
        client.transport.close()
        client.transport.close()
        await peer.lost
        assert bytes(peer.data) == data
        await client.lost
        await close_all(server)

    run(main)


def test_the_write_side_cannot_be_closed_alone(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Echo)
        assert not client.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            client.transport.write_eof()
        client.transport.write(b"still works")
        assert await client.received(11) == b"still works"
        await close_all(client, peer, server)

    run(main)


def test_keeping_the_connection_open_at_the_end_of_the_stream_is_refused_with_a_warning(run, tls, modern, caplog):
    class Keeping(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Keeping)
        client.transport.close()
        assert await peer.lost is None
        assert peer.events == ["made", "eof", "lost"]
        await client.lost
        await close_all(server)

    run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "returning true from eof_received() has no effect when using ssl"
    ]


def test_another_protocol_can_take_over(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        assert peer.transport.get_protocol() is peer
        client.transport.write(b"first")
        await peer.received(5)
        other = Recorder()
        other.transport = peer.transport
        peer.transport.set_protocol(other)
        assert peer.transport.get_protocol() is other
        client.transport.write(b"second")
        assert await other.received(6) == b"second"
        assert bytes(peer.data) == b"first"
        client.transport.close()
        assert await other.lost is None
        assert peer.events == ["made", "data"]
        await client.lost
        await close_all(server)

    run(main)


def test_unix_sockets_carry_it_too(run, loop, tls, tmp_path):
    async def main():
        path = tmp_path / "socket"
        server = await loop.create_unix_server(Echo, path, ssl=tls.server_context())
        options = {"ssl": tls.client_context(), "server_hostname": "localhost"}
        transport, client = await loop.create_unix_connection(Recorder, path, **options)
        transport.write(b"by path")
        assert await client.received(7) == b"by path"
        await close_all(client)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            transport, client = await loop.create_unix_connection(Recorder, sock=sock, **options)
            transport.write(b"by socket")
            assert await client.received(9) == b"by socket"
            await close_all(client, server)

    run(main)


def test_connected_and_accepted_sockets_can_be_handed_over(run, loop, tls):
    async def main():
        with listening() as sock:
            connected = socket.create_connection(sock.getsockname())
            accepted, _ = sock.accept()
        (_, peer), (transport, client) = await asyncio.gather(
            loop.connect_accepted_socket(Echo, accepted, ssl=tls.server_context()),
            loop.create_connection(Recorder, sock=connected, ssl=tls.client_context(), server_hostname="localhost"),
        )
        transport.write(b"hello")
        assert await client.received(5) == b"hello"
        assert transport.get_extra_info("socket").fileno() == connected.fileno()
        await close_all(client, peer)
        assert connected.fileno() == accepted.fileno() == -1

    run(main)


def test_a_server_may_be_given_a_listening_socket(run, loop, tls):
    async def main():
        server = await loop.create_server(Echo, sock=listening(), ssl=tls.server_context())
        client = await connect(tls, server)
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, server)

    run(main)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_host_is_the_name_that_the_certificate_must_have(run, loop, tls, host):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=tls.server_context())
        port = server.sockets[0].getsockname()[1]
        transport, client = await loop.create_connection(
            Recorder, host, port, ssl=tls.client_context(), family=socket.AF_INET
        )
        assert transport.get_extra_info("ssl_object").server_hostname == host
        await close_all(client)
        context = tls.client_context()
        context.check_hostname = False
        transport, client = await loop.create_connection(
            Recorder, host, port, ssl=context, server_hostname="", family=socket.AF_INET
        )
        assert transport.get_extra_info("ssl_object").server_hostname is None
        await close_all(client, server)

    run(main)


def test_true_means_the_default_context(run, loop, tls, reports, monkeypatch):
    """Which trusts what the environment says, or else what the system does."""

    async def main():
        server, _ = await serve(tls, Echo)
        address = server.sockets[0].getsockname()
        monkeypatch.setenv("SSL_CERT_FILE", tls.path("stranger"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Recorder, *address, ssl=True)
        monkeypatch.setenv("SSL_CERT_FILE", tls.path("authority"))
        transport, client = await loop.create_connection(Recorder, *address, ssl=True)
        transport.write(b"hello")
        assert await client.received(5) == b"hello"
        assert transport.get_extra_info("peercert")["subject"][1] == (("commonName", "localhost"),)
        await close_all(client, server)

    run(main)


def test_a_context_made_before_the_import_works(tls, loop_name):
    maker = {"asyncio": "asyncio.SelectorEventLoop()", "ironloop": "__import__('ironloop').new_event_loop()"}
    program = f"""
import ssl, sys
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain({tls.path("localhost")!r})
client_context = ssl.create_default_context(cafile={tls.path("authority")!r})
import asyncio
assert "ironloop" not in sys.modules

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()
    served.set()

async def main():
    global served
    served = asyncio.Event()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
    writer.write(b"hello\\n")
    print((await reader.read()).decode(), end="")
    writer.close()
    await writer.wait_closed()
    await served.wait()
    server.close()
    await server.wait_closed()

loop = {maker[loop_name]}
loop.run_until_complete(main())
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_callbacks_run_in_the_context_of_the_creator(run, loop, tls, modern):
    variable = contextvars.ContextVar("variable", default="none")

    class Noting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.seen = [variable.get()]

        def data_received(self, data):
            super().data_received(data)
            self.seen.append(variable.get())

        def eof_received(self):
            super().eof_received()
            self.seen.append(variable.get())

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.seen.append(variable.get())

    async def main():
        server, _ = await serve(tls, Echo)
        variable.set("creator")
        client = await connect(tls, server, Noting)
        variable.set("later")
        client.transport.write(b"x")
        await client.received(1)
        client.transport.close()
        await client.lost
        assert client.seen == ["creator"] * 4
        await close_all(server)

    run(main)


def test_a_hundred_clients_connect_at_once(run, loop, tls):
    async def main():
        server, _ = await serve(tls, Echo)
        context = tls.client_context()
        clients = await asyncio.gather(*(connect(tls, server, context=context) for _ in range(100)))
        for number, client in enumerate(clients):
            client.transport.write(b"%03d" % number)
        for number, client in enumerate(clients):
            assert await client.received(3) == b"%03d" % number
        await close_all(*clients, server)
        await asyncio.sleep(0.001)

    run(main)
