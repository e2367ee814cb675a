"""A peer that floods gets its share of each turn, and no more."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest


@pytest.mark.slow
def test_a_flooding_peer_does_not_keep_others_waiting(run, loop):
    async def main():
        received = [0]
        largest = [0]
        since_tick = [0]

        class Sink(asyncio.Protocol):
            def data_received(self, data):
                received[0] += len(data)
                since_tick[0] += len(data)

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
        while received[0] < 50_000_000:
            await asyncio.sleep(0)
            ticks += 1
            largest[0] = max(largest[0], since_tick[0])
            since_tick[0] = 0
        # What one turn takes from one peer is bounded, so every turn other callbacks run.
        assert largest[0] <= 1 << 20
        assert ticks >= 50
        stop.set()
        server.close()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        thread.join()
        await asyncio.sleep(0.01)

    run(main)
