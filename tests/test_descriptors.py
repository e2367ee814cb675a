"""Whose descriptor is it: no byte for the wrong client, no event for a number that was used again."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.meddling import descriptors_of_another_thread
from tests.support.protocols import Recorder, close_all, connected_pair


@pytest.mark.parametrize("stale", ["data", "end", "room"])
@pytest.mark.parametrize("successor", ["watched", "transport"])
def test_an_event_of_a_descriptor_that_was_closed_in_the_same_turn_is_dropped(run, loop, stale, successor):
    """Two sockets have events. Whichever is first closes the other, whose number goes to a new connection at once."""

    async def main():
        pairs = [socket.socketpair() for _ in range(2)]
        for sock, _ in pairs:
            sock.setblocking(False)
        successors, seen, received = [], [], loop.create_future()
        remove = loop.remove_writer if stale == "room" else loop.remove_reader

        def ready(me, other):
            seen.append(me)
            remove(me)
            if remove(other):
                number = other.fileno()
                other.close()
                successors.extend(numbered_pair(number))
                begin(successors[0])

        def begin(sock):
            sock.setblocking(False)
            if successor == "watched":
                loop.add_reader(sock, lambda: received.set_result(sock.recv(100)))
            else:
                loop.create_task(loop.create_connection(lambda: protocol, sock=sock))

        protocol = Recorder()
        for (sock, peer), (other, _) in zip(pairs, reversed(pairs), strict=True):
            (loop.add_writer if stale == "room" else loop.add_reader)(sock, ready, sock, other)
            peer.close() if stale == "end" else peer.send(b"old")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert len(seen) == 1
        assert not received.done()
        successors[1].send(b"new")
        if successor == "watched":
            assert await received == b"new"
            loop.remove_reader(successors[0])
        else:
            assert await protocol.received(3) == b"new"
            assert protocol.events == ["made", "data"]
            await close_all(protocol)
        for sock in (*successors, *(sock for pair in pairs for sock in pair)):
            sock.close()

    run(main)


def numbered_pair(number):
    """A pair of connected sockets, the first of which has the descriptor `number`, which is the lowest that is free."""
    left, right = socket.socketpair()
    assert number in (left.fileno(), right.fileno())
    return (left, right) if left.fileno() == number else (right, left)


def test_events_of_a_connection_that_another_one_aborts_in_the_same_turn_are_dropped(run, loop):
    """Many have data at once; the first that is called aborts the others."""

    async def main():
        class Aborting(Recorder):
            def data_received(self, data):
                super().data_received(data)
                for other in peers:
                    if other is not self:
                        other.transport.abort()

        peers, clients = [], []
        for _ in range(10):
            client, peer = socket.socketpair()
            peer.setblocking(False)
            clients.append(client)
            peers.append((await loop.create_connection(Aborting, sock=peer))[1])
        for client in clients:
            client.send(b"old")
        while sum(peer.lost.done() for peer in peers) < 9:
            await asyncio.sleep(0)
        (first,) = (peer for peer in peers if peer.data)
        assert all(peer.events == ["made", "lost"] for peer in peers if peer is not first)
        assert first.events == ["made", "data"]
        await close_all(first)
        for client in clients:
            client.close()

    run(main)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_cancelled_connect_closes_the_socket_that_it_was_given_and_no_other(run, loop, turns):
    """However far it got, and although another thread opens and closes descriptors all the time."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener, descriptors_of_another_thread():
            for _ in range(100):
                sock = socket.create_connection(listener.getsockname())
                listener.accept()[0].close()
                sock.setblocking(False)
                task = loop.create_task(loop.create_connection(Recorder, sock=sock))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                if not turns:
                    sock.close()  # nothing has started
                if not task.cancelled():
                    task.result()[0].close()
                while sock.fileno() != -1:
                    await asyncio.sleep(0)

    run(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_the_descriptor_is_free_as_soon_as_the_connection_is_lost(run, end):
    async def main():
        client, peer, server = await connected_pair()
        sock = client.transport.get_extra_info("socket")
        fd = sock.fileno()
        getattr(client.transport, end)()
        await client.lost
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        await close_all(peer, server)

    run(main)


def test_a_transport_keeps_its_socket_when_the_users_object_goes(run, loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sock = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        sock.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        del sock
        accepted.sendall(b"still here")
        assert await protocol.received(10) == b"still here"
        accepted.close()
        await protocol.lost
        assert transport.is_closing()

    run(main)
