"""aiofastnet replaces a loop's methods by its own transports, which use the loop's readers, writers and callbacks."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.support.certificate import client_context, server_context

aiofastnet = pytest.importorskip("aiofastnet", exc_type=ImportError)


@pytest.fixture
def patched(loop):
    """The loop under test, with aiofastnet's methods."""
    assert aiofastnet.patch_loop(loop) is loop
    return loop


async def echo(reader, writer):
    while data := await reader.read(100_000):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def talk(reader, writer):
    assert type(writer.transport).__module__.startswith("aiofastnet")
    for size in (1, 1000, 1_000_000):
        message = os.urandom(size)
        writer.write(message)
        assert await reader.readexactly(size) == message
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_streams_of_a_patched_loop_echo(run, patched, reports, tls):
    async def main():
        others = asyncio.all_tasks()
        options = {"ssl": server_context()} if tls else {}
        server = await asyncio.start_server(echo, "localhost", 0, **options)
        port = server.sockets[0].getsockname()[1]
        options = {"ssl": client_context()} if tls else {}
        for _ in range(3):
            await talk(*await asyncio.open_connection("localhost", port, **options))
        server.close()
        await server.wait_closed()
        await asyncio.gather(*asyncio.all_tasks() - others)  # the server's ends

    run(main)
    assert reports == []


def test_unix_sockets_datagrams_and_plain_sockets_of_a_patched_loop_work(run, patched, reports, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(echo, path)
        await talk(*await asyncio.open_unix_connection(path))
        server.close()
        await server.wait_closed()

        received = patched.create_future()

        class Server(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                received.set_result(data)

        server, _ = await patched.create_datagram_endpoint(Server, ("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, _ = await patched.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
        client.sendto(b"hello")
        assert await received == b"hello"
        client.close()
        server.close()
        await asyncio.sleep(0.01)

    run(main)
    assert reports == []
