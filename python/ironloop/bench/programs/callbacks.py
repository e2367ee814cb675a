"""Work: callbacks, and descriptors watched with add_reader."""

from __future__ import annotations

import asyncio
import socket


async def call_soon_chain(count: int) -> None:
    """Each callback schedules the next."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def call_soon_burst(count: int) -> None:
    """A thousand callbacks at a time."""
    loop = asyncio.get_running_loop()

    def nothing() -> None:
        pass

    for _ in range(count // 1000):
        for _ in range(1000):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def add_reader(count: int) -> None:
    """A byte goes to and fro between the ends of a socket pair, both watched by this loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left, right = socket.socketpair()
    turns = count

    def pass_on(sock: socket.socket) -> None:
        nonlocal turns
        byte = sock.recv(1)
        turns -= 1
        if turns > 0:
            sock.send(byte)
        elif not done.done():
            done.set_result(None)

    for sock in (left, right):
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), pass_on, sock)
    left.send(b"x")
    await done
    for sock in (left, right):
        loop.remove_reader(sock.fileno())
        sock.close()
