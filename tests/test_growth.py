"""Whatever is done a thousand times, or fails a thousand times, leaves no reference, no block and no memory behind.

Counted are references where the interpreter does (debug builds), else the blocks of Python's allocator; and what malloc
has given out, where Rust's memory comes from. `IRONLOOP_SCALE=1` repeats the expensive operations as often as the rest.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
import warnings

import pytest

from tests.support.builds import FREE_THREADED
from tests.support.certificate import client_context, server_context
from tests.support.protocols import Echo

OFTEN = 1000
SELDOM = OFTEN if "IRONLOOP_SCALE" in os.environ else 100
MALLOC_SLACK = 64 * 1024
FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FREE_THREADED, reason="objects are freed by other threads, at any time"),
]


class Mallinfo(ctypes.Structure):
    """struct mallinfo2, see mallinfo(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def malloced():
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = Mallinfo
    found = library.mallinfo2()
    return found.uordblks + found.hblkhd


def counted():
    gc.collect()
    return getattr(sys, "gettotalrefcount", sys.getallocatedblocks)()


class Operations:
    """One repetition of each; the coroutines get the loop, and what `prepare` has made."""

    async def prepare(self, loop):
        self.loop = loop
        self.server = await loop.create_server(Echo, "127.0.0.1", 0)
        self.secure = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
        self.address = self.server.sockets[0].getsockname()
        self.trusting = client_context()

    async def finish(self):
        for server in (self.server, self.secure):
            server.close()
            await server.wait_closed()

    async def talk(self, reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()

    async def callbacks(self):
        loop = self.loop
        loop.call_soon(len, "x")
        loop.call_soon(len, "x").cancel()
        loop.call_soon_threadsafe(max, 1, 2)
        loop.call_later(0, len, "x")
        loop.call_later(1000, len, "x").cancel()
        loop.call_soon(int)
        await asyncio.sleep(0)

    async def failing_callbacks(self):
        self.loop.call_soon(lambda: 1 // 0)
        for wrong in ((), (None, len), ("soon", len)):
            with pytest.raises(TypeError):
                self.loop.call_later(*wrong)
        await asyncio.sleep(0)

    async def tasks(self):
        task = self.loop.create_task(asyncio.sleep(0, "done"))
        assert await task == "done"
        task = self.loop.create_task(asyncio.sleep(1000))
        task.cancel()
        await asyncio.wait([task])
        future = self.loop.create_future()
        future.set_result(1)
        await future

    async def executor(self):
        assert await self.loop.run_in_executor(None, len, "x") == 1
        with pytest.raises(ZeroDivisionError):
            await self.loop.run_in_executor(None, divmod, 1, 0)

    async def signals(self):
        self.loop.add_signal_handler(signal.SIGUSR1, len, "x")
        self.loop.remove_signal_handler(signal.SIGUSR1)

    async def sockets(self):
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            waiting = self.loop.create_task(self.loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            await self.loop.sock_sendall(right, b"x")
            assert await waiting == b"x"
            self.loop.add_reader(left, len, "x")
            self.loop.remove_reader(left)

    async def unix(self):
        left, right = socket.socketpair()
        transport, _ = await self.loop.create_connection(Echo, sock=right)
        await self.talk(*await asyncio.open_connection(sock=left))
        transport.abort()

    async def connections(self):
        await self.talk(*await asyncio.open_connection(*self.address))

    async def refused_connections(self):
        with pytest.raises(OSError):
            await self.loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
        with pytest.raises(ZeroDivisionError):
            await self.loop.create_connection(lambda: 1 // 0, *self.address)

    async def secure_connections(self):
        address = self.secure.sockets[0].getsockname()
        await self.talk(*await asyncio.open_connection(*address, ssl=self.trusting))

    async def started_tls(self):
        left, right = socket.socketpair()
        ours, protocol = await self.loop.create_connection(asyncio.Protocol, sock=left)
        peer, echo = await self.loop.create_connection(Echo, sock=right)
        secure = await asyncio.gather(
            self.loop.start_tls(ours, protocol, self.trusting, server_hostname="localhost"),
            self.loop.start_tls(peer, echo, server_context(), server_side=True),
        )
        for transport in secure:
            transport.abort()
        await echo.lost

    async def failed_handshakes(self):
        with pytest.raises(OSError):
            await self.loop.create_connection(asyncio.Protocol, *self.address, ssl=self.trusting)

    async def datagrams(self):
        transport, _ = await self.loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)

    async def pipes(self):
        fds = os.pipe()
        reader, _ = await self.loop.connect_read_pipe(asyncio.Protocol, os.fdopen(fds[0], "rb", 0))
        writer, _ = await self.loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(fds[1], "wb", 0))
        writer.write(b"x")
        writer.close()
        reader.close()
        await asyncio.sleep(0)

    async def subprocesses(self):
        process = await asyncio.create_subprocess_exec("/bin/true", stdout=asyncio.subprocess.PIPE)
        assert await process.communicate() == (b"", None)


OPERATIONS = {
    OFTEN: ["callbacks", "failing_callbacks", "tasks", "executor", "signals", "sockets"],
    SELDOM: [
        *["unix", "connections", "refused_connections", "secure_connections", "started_tls", "failed_handshakes"],
        *["datagrams", "pipes", "subprocesses"],
    ],
}
CASES = [(name, times) for times, names in (*OPERATIONS.items(),) for name in names]


@pytest.mark.parametrize(("name", "times"), CASES)
def test_nothing_is_left_of_what_was_done_a_thousand_times(run, loop, loop_name, name, times):
    if loop_name == "asyncio":
        pytest.skip("about our own memory")

    async def repeat(operations, count):
        for _ in range(count):
            await getattr(operations, name)()
        # What the last ones have scheduled.
        await asyncio.sleep(0.02)

    async def main():
        loop.set_exception_handler(lambda *_: None)
        operations = Operations()
        await operations.prepare(loop)
        growth = []
        # The first rounds fill caches; a leak is in every round.
        for _ in range(4):
            before, memory = counted(), malloced()
            await repeat(operations, times)
            growth.append((counted() - before, malloced() - memory))
        await operations.finish()
        assert min(objects for objects, _ in growth) < times // 2, growth
        assert min(memory for _, memory in growth) < MALLOC_SLACK, growth

    with warnings.catch_warnings():
        # asyncio's own create_connection leaves a socket to the collector when the factory fails.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main)
