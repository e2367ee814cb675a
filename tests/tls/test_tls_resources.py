"""TLS connections that came and went leave nothing behind: no descriptor, no object, no timer, hardly any memory."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.support.leaks import open_descriptors, resident_bytes
from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import ManualPeer, connect, connected_pair, listening, serve


async def visit(tls, server, made, context, count):
    """So many connections at once, each of which says something and closes."""
    clients = await asyncio.gather(*(connect(tls, server, context=context) for _ in range(count)))
    for client in clients:
        client.transport.write(b"hello")
    for client in clients:
        assert await client.received(5) == b"hello"
        client.transport.close()
    for client in clients:
        await client.lost
    while not made.empty():
        await asyncio.wait([(await made.get()).lost])


async def until_gone(references):
    """Collect until nothing is referred to any more, or for a hundred turns."""
    for _ in range(100):
        gc.collect()
        if not any(reference() for reference in references):
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"still there: {[reference() for reference in references if reference()]}")


@pytest.mark.slow
def test_hundreds_of_connections_give_back_what_they_took(run, tls):
    async def main():
        server, made = await serve(tls, Echo)
        context = tls.client_context()
        for _ in range(2):
            await visit(tls, server, made, context, 30)
        descriptors, memory = len(open_descriptors()), resident_bytes()
        for _ in range(12):
            await visit(tls, server, made, context, 30)
        gc.collect()
        assert len(open_descriptors()) <= descriptors
        assert resident_bytes() - memory < 15 * 1024 * 1024
        await close_all(server)

    run(main)


@pytest.mark.slow
def test_many_connections_at_once_take_little_memory(run, tls, better):
    """CPython's protocol has 256 KiB for each, of which it uses a part."""

    async def main():
        server, made = await serve(tls, Echo)
        context = tls.client_context()
        await visit(tls, server, made, context, 10)
        gc.collect()
        memory = resident_bytes()
        clients = [await connect(tls, server, context=context) for _ in range(180)]
        for client in clients:
            client.transport.write(b"hello")
            await client.received(5)
        assert resident_bytes() - memory < 360 * 150 * 1024
        await close_all(*clients)
        while not made.empty():
            await asyncio.wait([(await made.get()).lost])
        await close_all(server)

    run(main)


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_a_lost_connection_is_freed_with_its_contexts(run, tls, how):
    """Whose timers are due in a minute and in half a minute."""

    async def main():
        client, peer, server = await connected_pair(
            tls, client_context=tls.client_context(), server_context=tls.server_context()
        )
        gone = [
            weakref.ref(item)
            for protocol in (client, peer)
            for item in (
                protocol,
                protocol.transport,
                protocol.transport.get_extra_info("ssl_object"),
                protocol.transport.get_extra_info("sslcontext"),
            )
        ]
        if how == "peer":
            peer.transport.close()
        else:
            getattr(client.transport, how)()
        await asyncio.wait([client.lost, peer.lost])
        server.close()
        await server.wait_closed()
        del client, peer, server
        await until_gone(gone)

    run(main)


@pytest.mark.parametrize("how", ["refused", "reset", "cancelled", "timeout"])
def test_a_failed_handshake_frees_everything(run, loop, tls, how):
    async def attempt():
        context = tls.client_context()
        gone = [weakref.ref(context)]

        def factory():
            protocol = Recorder()
            gone.append(weakref.ref(protocol))
            return protocol

        with listening() as sock:
            timeout = 0.01 if how == "timeout" else None
            task = asyncio.ensure_future(
                loop.create_connection(factory, *sock.getsockname(), ssl=context, ssl_handshake_timeout=timeout)
            )
            accepted, _ = await loop.sock_accept(sock)
            manual = ManualPeer(accepted, tls.server_context("stranger"), server_side=True)
            if how == "refused":
                with pytest.raises(OSError, match=r".*"):
                    await manual.handshake()
                    await manual.receive(1)
                    raise ConnectionResetError
            else:
                await loop.sock_recv(accepted, 1 << 16)
            if how == "reset":
                manual.reset()
            if how == "cancelled":
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or isinstance(task.exception(), OSError)
            manual.close()
        return gone

    async def main():
        gone = await attempt()
        assert len(gone) == 2
        await until_gone(gone)

    run(main)


def test_a_lost_connection_is_freed_without_the_collector(run, tls, better):
    async def main():
        server, made = await serve(tls, Echo)
        context = tls.client_context()
        client = await connect(tls, server, context=context)
        client.transport.write(b"hello")
        await client.received(5)
        gone = [weakref.ref(client), weakref.ref(client.transport)]
        gc.collect()
        gc.disable()
        try:
            client.transport.close()
            await client.lost
            del client
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert [reference() for reference in gone] == [None, None]
        finally:
            gc.enable()
        await asyncio.wait([(await made.get()).lost])
        await close_all(server)

    run(main)


def test_a_transport_is_freed_while_its_protocol_lives_on(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        transport = weakref.ref(client.transport)
        client.transport.close()
        await client.lost
        client.transport = client.made = None
        await until_gone([transport])
        await peer.lost
        await close_all(server)

    run(main)
