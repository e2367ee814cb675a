"""`sock_recv`, `sock_sendall` and their like: one attempt at once, and one whenever there is something to attempt.

An attempt on a plain socket is native. What is not plain (another class, debug mode, a descriptor that somebody else
watches) is done, or refused, by `_receive` and by asyncio's own code.

A call that is cancelled has taken nothing from the kernel. Part of `Loop`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import base_events

from . import _receive
from ._static import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._loop import Loop


class PlainSockets(asyncio.SelectorEventLoop):
    """The methods of a loop that work on plain sockets."""

    # Native.
    _try_recv: Callable[..., Any]
    _try_recv_into: Callable[..., Any]
    _try_send: Callable[..., Any]
    _try_connect: Callable[..., Any]
    _connect_outcome: Callable[..., Any]
    _wait_for_socket: Callable[..., Any]

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; b"" is the end of the stream."""
        while True:
            got = self._try_recv(sock, n)
            if type(got) is bytes:
                return got
            if got is NotImplemented:
                _receive.check(cast("Loop", self), sock)
                return cast(bytes, await _receive.when_readable(cast("Loop", self), sock, sock.recv, n))
            await got

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a writable buffer; returns how many bytes, 0 at the end of the stream."""
        while True:
            got = self._try_recv_into(sock, buf)
            if type(got) is int:
                return got
            if got is NotImplemented:
                _receive.check(cast("Loop", self), sock)
                return cast(int, await _receive.when_readable(cast("Loop", self), sock, sock.recv_into, buf))
            await got

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of data. If it fails there is no telling how much of it was sent."""
        sent = self._try_send(sock, data, 0)
        if sent is NotImplemented:
            return await super().sock_sendall(sock, data)
        if sent == len(data):
            return None
        with memoryview(data) as view:  # meanwhile it keeps its size
            while True:
                waiter = self._wait_for_socket(sock, True)
                if waiter is not NotImplemented:
                    await waiter
                more = self._try_send(sock, data, sent)
                if waiter is NotImplemented or more is NotImplemented:
                    with view[sent:] as rest:
                        return await super().sock_sendall(sock, rest)
                sent += more
                if sent == len(view):
                    return None

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket to an address; a name is looked up first."""
        if type(sock) is not socket.socket or self.get_debug() or sock.gettimeout() != 0:
            return await super().sock_connect(sock, address)
        family = sock.family
        if family == socket.AF_INET or (family == socket.AF_INET6 and base_events._HAS_IPv6):  # type: ignore[attr-defined]
            found = await self._ensure_resolved(  # type: ignore[attr-defined]
                address, family=family, type=sock.type, proto=sock.proto, loop=self
            )
            address = found[0][4]
        connected = self._try_connect(sock, address)
        if connected is True:
            return None
        if connected is False:
            await asyncio.sleep(0)  # Who tries in vain again and again lets others run.
            while (waiter := self._connect_outcome(sock, address)) is not NotImplemented:
                if waiter is None:
                    return None
                await waiter
        return await super().sock_connect(sock, address)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; returns a socket that does not block, and the peer's address.

        Who is cancelled has accepted nothing: the connection is left to the next one.
        """
        accepted = await self._attempts(sock, False, sock.accept)
        if accepted is NotImplemented:
            _receive.check(cast("Loop", self), sock)
            accepted = await _receive.when_readable(cast("Loop", self), sock, sock.accept)
        conn, address = accepted
        conn.setblocking(False)
        return conn, address

    if sys.version_info >= (3, 11):

        async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> Any:
            """Receive a datagram of up to bufsize bytes; returns it and the sender's address."""
            got = await self._attempts(sock, False, sock.recvfrom, bufsize)
            return await super().sock_recvfrom(sock, bufsize) if got is NotImplemented else got

        async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> Any:
            """Receive a datagram into a writable buffer; returns its size and the sender's address."""
            got = await self._attempts(sock, False, sock.recvfrom_into, buf, nbytes)
            return await super().sock_recvfrom_into(sock, buf, nbytes) if got is NotImplemented else got

        async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
            """Send a datagram; returns how many bytes were sent."""
            sent = await self._attempts(sock, True, sock.sendto, data, address)
            return cast(int, await super().sock_sendto(sock, data, address) if sent is NotImplemented else sent)

    async def _attempts(self, sock: socket.socket, for_writing: bool, function: Callable[..., Any], *args: Any) -> Any:
        """What function(*args) returns once it does not block; NotImplemented if sock is not plain."""
        if type(sock) is not socket.socket or self.get_debug():
            return NotImplemented
        while True:
            try:
                return function(*args)
            except InterruptedError:
                continue
            except BlockingIOError:
                waiter = self._wait_for_socket(sock, for_writing)
            if waiter is NotImplemented:
                return NotImplemented
            await waiter
