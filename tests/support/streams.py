"""Both ends of a stream, and who reads from it."""

from __future__ import annotations

import asyncio
import sys
import traceback
from asyncio import streams
from contextlib import asynccontextmanager

from tests.support.protocols import close_all


class End:
    """One end of a connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer


@asynccontextmanager
async def connection(limit=1 << 16):
    """Both ends of a connection, the client's first."""
    accepted = asyncio.get_running_loop().create_future()

    async def accept(reader, writer):
        accepted.set_result(End(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=limit)
    here = End(*await asyncio.open_connection(*server.sockets[0].getsockname(), limit=limit))
    there = await accepted
    try:
        yield here, there
    finally:
        for end in (here, there):
            end.writer.transport.abort()
        await close_all(server)


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def arrival(reader, count):
    """Until the buffer holds as many bytes."""
    while len(reader._buffer) < count:
        await asyncio.sleep(0.001)


async def waiting(reader):
    """Until somebody waits for data."""
    while reader._waiter is None:
        await asyncio.sleep(0)


async def started(reader, method, *arguments):
    """A task that awaits a method of the reader in a coroutine of its own, and waits there."""

    async def use():
        return await getattr(reader, method)(*arguments)

    task = asyncio.ensure_future(use())
    await waiting(reader)
    return task


async def by_pieces(reader, count):
    """As many bytes, by `read`, which may bring a part of them."""
    data = b""
    while len(data) < count:
        data += await reader.read(count - len(data))
    return data


async def outcome_of(awaitable):
    """What it returns, or the exception, comparable."""
    try:
        return await awaitable
    except Exception as error:
        return type(error), str(error), getattr(error, "partial", None), getattr(error, "consumed", None)


def frames_of(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def frames_below(awaitable):
    """Of the exception that comes out of it. Before Python 3.11 a task does not hand on those of a cancellation."""
    try:
        await awaitable
    except BaseException as error:
        return frames_of(error)[1:]
    raise AssertionError("no exception")


def functions_called(function, names):
    """Which of these functions of asyncio/streams.py are called meanwhile."""
    called = set()

    def profile(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename == streams.__file__ and frame.f_code.co_name in names:
            called.add(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called
