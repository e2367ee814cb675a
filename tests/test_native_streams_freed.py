"""The loop's readers and writers are freed, and what their native methods have made: as with asyncio's own.

Each test runs on asyncio's loop first. The server's end is called `there`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest

from tests.support.protocols import close_all
from tests.support.streams import connection, turns, waiting


@pytest.mark.parametrize("client", [False, True])
def test_a_reader_that_is_let_go_of_is_freed_at_once(run, client):
    """Nothing of the loop's keeps it, and no cycle that was not there before."""

    async def main():
        async with connection() as (here, there):
            end = here if client else there
            reference = weakref.ref(end.reader)
            there.writer.write(b"line\n")
            here.writer.write(b"line\n")
            assert await end.reader.readline() == b"line\n"
            gc.disable()
            try:
                end.writer._reader = end.reader = None
                return reference() is None
            finally:
                gc.enable()

    assert run(main)


def test_a_task_that_is_forgotten_while_it_reads_is_collected(run, loop):
    """The cycle of reader, future, task and coroutine."""
    messages = []
    # The whole report has the task, which would live on.
    loop.set_exception_handler(lambda _loop, context: messages.append(context["message"]))

    async def main():
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        accepted = []
        server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())

        async def read(reader):
            await reader.readexactly(5)

        task = loop.create_task(read(reader))
        await waiting(reader)
        references = [weakref.ref(task), weakref.ref(reader)]
        transport.abort()
        # As if the connection had never told it of its end.
        protocol._stream_reader_wr = None
        task = reader = protocol = transport = None
        await turns()
        accepted[0].transport.abort()
        await close_all(server)
        return references

    references = run(main)
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert messages == ["Task was destroyed but it is pending!"]


def test_nothing_is_left_by_reads_and_drains(run):
    async def main():
        async with connection() as (here, there):

            async def rounds(count):
                for _ in range(count):
                    here.writer.write(b"line\n12345|")
                    await there.reader.readline()
                    await there.reader.readexactly(5)
                    await there.reader.readuntil(b"|")
                    await there.writer.drain()
                    task = asyncio.ensure_future(there.reader.readline())
                    await turns(2)
                    task.cancel()
                    await asyncio.wait([task])

            def counts():
                gc.collect()
                return sys.getallocatedblocks(), sys.getrefcount(there.reader), sys.getrefcount(there.writer)

            await rounds(200)
            blocks, *references = counts()
            await rounds(200)
            blocks_now, *references_now = counts()
            assert references_now == references
            assert blocks_now - blocks < 50

    run(main)
