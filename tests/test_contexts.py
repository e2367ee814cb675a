"""In which context each callback of a stream runs: who made the transport, or last did something to it, decides.

Since Python 3.15 a stream transport has a context of its own, a copy of its creator's, and all that it calls on its
own account runs there; the protocol of a client is made in the context of its creator. Before 3.15 each callback ran in
a copy of the context of what led to it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from tests.support.certificate import client_context, server_context
from tests.support.contexts import Trail, in_context, variable
from tests.support.protocols import Echo, Recorder, close_all, connected_pair

#: Stream transports have a context of their own.
OWN = sys.version_info >= (3, 15)


class BufferedTrail(Trail, asyncio.BufferedProtocol):
    def __init__(self):
        super().__init__()
        self._buffer = bytearray(100)

    def get_buffer(self, sizehint):
        self._step("buffer")
        return self._buffer

    def buffer_updated(self, nbytes):
        self.data_received(bytes(self._buffer[:nbytes]))


async def connect(loop, factory, server):
    """A client that was made in the context "creator"; its protocol."""
    address = server.sockets[0].getsockname()
    if isinstance(address, tuple):
        _, client = await in_context("creator", loop.create_connection, factory, *address)
    else:
        _, client = await in_context("creator", loop.create_unix_connection, factory, address)
    return client


async def send(client, data, answer):
    client.transport.write(data)
    await client.received(answer)


@pytest.fixture(params=["tcp", "unix"])
def start_server(request, loop, tmp_path):
    async def start(factory):
        if request.param == "tcp":
            return await loop.create_server(factory, "127.0.0.1", 0)
        return await loop.create_unix_server(factory, str(tmp_path / "socket"))

    return start


def test_a_client_has_the_context_of_its_creator(run, loop, start_server):
    async def main():
        server = await start_server(Echo)
        client = await connect(loop, Trail, server)
        await in_context("writer", send, client, b"x", 1)
        await in_context("writer", send, client, b"x", 2)
        await in_context("closer", client.transport.close)
        await client.lost
        assert client.trail == [
            ("factory", "creator"),
            ("made", "creator" if OWN else "factory"),
            ("data", "made" if OWN else "factory"),
            ("data", "data"),
            ("lost", "data" if OWN else "closer"),
        ]
        await close_all(server)

    run(main)


def test_the_buffer_is_asked_for_where_its_data_is_announced(run, loop, start_server):
    async def main():
        server = await start_server(Echo)
        client = await connect(loop, BufferedTrail, server)
        await in_context("writer", send, client, b"x", 1)
        # asyncio asks when there is something to read; nobody promises that it asks once. The first of each counts.
        steps = dict(reversed(client.trail))
        assert steps["buffer"] == ("made" if OWN else "factory")
        assert steps["data"] == "buffer"
        await close_all(client, server)

    run(main)


def test_the_end_of_the_stream_comes_where_data_came(run, loop, start_server):
    async def main():
        server = await start_server(Echo)
        client = await connect(loop, Trail, server)
        await in_context("writer", send, client, b"x", 1)
        await in_context("half closer", client.transport.write_eof)
        await client.lost
        assert client.trail[2:] == [("data", "made" if OWN else "factory"), ("eof", "data"), ("lost", "eof")]
        await close_all(server)

    run(main)


def test_an_accepted_connection_has_a_copy_of_the_context_of_its_server(run, loop, start_server):
    accepted = []

    def factory():
        accepted.append(Trail())
        return accepted[-1]

    async def visit(server):
        client = await connect(loop, Recorder, server)
        while len(accepted) < 1 or not accepted[-1].made.done():
            await asyncio.sleep(0)
        client.transport.write(b"x")
        await accepted[-1].received(1)
        await close_all(client)
        await accepted[-1].lost

    async def main():
        server = await in_context("server", start_server, factory)
        for _ in range(2):
            await in_context("visitor", visit, server)
            assert accepted.pop().trail == [
                ("factory", "server"),
                ("made", "factory"),
                ("data", "made" if OWN else "factory"),
                ("eof", "data"),
                ("lost", "eof"),
            ]
        assert variable.get() == "none"
        await close_all(server)

    run(main)


def test_a_server_that_starts_later_keeps_the_context_of_its_creator_from_3_15_on(run, loop):
    async def main():
        served = loop.create_future()

        def factory():
            protocol = Trail()
            served.set_result(protocol)
            return protocol

        async def create():
            return await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)

        server = await in_context("creator", create)
        await in_context("starter", server.start_serving)
        client = await connect(loop, Recorder, server)
        peer = await served
        await peer.made
        assert peer.trail[0] == ("factory", "creator" if OWN else "starter")
        await close_all(client, peer, server)

    run(main)


def test_a_failing_factory_is_reported_in_the_context_of_the_connection(run, loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop reports it in debug mode only, and leaves the connection to the collector")

    async def main():
        reported = loop.create_future()
        loop.set_exception_handler(lambda _loop, context: reported.set_result((context["message"], variable.get())))

        def factory():
            variable.set("factory")
            raise LookupError

        server = await in_context("server", lambda: loop.create_server(factory, "127.0.0.1", 0))
        with socket.create_connection(server.sockets[0].getsockname()):
            assert await reported == ("Error on transport creation for incoming connection", "factory")
        await close_all(server)

    run(main)


def fill(client, pieces):
    """Write more than the socket takes."""
    client.transport.set_write_buffer_limits(high=1000, low=100)
    for _ in range(pieces):
        client.transport.write(b"x" * (8_000_000 // pieces))


@pytest.mark.parametrize("pieces", [1, 1000])
def test_a_writer_is_paused_in_its_own_context_and_resumed_in_that_of_the_transport(run, loop, pieces):
    async def main():
        paused = loop.create_future()

        class Slow(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.pause_reading()
                paused.set_result(self)

        server = await loop.create_server(Slow, "127.0.0.1", 0)
        client = await connect(loop, Trail, server)
        peer = await paused
        await in_context("writer", fill, client, pieces)
        assert client.trail[2:] == [("pause", "writer")]
        await in_context("closer", client.transport.close)
        await in_context("reader", peer.transport.resume_reading)
        assert await client.lost is None
        # Before 3.15: a copy of the context as it was when the socket was found full, before the pause.
        assert client.trail[3:] == [("resume", "made" if OWN else "writer"), ("lost", "resume")]
        await peer.lost
        await close_all(server)

    run(main)


def test_what_was_held_until_the_end_of_a_callback_pauses_in_the_context_of_the_callback(run, loop):
    """Two small pieces behind a full socket: a native transport sends them together, when the callback is over."""

    def write_in_pieces(client):
        client.transport.write(b"x" * 10)
        client.transport.write(b"x" * 10)

    def fill_socket(client):
        with socket.socket(fileno=os.dup(client.transport.get_extra_info("socket").fileno())) as sock:
            try:
                while True:
                    sock.send(b"x" * 10_000)
            except BlockingIOError:
                pass

    async def main():
        client, peer, server = await connected_pair(Trail)
        # It learns that pieces are to be expected.
        await in_context("teacher", write_in_pieces, client)
        await in_context("teacher", write_in_pieces, client)
        await peer.received(40)
        peer.transport.pause_reading()
        fill_socket(client)
        client.transport.set_write_buffer_limits(high=1, low=0)
        del client.trail[:]
        await in_context("writer", write_in_pieces, client)
        assert client.trail == [("pause", "writer")]
        await close_all(client, peer, server)

    run(main)


def test_data_after_a_pause_comes_in_the_context_of_who_resumed(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        client = await connect(loop, Trail, server)
        await in_context("writer", send, client, b"x", 1)
        client.transport.pause_reading()
        await in_context("resumer", client.transport.resume_reading)
        await in_context("writer", send, client, b"x", 2)
        assert client.trail[2:] == [
            ("data", "made" if OWN else "factory"),
            ("data", "data" if OWN else "resumer"),
        ]
        await close_all(client, server)

    run(main)


def test_an_abort_is_told_in_the_context_of_the_transport_or_of_who_aborted(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        client = await connect(loop, Trail, server)
        await in_context("aborter", client.transport.abort)
        await client.lost
        assert client.trail[2:] == [("lost", "made" if OWN else "aborter")]
        await close_all(server)

    run(main)


def test_debug_mode_keeps_the_contexts(run, loop):
    loop.set_debug(True)

    async def main():
        server = await in_context("server", lambda: loop.create_server(Echo, "127.0.0.1", 0))
        client = await connect(loop, Trail, server)
        await in_context("writer", send, client, b"x", 1)
        await in_context("closer", client.transport.close)
        await client.lost
        assert client.trail == [
            ("factory", "creator"),
            ("made", "creator" if OWN else "factory"),
            ("data", "made" if OWN else "factory"),
            ("lost", "data" if OWN else "closer"),
        ]
        await close_all(server)

    run(main)


def test_a_socket_that_was_accepted_elsewhere_has_the_context_of_its_creator(run, loop):
    async def main():
        ours, theirs = socket.socketpair()
        _, peer = await in_context("creator", loop.connect_accepted_socket, Trail, ours)
        with theirs:
            theirs.send(b"x")
            await peer.received(1)
        await peer.lost
        assert peer.trail == [
            ("factory", "creator"),
            ("made", "creator" if OWN else "factory"),
            ("data", "made" if OWN else "factory"),
            ("eof", "data"),
            ("lost", "eof"),
        ]

    run(main)


def test_the_protocol_over_tls_has_the_context_of_the_transport_below(run, loop):
    accepted = []

    def factory():
        accepted.append(Trail())
        return accepted[-1]

    async def main():
        tls = server_context()
        server = await in_context("server", lambda: loop.create_server(factory, "127.0.0.1", 0, ssl=tls))
        address = server.sockets[0].getsockname()
        _, client = await in_context("creator", lambda: loop.create_connection(Trail, *address, ssl=client_context()))
        (peer,) = accepted
        await peer.made
        for count in (1, 2):
            client.transport.write(b"x")
            await peer.received(count)
            peer.transport.write(b"x")
            await client.received(count)
        assert client.trail == [
            ("factory", "creator"),
            ("made", "creator" if OWN else "factory"),
            ("data", "made"),
            ("data", "data"),
        ]
        assert peer.trail == [("factory", "server"), ("made", "factory"), ("data", "made"), ("data", "data")]
        client.transport.close()
        await client.lost
        await peer.lost
        peer.transport.close()  # Python 3.10 wants it said
        await close_all(server)

    run(main)
