"""Accepting and receiving on plain sockets: what a cancelled call does not return stays in the kernel.

asyncio takes the connection or the data when the socket is readable, in a callback, and hands it over by way of a
future; what comes as the caller is cancelled is lost then. Here the callback only wakes the caller, who takes it
himself: nothing comes between taking and returning.

The reader is registered while a call waits. Not for sockets that belong to a transport.
"""

from __future__ import annotations

from asyncio import base_events

from ._static import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from typing import Any

    from ._loop import Loop


def check(loop: Loop, sock: socket.socket) -> None:
    """What asyncio checks first. TypeError for a TLS socket; ValueError, in debug mode, for one that blocks."""
    cast("Any", base_events)._check_ssl_socket(sock)
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


async def when_readable(loop: Loop, sock: socket.socket, take: Callable[..., Any], *args: Any) -> Any:
    """Return `take(*args)` as soon as it does not raise BlockingIOError."""
    while True:
        try:
            return take(*args)
        except (BlockingIOError, InterruptedError):
            await _readable(loop, sock)


async def _readable(loop: Loop, sock: socket.socket) -> None:
    fd = sock.fileno()
    loop._ensure_fd_no_transport(fd)
    ready = loop.create_future()
    handle = loop._add_reader(fd, _wake, ready)
    try:
        await ready
    finally:
        # A cancelled handle has been replaced by a reader of somebody else.
        if not handle.cancelled():
            loop._remove_reader(fd)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
