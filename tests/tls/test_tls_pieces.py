"""Writes in pieces over TLS: what one callback writes may leave together, and nobody can tell."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.builds import whole_calls
from tests.support.bulk import pattern
from tests.support.protocols import close_all
from tests.support.turns import learned_to_wait, turn
from tests.support.water_marks import KIB
from tests.tls.peers import connected_pair

PIECES = [b"one ", b"record ", b"each"]


def write_pieces(transport: asyncio.WriteTransport) -> None:
    for piece in PIECES:
        transport.write(piece)


async def learned_pair(tls):
    """A connection whose client has written in pieces before."""
    client, peer, server = await connected_pair(tls)
    for _ in range(3):
        write_pieces(client.transport)
        await peer.received(len(b"".join(PIECES)))
        peer.data.clear()
    return client, peer, server


def test_what_is_written_in_pieces_is_not_in_the_buffer(run, tls, modern):
    async def main():
        client, peer, server = await learned_pair(tls)
        write_pieces(client.transport)
        assert client.transport.get_write_buffer_size() == 0
        write_pieces(client.transport)
        assert await peer.received(30) == b"".join(PIECES * 2)
        await close_all(client, peer, server)

    run(main)


# What the socket does not take at once, abort() drops.
@pytest.mark.parametrize("end", ["close", pytest.param("abort", marks=whole_calls)])
def test_what_is_written_in_pieces_leaves_before_the_end(run, tls, end):
    async def main():
        client, peer, server = await learned_pair(tls)
        write_pieces(client.transport)
        getattr(client.transport, end)()
        await peer.lost
        assert bytes(peer.data) == b"".join(PIECES)
        await close_all(client, peer, server)

    run(main)


@whole_calls
@pytest.mark.parametrize("end", ["close", "abort", "write"])
def test_answers_that_are_apart_leave_in_a_row_and_before_the_end(run, tls, loop_name, end):
    async def main():
        made = [await connected_pair(tls) for _ in range(4)]
        transports = [client.transport for client, _peer, _server in made]
        first_peer = made[0][1].transport.get_extra_info("socket")
        written = 0

        async def receive_all():
            nonlocal written
            written += 1
            for _client, peer, _server in made:
                await peer.received(written)

        if loop_name == "ironloop":
            assert await learned_to_wait(transports, first_peer, receive_all)

        def look():
            for transport in transports:
                transport.write(b"last") if end == "write" else getattr(transport, end)()

        await turn(transports, b"answer", look)
        expected = b"w" * written + b"answer" + (b"last" if end == "write" else b"")
        for client, peer, server in made:
            assert await peer.received(len(expected)) == expected
            await close_all(client, peer, server)

    run(main)


def test_pieces_of_one_callback_and_of_the_next_keep_their_order(run, tls):
    async def main():
        client, peer, server = await learned_pair(tls)
        data = pattern(3_000_000)
        steps = [100, 64 * KIB, 5, 300_000, 70_000]
        loop, sent, expected = asyncio.get_running_loop(), 0, 0
        while sent < len(data):
            for step in steps:
                client.transport.write(data[sent : sent + step])
                sent += step
            loop.call_soon(client.transport.write, b"next")
            assert await peer.received(min(sent, len(data)) - expected + 4) == data[expected:sent] + b"next"
            peer.data.clear()
            expected = sent
        await close_all(client, peer, server)

    run(main)
