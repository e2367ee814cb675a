"""Loops side by side, each with all that it has: they do not disturb each other, and threads may hand one on."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import socket

import pytest

from tests.support.protocols import Echo, Recorder
from tests.support.threads import LOOPS


async def echo_rounds(loop, clients, rounds):
    """Echo `rounds` messages with each of `clients` connections; the bytes that came back."""
    server = await loop.create_server(Echo, "127.0.0.1", 0)

    async def client(number):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        received = 0
        for step in range(rounds):
            message = bytes([number]) * (1 + step * 997 % 5000)
            writer.write(message)
            assert await reader.readexactly(len(message)) == message
            received += len(message)
        writer.close()
        await writer.wait_closed()
        return received

    received = await asyncio.gather(*map(client, range(clients)))
    server.close()
    await server.wait_closed()
    return sum(received)


async def timers(loop, count):
    """Timers, every third cancelled; how many fired."""
    fired = 0

    def fire():
        nonlocal fired
        fired += 1

    handles = [loop.call_later(0.0001 * (number % 50), fire) for number in range(count)]
    for handle in handles[::3]:
        handle.cancel()
    await asyncio.sleep(0.02)
    return fired


@pytest.mark.slow
def test_loops_in_threads_do_not_disturb_each_other(team, loop_factory):
    results = collections.Counter()

    async def everything(loop, number):
        ready, peer = socket.socketpair()
        ready.setblocking(False)
        read = bytearray()
        loop.add_reader(ready, lambda: read.extend(ready.recv(100)))
        jobs = [loop.run_in_executor(None, pow, 2, exponent) for exponent in range(20)]
        peer.send(b"seen")
        echoed, fired, *powers = await asyncio.gather(echo_rounds(loop, 3, 30), timers(loop, 99), *jobs)
        assert powers == [1 << exponent for exponent in range(20)]
        while len(read) < 4:
            await asyncio.sleep(0)
        loop.remove_reader(ready)
        ready.close()
        peer.close()
        results[echoed, fired, bytes(read)] += 1

    def run(number):
        loop = loop_factory()
        try:
            loop.run_until_complete(everything(loop, number))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    for number in range(LOOPS):
        team.start(run, number)
    team.join()
    assert results == {(3 * sum(1 + step * 997 % 5000 for step in range(30)), 66, b"seen"): LOOPS}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["close", "abort"])
def test_transports_that_other_threads_have_closed_are_lost_once(loops, way):
    connections = 20

    async def connect():
        loop = asyncio.get_running_loop()
        served = []

        def factory():
            served.append(Recorder())
            return served[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [(await loop.create_connection(Recorder, *address))[1] for _ in range(connections)]
        for client in clients:
            client.transport.write(b"x" * 1000)
        while len(served) < connections:
            await asyncio.sleep(0)
        return server, clients, served

    async def lost(server, clients, served):
        for protocol in clients + served:
            await protocol.lost
            assert protocol.events.count("lost") == 1
        server.close()
        await server.wait_closed()

    parts = [it.ask(connect()) for it in loops]

    def close(_who):
        for it, (_server, clients, _served) in zip(loops, parts, strict=True):
            for client in clients:
                it.loop.call_soon_threadsafe(getattr(client.transport, way))

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(close, range(3)))
    for it, part in zip(loops, parts, strict=True):
        it.ask(lost(*part))


@pytest.mark.slow
def test_watched_sockets_that_other_threads_write_to(loops):
    messages = 200
    pairs = [socket.socketpair() for _ in loops]
    seen = [bytearray() for _ in loops]

    async def watch(index):
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        read, _ = pairs[index]
        read.setblocking(False)

        def receive():
            seen[index].extend(read.recv(16))
            if len(seen[index]) == messages:
                loop.remove_reader(read)
                done.set_result(None)

        loop.add_reader(read, receive)
        await done

    def write(index):
        for number in range(messages):
            pairs[index][1].send(bytes([number]))

    with concurrent.futures.ThreadPoolExecutor(len(loops)) as pool:
        waiting = [asyncio.run_coroutine_threadsafe(watch(index), it.loop) for index, it in enumerate(loops)]
        list(pool.map(write, range(len(loops))))
        for future in waiting:
            future.result(50)
    for data, pair in zip(seen, pairs, strict=True):
        assert data == bytes(range(messages))
        for sock in pair:
            sock.close()


def test_a_loop_that_is_made_run_and_closed_by_three_threads(team, loop_factory):
    loop = loop_factory()
    seen = []

    async def main():
        handle = loop.call_later(60, seen.append, "never")
        await asyncio.sleep(0.001)
        seen.append("ran")
        return handle

    handles = []
    team.start(lambda: handles.append(loop.run_until_complete(main())))
    team.join()
    team.start(lambda: handles.append(loop.run_until_complete(main())))
    team.join()
    team.start(loop.close)
    team.join()
    for handle in handles:
        handle.cancel()
    assert seen == ["ran", "ran"]
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(seen.append, "late")
