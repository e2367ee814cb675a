"""One repetition of what concerns plain sockets, datagrams, pipes and child processes."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import subprocess
from typing import Any

import pytest


class Descriptors:
    """The coroutines want `loop`, and what `Connections.prepare` makes."""

    loop: Any
    address: tuple[str, int]
    file: Any

    async def sockets(self) -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            waiting = self.loop.create_task(self.loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            await self.loop.sock_sendall(right, b"x")
            assert await waiting == b"x"
            waiting = self.loop.create_task(self.loop.sock_recv_into(left, bytearray(10)))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            self.loop.add_reader(left, len, "x")
            self.loop.remove_reader(left)
            seen = self.loop.create_future()
            self.loop.add_writer(left, lambda: seen.done() or seen.set_result(None))
            await seen
            self.loop.remove_writer(left)

    async def connected_sockets(self) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await self.loop.sock_connect(sock, self.address)
            await self.loop.sock_sendall(sock, b"hello")
            assert await self.loop.sock_recv_into(sock, bytearray(5))

    async def accepting_sockets(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as sock:
            listener.setblocking(False)
            sock.setblocking(False)
            accepting = self.loop.create_task(self.loop.sock_accept(listener))
            await self.loop.sock_connect(sock, listener.getsockname())
            accepted, _ = await accepting
            accepted.close()

    async def files_on_sockets(self) -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            assert await self.loop.sock_sendfile(left, self.file, 0, 1000) == 1000

    async def datagrams(self) -> None:
        transport, _ = await self.loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)

    async def refused_datagrams(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            address = nobody.getsockname()
        transport, _ = await self.loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
        transport.sendto(b"x")
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="address"):
            transport.sendto(b"x", ("127.0.0.1", 1))
        transport.abort()
        await asyncio.sleep(0)

    async def datagrams_on_sockets(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            # New in Python 3.11.
            if hasattr(asyncio, "Runner"):
                await self.loop.sock_sendto(sock, b"x", sock.getsockname())
                assert await self.loop.sock_recvfrom(sock, 10) == (b"x", sock.getsockname())

    async def pipes(self) -> None:
        fds = os.pipe()
        reader, _ = await self.loop.connect_read_pipe(asyncio.Protocol, os.fdopen(fds[0], "rb", 0))
        writer, _ = await self.loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(fds[1], "wb", 0))
        assert repr(reader)
        assert repr(writer)
        writer.write(b"x")
        writer.close()
        reader.close()
        await asyncio.sleep(0)

    async def subprocesses(self) -> None:
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert await process.communicate(b"hello") == (b"hello", None)

    async def killed_subprocesses(self) -> None:
        process = await asyncio.create_subprocess_exec("/bin/sleep", "1000")
        process.kill()
        assert await process.wait() < 0
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such/program")
