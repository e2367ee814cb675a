"""Datagrams of connected endpoints and of Unix sockets: who they go to, and who they come from."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from tests.support.datagrams import Echo, Endpoint, close, opened, plain


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connected_transport_sends_to_its_peer_only(run, host):
    async def main():
        server = await opened(Endpoint, (host, 0))
        client = await opened(Endpoint, None, server.address[:2])
        assert client.transport.get_extra_info("peername") == server.address
        client.transport.sendto(b"1")
        client.transport.sendto(b"2", None)
        client.transport.sendto(b"3", server.address)
        client.transport.sendto(b"4", addr=server.address)
        for other in ((host, 9), ("127.0.0.2", server.address[1]), "text"):
            with pytest.raises(ValueError) as raised:
                client.transport.sendto(b"x", other)
            assert str(raised.value) == f"Invalid address: must be None or {server.address}"
        client.transport.sendto(b"5")
        assert await server.received(5) == [b"1", b"2", b"3", b"4", b"5"]
        await close(client, server)

    run(main)


def test_a_connected_transport_hears_its_peer_only(run):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        with plain() as stranger:
            stranger.connect(client.address)
            with pytest.raises(ConnectionRefusedError):
                for _ in range(10_000):
                    stranger.send(b"hello?")
        server.transport.sendto(b"hello", client.address)
        assert await client.received(1) == [b"hello"]
        await close(client, server)

    run(main)


def test_what_is_sent_after_the_end_is_dropped_with_a_warning(run, caplog):
    async def main():
        with plain() as peer:
            client = await opened(remote_addr=peer.getsockname())
            await close(client)
            for _ in range(10):
                client.transport.sendto(b"x")
            with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
                client.transport.sendto("x")
            with pytest.raises(ValueError, match="Invalid address"):
                client.transport.sendto(b"x", ("127.0.0.1", 9))
            with pytest.raises(BlockingIOError):
                peer.recv(1)

    run(main)
    messages = [record.getMessage() for record in caplog.records]
    assert messages
    assert set(messages) == {"socket.send() raised exception."}


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_unix_endpoints_know_each_others_names(run, tmp_path, kind):
    async def main():
        names = [str(tmp_path / "server"), str(tmp_path / "client")]
        expected = names
        if kind == "abstract":
            names = [f"\0ironloop-{os.getpid()}-{role}" for role in ("server", "client")]
            expected = [os.fsencode(name) for name in names]
        server = await opened(Echo, names[0], family=socket.AF_UNIX)
        client = await opened(Endpoint, names[1], names[0], family=socket.AF_UNIX)
        client.transport.sendto(b"1")
        client.transport.sendto(b"2", names[0])
        assert await client.received(2) == [b"1", b"2"]
        assert server.datagrams[0] == (b"1", expected[1])
        assert client.datagrams[0] == (b"1", expected[0])
        assert server.address == client.transport.get_extra_info("peername") == expected[0]
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            client.transport.sendto(b"x", names[1])
        await close(client, server)

    run(main)


def test_a_sender_without_a_name_has_no_address(run, path):
    async def main():
        server = await opened(Endpoint, path, family=socket.AF_UNIX)
        client = await opened(family=socket.AF_UNIX)
        client.transport.sendto(b"to a path", path)
        client.transport.sendto(b"as bytes", os.fsencode(path))
        await server.received(2)
        assert server.datagrams == [(b"to a path", None), (b"as bytes", None)]
        assert client.address == ""
        await close(client, server)

    run(main)


def test_one_end_of_a_socketpair_receives(run):
    async def main():
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with right:
            protocol = await opened(sock=left)
            right.send(b"1")
            right.send(b"")
            right.send(b"2")
            await protocol.received(3)
            assert protocol.datagrams == [(b"1", None), (b"", None), (b"2", None)]
            await close(protocol)

    run(main)


def test_a_stale_socket_file_is_replaced_and_any_other_file_kept(run, path, tmp_path):
    async def main():
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        protocol = await opened(Endpoint, path, family=socket.AF_UNIX)
        await close(protocol)
        assert os.path.exists(path)
        (tmp_path / "file").write_text("kept")
        with pytest.raises(OSError) as raised:
            await opened(Endpoint, str(tmp_path / "file"), family=socket.AF_UNIX)
        assert raised.value.errno == errno.EADDRINUSE
        assert (tmp_path / "file").read_text() == "kept"

    run(main)
