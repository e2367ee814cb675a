"""websockets, client and server: the page's programs, messages of all sizes, compression, TLS, lost connections."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.integrations.programs import output_of
from tests.peers.programs import package
from tests.support.certificate import client_context, server_context
from tests.support.page import page
from tests.support.web_servers import serving

NEEDS = ("websockets",)


def test_the_programs_of_the_page_talk(tmp_path, port):
    page()["websockets"].write(tmp_path, port)
    command = page()["websockets"].command("python websockets_server.py", port)
    with serving(command, tmp_path, port) as server:
        assert output_of("websockets", "websockets_client.py", tmp_path, port) == "10000000\n"
        server.stop()


async def echo(socket):
    async for message in socket:
        await socket.send(message)


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_messages_of_all_sizes_come_back(run, reports, tls, compression):
    serve = package("websockets.asyncio.server").serve
    connect = package("websockets.asyncio.client").connect

    async def main():
        options = {"max_size": None, "compression": compression}
        async with serve(echo, "localhost", 0, ssl=server_context() if tls else None, **options) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"{'wss' if tls else 'ws'}://localhost:{port}"
            async with connect(url, ssl=client_context() if tls else None, **options) as socket:
                for size in (0, 1, 125, 126, 65_535, 65_536, 3_000_000):
                    message = random.Random(size).randbytes(size)
                    await socket.send(message)
                    assert await socket.recv() == message
                await socket.send([str(number) for number in range(100)])  # a message in fragments
                assert await socket.recv() == "".join(map(str, range(100)))
                await (await socket.ping())

    run(main)
    assert reports == []


def test_a_hundred_clients_hear_a_broadcast_and_those_that_vanish_do_not_disturb(run, reports):
    serve = package("websockets.asyncio.server").serve
    broadcast = package("websockets.asyncio.server").broadcast
    connect = package("websockets.asyncio.client").connect

    async def main():
        connected, gone = set(), []

        async def handler(socket):
            connected.add(socket)
            try:
                await socket.wait_closed()
            finally:
                connected.discard(socket)
                gone.append(socket.close_code)

        async with serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            clients = [await connect(url, compression=None) for _ in range(100)]
            for client in clients[:50]:
                client.transport.abort()
            while len(connected) > 50:
                await asyncio.sleep(0.001)
            broadcast(connected, "news")
            assert [await client.recv() for client in clients[50:]] == ["news"] * 50
            for client in clients[50:]:
                await client.close()
            while len(gone) < 100:
                await asyncio.sleep(0.001)
        assert sorted(gone) == [1000] * 50 + [1006] * 50

    run(main)
    assert reports == []
