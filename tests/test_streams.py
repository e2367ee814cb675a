"""asyncio's streams over native transports."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.protocols import close_all


async def serve(handler, **options):
    server = await asyncio.start_server(handler, "127.0.0.1", 0, **options)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
    return server, reader, writer


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_every_way_to_read(run):
    async def main():
        server, reader, writer = await serve(echo)
        writer.write(b"a line\nexactly10!until|rest")
        assert await reader.readline() == b"a line\n"
        assert await reader.readexactly(10) == b"exactly10!"
        assert await reader.readuntil(b"|") == b"until|"
        writer.write_eof()
        assert await reader.read() == b"rest"
        assert reader.at_eof()
        writer.close()
        await writer.wait_closed()
        await close_all(server)

    run(main)


def test_drain_waits_for_a_slow_reader(run):
    data = bytes(range(256)) * 40_000

    async def main():
        server, reader, writer = await serve(echo)
        sent = asyncio.ensure_future(send(writer))
        assert await reader.readexactly(len(data)) == data
        await sent
        writer.close()
        await writer.wait_closed()
        await close_all(server)

    async def send(writer):
        for start in range(0, len(data), 50_000):
            writer.write(data[start : start + 50_000])
            await writer.drain()

    run(main)


def test_incomplete_reads_and_overruns_raise(run):
    async def main():
        server, reader, writer = await serve(echo, limit=100)
        writer.write(b"x" * 1000)
        with pytest.raises(asyncio.LimitOverrunError):
            await reader.readuntil(b"|")
        await reader.readexactly(1000)
        writer.write(b"short")
        writer.write_eof()
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await reader.readexactly(100)
        assert raised.value.partial == b"short"
        writer.close()
        await writer.wait_closed()
        await close_all(server)

    run(main)


def test_many_clients_at_once(run):
    async def client(address, number):
        reader, writer = await asyncio.open_connection(*address)
        for turn in range(10):
            message = b"%d %d\n" % (number, turn)
            writer.write(message)
            assert await reader.readline() == message
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await asyncio.gather(*(client(address, number) for number in range(100)))
        await close_all(server)
        await asyncio.sleep(0.001)

    run(main)


def test_subprocesses_and_datagrams_work(run):
    """Both are CPython's own classes, over native watchers."""

    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        data = bytes(range(256)) * 4000
        out, _ = await process.communicate(data)
        assert out == data
        assert process.returncode == 0
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, ("127.0.0.1", 0)
        )
        transport.close()
        await asyncio.sleep(0.001)

    run(main)
