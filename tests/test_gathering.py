"""Several writes of one callback leave in one packet: counted by the kernel (TCP_INFO, tcp(7))."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from tests.support.builds import whole_calls
from tests.support.protocols import Recorder, close_all, connected_pair
from tests.support.turns import waiting

ROUNDS = 50


def packets_with_data(transport):
    """How many segments with data the socket has sent: tcpi_data_segs_out in <linux/tcp.h>."""
    sock = transport.get_extra_info("socket")
    return struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 200), 156)[0]


class Answering(Recorder):
    """Answers each request with the pieces of `answer`."""

    answer = (b"header, ", b"body")

    def data_received(self, data):
        for piece in self.answer:
            self.transport.write(piece)


@whole_calls
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_an_answer_in_pieces_leaves_in_one_packet(run, pieces, loop_name):
    if loop_name == "asyncio" and pieces > 1:
        pytest.skip("CPython's transport sends each piece at once")

    class Server(Answering):
        answer = (b"%d" % pieces,) * pieces

    async def main():
        client, peer, server = await connected_pair(Recorder, Server)
        for number in range(1, ROUNDS + 1):
            client.transport.write(b"request")
            await client.received(number * pieces)
        # The first answer of a connection may be one packet more: the transport learns from it.
        assert ROUNDS <= packets_with_data(peer.transport) <= ROUNDS + 1
        await close_all(client, peer, server)

    run(main)


@whole_calls
def test_large_pieces_leave_256_kib_at_a_time(run, loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's transport sends each piece at once")

    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.write(b"in ")
        transport.write(b"pieces")
        await asyncio.sleep(0)
        assert peer.recv(100) == b"in pieces"
        seen = []
        for _ in range(4):
            transport.write(bytes(64 * 1024))
            seen.append(waiting(peer))
        assert seen[:3] == [0, 0, 0]
        assert seen[3] > 0
        peer.close()
        await close_all(protocol)

    run(main)
