"""What a program puts in the place of a method of streams is called, in the classes or on an object, before or after.

Each test runs on asyncio's loop first, where nothing else is there to be called.
"""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from tests.support.builds import has_native_streams
from tests.support.protocols import close_all
from tests.support.streams import connection, started, turns


@pytest.mark.parametrize("name", ["readexactly", "readline", "_wait_for_data", "_maybe_resume_transport", "exception"])
@pytest.mark.parametrize("on_class", [False, True])
def test_what_is_replaced_is_called(run, monkeypatch, name, on_class):
    """After the connection was made, and before."""
    calls = []
    original = getattr(asyncio.StreamReader, name)

    async def use(here, there):
        here.writer.write(b"1\n2\n")
        assert await there.reader.readline() == b"1\n"
        assert await there.reader.readexactly(2) == b"2\n"
        await there.writer.drain()

    async def main():
        async with connection() as (here, there):
            await use(here, there)

            def replacement(*arguments):
                calls.append(1)
                return original(*(arguments if on_class else (there.reader, *arguments)))

            monkeypatch.setattr(asyncio.StreamReader if on_class else there.reader, name, replacement)
            await use(here, there)
            assert calls
            monkeypatch.undo()
            del calls[:]
            await use(here, there)
            assert not calls

    run(main)


@pytest.mark.parametrize("method", ["read", "readexactly", "readline", "readuntil", "drain"])
def test_a_mock_in_the_place_of_a_method(run, method):
    """It is not bound, as functions are."""
    owner = asyncio.StreamWriter if method == "drain" else asyncio.StreamReader

    async def main():
        async with connection() as (_, there):
            stream = there.writer if method == "drain" else there.reader
            with mock.patch.object(owner, method, return_value=b"mocked") as mocked:
                assert await getattr(stream, method)(10) == b"mocked"
                mocked.assert_called_once_with(10)

    run(main)


@pytest.mark.skipif(not has_native_streams, reason="streams are all asyncio's here")
def test_what_is_replaced_in_the_class_of_a_reader_is_called(run, monkeypatch):
    async def own(self, separator=b"\n"):
        return b"own"

    async def main():
        async with connection() as (_, there):
            monkeypatch.setattr(type(there.reader), "readuntil", own)
            assert await there.reader.readline() == b"own"
            monkeypatch.undo()

    run(main)


@pytest.mark.parametrize("on_class", [False, True])
def test_a_drain_that_is_replaced_is_called(run, monkeypatch, on_class):
    calls = []

    async def main():
        async with connection() as (_, there):
            await there.writer.drain()
            protocol = there.writer._protocol
            original = type(protocol)._drain_helper

            def helper(*_):
                calls.append(1)
                return original(protocol)

            if on_class:
                monkeypatch.setattr(asyncio.StreamReaderProtocol, "_drain_helper", helper)
            else:
                monkeypatch.setattr(protocol, "_drain_helper", helper)
            await there.writer.drain()
            monkeypatch.undo()
            await there.writer.drain()

    run(main)
    assert calls == [1]


def test_a_class_that_a_program_gives_to_its_reader_or_writer(run):
    class Reader(asyncio.StreamReader):
        async def readline(self):
            return b"own: " + await super().readline()

    class Writer(asyncio.StreamWriter):
        async def drain(self):
            await super().drain()
            return "own"

    async def main():
        async with connection() as (here, there):
            there.reader.__class__ = Reader
            there.writer.__class__ = Writer
            here.writer.write(b"line\nrest")
            assert await there.reader.readline() == b"own: line\n"
            assert await there.reader.readexactly(4) == b"rest"
            assert await there.writer.drain() == "own"

    run(main)


def test_a_class_that_changes_while_somebody_waits(run):
    class Reader(asyncio.StreamReader):
        pass

    async def main():
        async with connection() as (here, there):
            task = await started(there.reader, "readline")
            there.reader.__class__ = Reader
            here.writer.write(b"line\n")
            assert await task == b"line\n"
            assert there.reader._waiter is None

    run(main)


def test_the_protocol_keeps_the_programs_callback(run):
    async def main():
        async def accept(reader, writer):
            callbacks.append(writer._protocol._client_connected_cb)
            writer.close()

        callbacks = []
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await close_all(server)
        assert callbacks == [accept]

    run(main)


def test_all_of_a_stream_though_a_method_is_replaced_on_the_way(run, monkeypatch):
    """What was taken natively is not lost: asyncio's coroutine gets it, too."""

    async def main():
        async with connection() as (here, there):
            task = await started(there.reader, "read")
            here.writer.write(b"first ")
            await turns(3)
            while there.reader._buffer or there.reader._waiter is None:
                await asyncio.sleep(0)
            original = asyncio.StreamReader._wait_for_data
            monkeypatch.setattr(asyncio.StreamReader, "_wait_for_data", lambda *args: original(*args))
            here.writer.write(b"second")
            await turns(3)
            here.writer.write_eof()
            assert await task == b"first second"

    run(main)
