"""Thousands of connections leave nothing behind: no descriptor, no memory, no object."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.support.leaks import open_descriptors, resident_bytes
from tests.support.protocols import Echo, Recorder, close_all


async def churn(loop, address, count):
    alive = []

    class Client(asyncio.Protocol):
        def __init__(self):
            alive.append(weakref.ref(self))
            self.lost = loop.create_future()

        def connection_made(self, transport):
            self.transport = transport
            alive.append(weakref.ref(transport))
            transport.write(b"hello")

        def data_received(self, data):
            self.transport.close()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    for start in range(0, count, 50):
        made = await asyncio.gather(*(loop.create_connection(Client, *address) for _ in range(start, start + 50)))
        await asyncio.gather(*(protocol.lost for _, protocol in made))
    return alive


@pytest.mark.slow
def test_two_thousand_connections_come_and_go(run, loop):
    async def main():
        peers = weakref.WeakSet()

        def factory():
            protocol = Echo()
            peers.add(protocol)
            return protocol

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await churn(loop, address, 500)
        gc.collect()
        descriptors, memory = len(open_descriptors()), resident_bytes()
        alive = await churn(loop, address, 2000)
        await asyncio.sleep(0.01)
        gc.collect()
        assert len(open_descriptors()) <= descriptors
        assert resident_bytes() - memory < 8 * 1024 * 1024
        assert not [reference for reference in alive if reference() is not None]
        assert not peers
        await close_all(server)

    run(main)


def test_a_lost_connection_is_freed_without_the_collector(run, loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's transport is part of a cycle")

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        gone = [weakref.ref(transport), weakref.ref(protocol)]
        gc.disable()
        try:
            transport.close()
            del transport, protocol
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert [reference() for reference in gone] == [None, None]
        finally:
            gc.enable()
        await close_all(server)

    run(main)


@pytest.mark.parametrize("how", ["refused", "factory", "cancelled"])
def test_failed_connects_leave_no_descriptor(run, loop, how):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        if how == "refused":
            await close_all(server)
        before = len(open_descriptors())
        for _ in range(20):
            if how == "refused":
                with pytest.raises(ConnectionRefusedError):
                    await loop.create_connection(Recorder, *address)
            elif how == "factory":
                with pytest.raises(ZeroDivisionError):
                    await loop.create_connection(lambda: 1 // 0, *address)
            else:
                task = asyncio.ensure_future(loop.create_connection(Recorder, *address))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
        gc.collect()
        await asyncio.sleep(0.01)
        assert len(open_descriptors()) <= before
        await close_all(server)

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main)
