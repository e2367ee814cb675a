"""Work: pipes and child processes. `cat` runs on the load client's core."""

from __future__ import annotations

import asyncio
import functools
import os
import random
from asyncio.subprocess import PIPE
from typing import Any

CAT_CORE = 1  # the load client's
KIB, MIB = 1 << 10, 1 << 20


@functools.cache
def payload(size: int) -> bytes:
    """Bytes that differ from place to place; the first 64 KiB again and again."""
    return (random.Random(1).randbytes(min(size, 64 * KIB)) * (size // (64 * KIB) or 1))[:size]


class PipeEcho(asyncio.Protocol):
    """Writes to one pipe what comes from another."""

    out: Any

    def data_received(self, data: bytes) -> None:
        self.out.write(data)


class PipeCaller(asyncio.Protocol):
    """Sends a message and waits for the answer, `count` times."""

    out: Any

    def __init__(self, message: bytes, count: int, done: asyncio.Future[None]) -> None:
        self.message, self.left, self.done = message, count, done
        self.answer = b""

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if len(self.answer) < len(self.message):
            return
        if self.answer != self.message:
            self.done.set_exception(ValueError("other bytes came back than were sent"))
            return
        self.answer = b""
        self.left -= 1
        if self.left:
            self.out.write(self.message)
        else:
            self.done.set_result(None)


def reader_of(protocol: asyncio.BaseProtocol) -> asyncio.BaseProtocol:
    return protocol


async def pipe_echo(count: int) -> None:
    """1 KiB through one pipe and back through another; both ends of both are on this loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    caller, echo = PipeCaller(payload(KIB), count, done), PipeEcho()
    transports: list[Any] = []
    for writer, reader in ((caller, echo), (echo, caller)):
        read_fd, write_fd = os.pipe()
        write_pipe, read_pipe = os.fdopen(write_fd, "wb", 0), os.fdopen(read_fd, "rb", 0)
        writer.out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, write_pipe)
        transport, _ = await loop.connect_read_pipe(functools.partial(reader_of, reader), read_pipe)
        transports += [writer.out, transport]
    caller.out.write(caller.message)
    await done
    for transport in transports:
        transport.close()
    await asyncio.sleep(0.01)  # for connection_lost


async def run_true() -> None:
    status = await (await asyncio.create_subprocess_exec("/bin/true")).wait()
    if status:
        raise ValueError(f"exit status {status}")


async def true_in_turn(count: int) -> None:
    for _ in range(count):
        await run_true()


async def true_20_at_once(count: int) -> None:
    for start in range(0, count, 20):
        await asyncio.gather(*(run_true() for _ in range(min(20, count - start))))


async def start_cat() -> Any:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    os.sched_setaffinity(process.pid, {CAT_CORE})
    return process


async def cat_communicate(count: int) -> None:
    """`count` MiB in pieces of 64 MiB, each at once through a child."""
    for start in range(0, count, 64):
        data = payload(min(64, count - start) * MIB)
        output, _ = await (await start_cat()).communicate(data)
        if output != data:
            raise ValueError("other bytes came back than were sent")


async def cat_streamed(count: int) -> None:
    """`count` MiB through one child, written and read in pieces of 64 KiB."""
    process = await start_cat()
    piece = payload(64 * KIB)
    twice = piece + piece

    async def feed() -> None:
        for _ in range(count * 16):
            process.stdin.write(piece)
            await process.stdin.drain()
        process.stdin.close()

    feeder = asyncio.create_task(feed())
    seen = 0
    while data := await process.stdout.read(64 * KIB):
        if not twice.startswith(data, seen % len(piece)):
            raise ValueError("other bytes came back than were sent")
        seen += len(data)
    await feeder
    if seen != count * MIB or await process.wait():
        raise ValueError(f"{seen} bytes of {count} MiB came back")
