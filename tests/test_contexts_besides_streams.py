"""In which context datagrams, pipes, watchers and callbacks run: that of who made the transport, or added them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket

import pytest

from tests.support.contexts import Trail, in_context, variable


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.trail = []
        self.changed = asyncio.Event()

    def _step(self, name):
        self.trail.append((name, variable.get()))
        variable.set(name)
        self.changed.set()

    def connection_made(self, transport):
        self._step("made")

    def datagram_received(self, data, addr):
        self._step("datagram")

    def connection_lost(self, exc):
        self._step("lost")

    async def steps(self, count):
        while len(self.trail) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.trail


def test_datagrams_come_in_the_context_of_the_creator(run, loop):
    """On all versions: a datagram transport has no context of its own."""

    async def main():
        local = ("127.0.0.1", 0)
        transport, protocol = await in_context(
            "creator", lambda: loop.create_datagram_endpoint(Datagrams, local_addr=local)
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for number in range(2):
                peer.sendto(b"x", transport.get_extra_info("sockname"))
                await protocol.steps(2 + number)
        await in_context("closer", transport.close)
        assert await protocol.steps(4) == [
            ("made", "creator"),
            ("datagram", "creator"),
            ("datagram", "datagram"),
            ("lost", "closer"),
        ]

    run(main)


def test_pipes_are_read_in_the_context_of_the_creator(run, loop):
    async def main():
        read, write = os.pipe()
        _, protocol = await in_context("creator", lambda: loop.connect_read_pipe(Trail, os.fdopen(read, "rb")))
        for count in (1, 2):
            os.write(write, b"x")
            await protocol.received(count)
        os.close(write)
        await protocol.lost
        assert protocol.trail == [
            ("factory", "creator"),
            ("made", "factory"),
            ("data", "factory"),
            ("data", "data"),
            ("eof", "data"),
            ("lost", "data"),
        ]

    run(main)


def test_watchers_and_callbacks_run_in_the_context_of_who_added_them(run, loop):
    async def main():
        seen = []
        done = loop.create_future()
        ours, theirs = socket.socketpair()

        def note(name):
            seen.append((name, variable.get()))
            if len(seen) == 4:
                done.set_result(None)

        def add():
            loop.call_soon(note, "soon")
            loop.call_later(0.01, note, "timer")
            loop.call_soon_threadsafe(note, "threadsafe")
            loop.add_writer(ours, lambda: (note("writer"), loop.remove_writer(ours)))

        await in_context("adder", add)
        await done
        assert sorted(seen) == [(name, "adder") for name in ("soon", "threadsafe", "timer", "writer")]
        with pytest.raises(TypeError):
            loop.add_reader(ours, note, context=contextvars.copy_context())
        ours.close()
        theirs.close()

    run(main)
