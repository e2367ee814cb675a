"""Files through a transport: behind what waits in it, with nothing between, and which transports send none."""

from __future__ import annotations

import asyncio
import os
import ssl

import pytest

from tests.support.pipes import turns
from tests.support.protocols import HalfOpen, Recorder, close_all, connected_pair
from tests.support.sendfile import ANY_SOCKETS, DATA, SIZE, ByTransport, in_the_middle, receive


def test_twenty_megabytes_reach_a_slow_reader(run, loop, sockets, tmp_path):
    ours, peer = sockets
    data = DATA * 10
    path = tmp_path / "large"
    path.write_bytes(data)

    async def main():
        async with ByTransport(ours) as sender:
            with path.open("rb") as large:
                task = asyncio.create_task(sender.sendfile(large))
                got = bytearray()
                while len(got) < len(data):
                    got += await loop.sock_recv(peer, 1 << 16)
                    await asyncio.sleep(0)
                assert await task == len(data) == large.tell()
                assert got == data

    run(main)


def test_a_file_comes_behind_megabytes_that_are_queued(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport = sender.transport
            head = bytes(3 * SIZE)
            transport.write(head)
            task = asyncio.create_task(sender.sendfile(large_file))
            await turns()
            assert not task.done()
            size, got = await asyncio.gather(task, receive(peer, len(head) + SIZE))
            assert size == SIZE
            assert got == head + DATA
            transport.write(b"tail")
            assert await receive(peer, 4) == b"tail"

    run(main)


@pytest.mark.parametrize("queued", [0, 3 * SIZE])
def test_nothing_else_is_sent_while_the_kernel_sends_a_file(run, loop, sockets, opened, queued):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport = sender.transport
            transport.write(bytes(queued))
            task = asyncio.create_task(sender.sendfile(opened))
            await asyncio.sleep(0)
            for call in (transport.write, lambda data: transport.writelines([data])):
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    call(b"not now")
            # CPython's dictionary of transports raises the KeyError.
            with pytest.raises((RuntimeError, KeyError)):
                await sender.sendfile(opened)
            assert await asyncio.gather(task, receive(peer, queued + SIZE)) == [SIZE, bytes(queued) + DATA]
            transport.write(b"now")
            assert await receive(peer, 3) == b"now"

    run(main)


@pytest.mark.parametrize("half", ["client", "server"])
def test_both_ends_of_a_server_s_connection_send_files(run, loop, file, half):
    async def main():
        client, peer, server = await connected_pair()
        sender, receiver = (client, peer) if half == "client" else (peer, client)
        assert await loop.sendfile(sender.transport, file) == SIZE
        assert await receiver.received(SIZE) == DATA
        await close_all(client, peer, server)

    run(main)


def test_a_stream_writer_goes_on_behind_a_file(run, loop, sockets, file):
    ours, peer = sockets

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(b"head")
        task = asyncio.create_task(loop.sendfile(writer.transport, file))
        assert await asyncio.gather(task, receive(peer, SIZE + 4)) == [SIZE, b"head" + DATA]
        writer.write(bytes(SIZE))
        draining = asyncio.create_task(writer.drain())
        assert await receive(peer, SIZE) == bytes(SIZE)
        await draining
        peer.send(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        await writer.wait_closed()

    run(main)


@ANY_SOCKETS
def test_debug_mode_sends_files(run, loop, sockets, large_file):
    ours, peer = sockets

    async def main():
        loop.set_debug(True)
        loop.slow_callback_duration = 10
        async with ByTransport(ours) as sender:
            task = await in_the_middle(sender.sendfile(large_file), peer)
            assert await receive(peer, SIZE - 100_000) == DATA[100_000:]
            assert await task == SIZE
            await sender.assert_usable(peer)

    run(main)


@ANY_SOCKETS
@pytest.mark.parametrize("lost", [False, True])
def test_a_closing_transport_sends_no_file(run, loop, sockets, file, lost):
    ours, _peer = sockets

    async def main():
        async with ByTransport(ours) as sender:
            transport, protocol = sender.transport, sender.protocol
            transport.close()
            if lost:
                await protocol.lost
            with pytest.raises(RuntimeError, match="Transport is closing"):
                await sender.sendfile(file)

    run(main)


def test_a_half_closed_transport_sends_no_file(run, loop, sockets, opened):
    ours, peer = sockets

    async def main():
        async with ByTransport(ours, HalfOpen) as sender:
            transport, protocol = sender.transport, sender.protocol
            transport.write_eof()
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await sender.sendfile(opened, fallback=False)
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                await sender.sendfile(opened)
            assert transport.get_protocol() is protocol
            peer.send(b"answer")
            assert await protocol.received(6) == b"answer"

    run(main)


def test_datagrams_and_pipes_send_no_files(run, loop, opened):
    async def main():
        datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        read, write = os.pipe()
        with open(read, "rb", buffering=0) as reading, open(write, "wb", buffering=0) as writing:
            reader, _ = await loop.connect_read_pipe(Recorder, reading)
            writer, _ = await loop.connect_write_pipe(Recorder, writing)
            for transport in (datagrams, reader, writer):
                with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
                    await loop.sendfile(transport, opened)
                transport.close()
            await turns()

    run(main)


def test_tls_reads_and_writes_files_itself(run, loop, sockets, opened):
    ours, peer = sockets

    async def main():
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
            context = ssl.SSLContext(protocol)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")  # without certificates
            contexts.append(context)
        (client, protocol), (_, receiver) = await asyncio.gather(
            loop.create_connection(Recorder, sock=ours, ssl=contexts[0], server_hostname=""),
            loop.connect_accepted_socket(Recorder, peer, ssl=contexts[1]),
        )
        with pytest.raises(RuntimeError, match="fallback is disabled and native sendfile is not supported"):
            await loop.sendfile(client, opened, fallback=False)
        assert await loop.sendfile(client, opened, 7, 200_000) == 200_000
        assert opened.tell() == 200_007
        assert await receiver.received(200_000) == DATA[7:200_007]
        await close_all(protocol, receiver)

    run(main)
