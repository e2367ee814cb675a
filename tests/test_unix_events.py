"""Unix sockets, however they are watched: nothing stays behind descriptors, and what nobody wants wakes nobody."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.protocols import HalfOpen, Recorder, close_all

LARGE = 8 << 20


@pytest.fixture
def pair():
    """A socket for a transport, and its peer, which blocks."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


async def some_turns():
    for _ in range(10):
        await asyncio.sleep(0)


async def pause_for_a_while(protocol, peer):
    """Something comes meanwhile."""
    protocol.transport.pause_reading()
    peer.send(b"first")
    await some_turns()
    protocol.transport.resume_reading()


async def fill_the_socket(protocol, peer):
    """Until the peer has taken it all, there is more to send than the kernel has room for."""

    def take():
        left = LARGE
        while left:
            left -= len(peer.recv(left))

    protocol.transport.write(bytes(LARGE))
    assert protocol.transport.get_write_buffer_size()
    await some_turns()
    await asyncio.get_running_loop().run_in_executor(None, take)
    peer.send(b"first")


@pytest.mark.parametrize("unusual", [pause_for_a_while, fill_the_socket])
def test_what_is_sent_behind_descriptors_comes_after_something_unusual_as_well(run, loop, pair, unusual):
    ours, peer = pair

    async def main():
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        await unusual(protocol, peer)
        await protocol.received(5)
        for _ in range(3):
            before = len(protocol.data)
            socket.send_fds(peer, [b"before"], [peer.fileno()])
            peer.send(b"behind")
            assert (await protocol.received(before + 12))[before:] == b"beforebehind"
        await close_all(protocol)

    run(main)


def test_more_than_a_read_takes_comes_whole_and_lets_others_run(run, loop, pair):
    ours, peer = pair

    async def main():
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        message = bytes(index % 251 for index in range(1 << 20))
        sending = loop.run_in_executor(None, peer.sendall, message)
        assert await protocol.received(len(message)) == message
        await sending
        peer.shutdown(socket.SHUT_WR)
        await protocol.lost
        assert protocol.events == ["made", "data", "eof", "lost"]

    run(main)


@pytest.mark.parametrize("state", ["paused", "half-closed", "paused, and the peer is gone"])
def test_what_nobody_wants_wakes_nobody(loop_name, run, loop, pair, state):
    if loop_name != "ironloop":
        pytest.skip("CPython's loop does not count its events")
    ours, peer = pair

    async def main():
        _, protocol = await loop.create_connection(HalfOpen, sock=ours)
        await some_turns()
        if state != "half-closed":
            protocol.transport.pause_reading()
            peer.send(b"unwanted")
        if state == "paused, and the peer is gone":
            peer.close()
        elif state == "half-closed":
            peer.shutdown(socket.SHUT_WR)
            await protocol.ended
        before = loop.metrics().io_events
        await asyncio.sleep(0.02)
        assert loop.metrics().io_events - before < 10
        await close_all(protocol)

    run(main)
