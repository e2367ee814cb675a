"""Turns of callbacks that write to several peers, and take their time."""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

#: What a callback takes at the least, in nanoseconds: enough to be worth it, and so little that there are many turns
#: until this process has to let others run, which looks like a slow callback.
BUSY_NS = 14_000
#: Turns until what is written must have waited: some thousand times as many as it takes on a quiet machine.
PATIENCE = 150_000


def waiting(sock: socket.socket) -> int:
    """How many bytes can be received (FIONREAD)."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return count[0]


def write_and_be_busy(transport: asyncio.WriteTransport, data: bytes) -> None:
    transport.write(data)
    until = time.perf_counter_ns() + BUSY_NS
    while time.perf_counter_ns() < until:
        pass


async def turn(transports: Sequence[asyncio.WriteTransport], data: bytes, look: Callable[[], Any]) -> Any:
    """Writes to each, in a callback of its own, and returns what `look` returns in the same turn."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    for transport in transports:
        loop.call_soon(write_and_be_busy, transport, data)
    loop.call_soon(lambda: done.set_result(look()))
    return await done


async def learned_to_wait(
    transports: Sequence[asyncio.WriteTransport], first_peer: socket.socket, receive_all: Callable[[], Any]
) -> bool:
    """Turns until what is written waits for the end of its turn; False: it never did."""
    for _ in range(PATIENCE):
        held = await turn(transports, b"w", lambda: waiting(first_peer) == 0)
        await receive_all()
        if held:
            return True
    return False
