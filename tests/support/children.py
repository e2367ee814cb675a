"""Child processes: a protocol that remembers what happened to one, and which ones there are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

PYTHON = (sys.executable, "-I", "-S", "-c")


class ChildRecorder(asyncio.SubprocessProtocol):
    """Notes every event, in order, and lets a test wait for the ends of things."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[Any] = []
        self.data = {1: bytearray(), 2: bytearray()}
        self.transport: Any = None
        self.exited = loop.create_future()
        self.lost = loop.create_future()
        self.pipe_lost = {fd: loop.create_future() for fd in range(3)}
        self._wanted: list[tuple[int, int, asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        assert type(data) is bytes
        if ("data", fd) not in self.events:
            self.events.append(("data", fd))
        self.data[fd] += data
        for wanted_fd, size, future in self._wanted:
            if len(self.data[wanted_fd]) >= size and not future.done():
                future.set_result(None)

    async def received(self, fd: int, size: int) -> bytes:
        """Wait until `size` bytes have come from `fd` in all."""
        if len(self.data[fd]) < size:
            future = asyncio.get_running_loop().create_future()
            self._wanted.append((fd, size, future))
            await future
        return bytes(self.data[fd])

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.events.append(("lost", fd))
        self.pipe_lost[fd].set_result(exc)

    def process_exited(self) -> None:
        self.events.append("exited")
        self.exited.set_result(self.transport.get_returncode())

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


async def finished(protocol: ChildRecorder) -> int:
    """Wait for the end of a child and of its pipes; its exit code."""
    assert await protocol.lost is None
    protocol.transport.close()
    return protocol.transport.get_returncode()


def children() -> set[int]:
    """Children of this process, zombies among them (proc(5), /proc/pid/stat)."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = file.read().rpartition(")")[2].split()[1]
        except OSError:
            continue  # gone meanwhile
        if int(parent) == os.getpid():
            found.add(int(name))
    return found


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until `condition()` holds, for what nothing tells of."""
    while not condition():
        await asyncio.sleep(0.001)
