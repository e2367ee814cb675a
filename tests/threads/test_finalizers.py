"""What dies while loops run in threads: its finalizer may use the loop."""

from __future__ import annotations

import asyncio
import collections
import functools
import socket

import pytest

from tests.support.threads import LOOPS


class Dying:
    """Notes where it was when it died, and uses the loop then."""

    def __init__(self, finalized, loop, place, transport=None):
        self.finalized, self.loop, self.place, self.transport = finalized, loop, place, transport

    def __call__(self, *_arguments, **_keywords):
        return None

    def __del__(self):
        loop, transport = self.loop, self.transport
        self.finalized.append(self.place)
        loop.call_soon_threadsafe(int)
        loop.is_running()
        loop.remove_reader(0)
        loop.get_task_factory()
        repr(transport)
        if transport is not None:
            transport.is_closing()
            transport.get_extra_info("socket")
            transport.get_write_buffer_size()


class DyingProtocol(Dying, asyncio.Protocol):
    pass


@pytest.mark.slow
def test_finalizers_may_use_the_loop_wherever_an_object_dies(loops, collect_the_rest):
    """What asyncio drops, it drops while nothing is locked: the finalizer may call any method of the loop's."""
    finalized = []

    async def drop():
        loop = asyncio.get_running_loop()
        dying = functools.partial(Dying, finalized, loop)
        ours, theirs = socket.socketpair()
        for _ in range(20):
            loop.call_soon(dying("ran"))
            loop.call_soon(int, dying("argument")).cancel()
            loop.call_soon(dying("cancelled")).cancel()
            loop.call_later(60, dying("timer")).cancel()
            loop.add_reader(ours, dying("reader"))
            loop.add_reader(ours, dying("reader"))
            loop.remove_reader(ours)
            loop.set_task_factory(dying("task factory"))
            loop.set_task_factory(None)
            cycle = [dying("cycle")]
            cycle.append(cycle)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        for _ in range(20):
            transport.set_protocol(DyingProtocol(finalized, loop, "protocol", transport))
        transport.set_protocol(asyncio.Protocol())
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(transport.get_extra_info("socket"), dying("refused reader"))
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)

    for it in loops:
        it.ask(drop())
    collect_the_rest()
    assert collections.Counter(finalized) == {
        **dict.fromkeys(("ran", "argument", "cancelled", "timer", "task factory", "cycle", "protocol"), 20 * LOOPS),
        "reader": 40 * LOOPS,
        "refused reader": LOOPS,
    }
