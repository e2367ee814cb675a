"""Whose descriptor is it: no byte for the wrong client, no event for a number that was used again."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from tests.support.protocols import Recorder, close_all, connected_pair


def test_an_event_of_a_descriptor_that_was_closed_in_the_same_turn_is_dropped(run, loop):
    """Two sockets are ready; the first one's callback closes the second, and a new one takes its number."""

    async def main():
        one, one_peer = socket.socketpair()
        two, two_peer = socket.socketpair()
        for sock in (one, two):
            sock.setblocking(False)
        number = two.fileno()
        replaced = []
        seen = []

        def first():
            one.recv(100)
            if replaced:
                return
            loop.remove_reader(two)
            two.close()
            new, new_peer = socket.socketpair()
            assert number in (new.fileno(), new_peer.fileno())
            if new.fileno() != number:
                new, new_peer = new_peer, new
            new.setblocking(False)
            replaced.extend((new, new_peer))
            loop.add_reader(new, lambda: seen.append(new.recv(100)))

        loop.add_reader(one, first)
        loop.add_reader(two, lambda: seen.append(two.recv(100)))
        one_peer.send(b"x")
        two_peer.send(b"old")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert b"old" not in seen or not replaced
        before = list(seen)
        if replaced:
            replaced[1].send(b"new")
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert seen == [*before, b"new"]
            loop.remove_reader(replaced[0])
        else:
            loop.remove_reader(two)
        loop.remove_reader(one)
        for sock in (one, one_peer, two, two_peer, *replaced):
            sock.close()

    run(main)


def test_no_byte_reaches_another_protocol_while_numbers_are_used_again(run, loop):
    """Connections with payloads of their own come, are aborted and go, while a thread opens and closes files."""

    async def main():
        stop = threading.Event()

        def open_and_close():
            while not stop.is_set():
                fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
                for fd in fds:
                    os.close(fd)

        class EchoOne(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.transport.write(data)

        server = await loop.create_server(EchoOne, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        thread = threading.Thread(target=open_and_close)
        thread.start()
        try:

            async def client(number):
                payload = b"%08d" % number
                reader, writer = await asyncio.open_connection(*address)
                writer.write(payload * 10)
                if number % 3 == 0:
                    await asyncio.sleep(0)
                    writer.transport.abort()
                    return
                got = await reader.readexactly(80)
                assert got == payload * 10
                if number % 3 == 1:
                    writer.transport.abort()
                else:
                    writer.close()

            for start in range(0, 600, 30):
                await asyncio.gather(*(client(start + offset) for offset in range(30)))
        finally:
            stop.set()
            thread.join()
        await close_all(server)
        await asyncio.sleep(0.01)

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
