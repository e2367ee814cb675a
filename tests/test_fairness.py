"""A peer that floods gets its share of each turn, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from tests.support.builds import whole_calls


@pytest.mark.slow
def test_a_flooding_peer_does_not_keep_others_waiting(run, loop):
    async def main():
        received = [0]
        lost = loop.create_future()
        largest = [0]
        since_tick = [0]

        class Sink(asyncio.Protocol):
            def data_received(self, data):
                received[0] += len(data)
                since_tick[0] += len(data)

            def connection_lost(self, exc):
                lost.set_result(None)

        server = await loop.create_server(Sink, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        stop = threading.Event()

        def flood():
            with socket.create_connection(address) as sock:
                block = bytes(1 << 20)
                while not stop.is_set():
                    try:
                        sock.sendall(block)
                    except OSError:
                        return

        thread = threading.Thread(target=flood)
        thread.start()
        ticks = 0
        try:
            while received[0] < 50_000_000:
                await asyncio.sleep(0)
                ticks += 1
                largest[0] = max(largest[0], since_tick[0])
                since_tick[0] = 0
        finally:
            stop.set()
            server.close()
            await lost  # the thread sends until somebody has read the rest
            thread.join()
        # What one turn takes from one peer is bounded, so every turn other callbacks run.
        assert largest[0] <= 1 << 20
        assert ticks >= 50

    run(main)


@whole_calls
def test_a_flooding_peer_is_read_once_per_turn(run, loop):
    """However often the kernel says that there is more."""
    reads = 0
    transports = []

    class Sink(asyncio.Protocol):
        def connection_made(self, transport):
            transports.append(transport)

        def data_received(self, data):
            nonlocal reads
            reads += 1
            time.sleep(0.001)  # more comes meanwhile

    def flood(address):
        with contextlib.suppress(ConnectionError), socket.create_connection(address) as sock:
            while True:
                sock.sendall(bytes(1 << 20))

    async def main():
        nonlocal reads
        server = await loop.create_server(Sink, "127.0.0.1", 0)
        peer = threading.Thread(target=flood, args=(server.sockets[0].getsockname(),))
        peer.start()
        total, most = 0, 0
        while total < 500:
            reads = 0
            await asyncio.sleep(0)
            total += reads
            most = max(most, reads)
        server.close()
        for transport in transports:
            transport.abort()
        await loop.run_in_executor(None, peer.join)
        assert most == 1

    run(main)
