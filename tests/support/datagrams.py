"""Datagram endpoints that remember what happened to them, and sockets for the other end."""

from __future__ import annotations

import asyncio
import socket

LOCAL = ("127.0.0.1", 0)


class Boom(Exception):
    """What the callbacks raise."""


class Endpoint(asyncio.DatagramProtocol):
    """Notes every event, in order, and lets a test wait for the next one."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.events = []
        self.datagrams = []
        self.errors = []
        self.transport = None
        self.lost = self.loop.create_future()
        self._changed = asyncio.Event()

    def _note(self, event):
        self.events.append(event)
        self._changed.set()

    def connection_made(self, transport):
        self.transport = transport
        self._note("made")

    def datagram_received(self, data, addr):
        assert type(data) is bytes
        self.datagrams.append((data, addr))
        self._note("datagram")

    def error_received(self, exc):
        assert isinstance(exc, OSError)
        self.errors.append(exc)
        self._note("error")

    def pause_writing(self):
        self._note("pause")

    def resume_writing(self):
        self._note("resume")

    def connection_lost(self, exc):
        self._note("lost")
        self.lost.set_result(exc)

    async def seen(self, event, count=1):
        """Wait until `event` has come `count` times in all."""
        while self.events.count(event) < count:
            self._changed.clear()
            await self._changed.wait()

    async def received(self, count):
        """Wait until `count` datagrams have come in all, and return what they hold."""
        await self.seen("datagram", count)
        return [data for data, _ in self.datagrams]

    @property
    def address(self):
        return self.transport.get_extra_info("sockname")


class Echo(Endpoint):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def opened(factory=Endpoint, local_addr=None, remote_addr=None, **arguments):
    """A protocol whose transport is open; bound to a free port of 127.0.0.1 if nothing else is said."""
    if not (local_addr or remote_addr or arguments):
        local_addr = LOCAL
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(factory, local_addr, remote_addr, **arguments)
    assert protocol.transport is transport
    return protocol


async def close(*protocols):
    for protocol in protocols:
        protocol.transport.abort()
        await protocol.lost


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def plain(address=LOCAL, family=socket.AF_INET):
    """A bound socket without a transport, for the other end."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.setblocking(False)
    return sock


def deaf():
    """A socket bound to an address where others are refused, as it is connected to somewhere else."""
    sock = plain()
    sock.connect(("127.0.0.1", 9))
    return sock


def fill(transport, size=1, address=None, sent=()):
    """Send numbered datagrams of 100 bytes, after those in `sent`, until at least `size` bytes of them are queued."""
    sent = [*sent]
    while transport.get_write_buffer_size() < size:
        sent.append(b"%0100d" % len(sent))
        transport.sendto(sent[-1], address)
        assert len(sent) < 100_000
    return sent


async def filled(transport, size):
    """As `fill`, and as many stay queued: the kernel may have had room for those that it refused first."""
    sent = []
    while transport.get_write_buffer_size() < size:
        sent = fill(transport, size, sent=sent)
        for _ in range(5):
            await asyncio.sleep(0.001)
    return sent


async def emptied(transport):
    """Wait until the kernel has taken everything; with room for it, that is when `sendto` returns."""
    while transport.get_write_buffer_size():
        await asyncio.sleep(0)


async def drained(sock, count):
    loop = asyncio.get_running_loop()
    return [await loop.sock_recv(sock, 1 << 18) for _ in range(count)]
