"""The native methods of the loop's readers and writers: what they read, and when they wait, as asyncio's own.

Each test runs on asyncio's loop first, whose coroutines are the judge. The server's end is called `there`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import types
from asyncio.subprocess import PIPE

import pytest

from tests.support.builds import has_native_streams
from tests.support.pipes import files_of_a_pipe
from tests.support.streams import (
    arrival,
    by_pieces,
    connection,
    frames_below,
    frames_of,
    functions_called,
    outcome_of,
    started,
    turns,
    waiting,
)

# What asyncio's methods are made of: none of it runs where native methods do the work.
COROUTINES = {"read", "readexactly", "readline", "readuntil", "_wait_for_data", "drain", "_drain_helper"}


async def talk():
    async with connection() as (here, there):
        for _ in range(3):
            answer = asyncio.ensure_future(here.reader.readuntil(b"!\n"))
            here.writer.write(b"line\n8 bytes.or three")
            assert await there.reader.readline() == b"line\n"
            assert await there.reader.readexactly(8) == b"8 bytes."
            assert await by_pieces(there.reader, 8) == b"or three"
            there.writer.write(b"answer!\n")
            await there.writer.drain()
            assert await answer == b"answer!\n"


@pytest.mark.skipif(not has_native_streams, reason="streams are all asyncio's here")
def test_the_coroutines_of_asyncio_do_not_run_where_native_methods_do(run, loop_name):
    async def main():
        async with connection() as (here, there):
            for _ in range(3):
                here.writer.write(b"line\n8 bytes.or three|")
                assert await there.reader.readline() == b"line\n"
                assert await there.reader.readexactly(8) == b"8 bytes."
                assert await there.reader.readuntil(b"|") == b"or three|"
                here.writer.write(b"rest")
                assert await by_pieces(there.reader, 4) == b"rest"
                there.writer.write(b"answer\n")
                await there.writer.drain()
                assert await here.reader.readline() == b"answer\n"

    called = functions_called(lambda: run(main), COROUTINES)
    assert called == (COROUTINES if loop_name == "asyncio" else set())


def test_a_conversation_by_tasks_and_by_await(run):
    run(talk)


def test_readers_and_writers_are_asyncios(run):
    async def main():
        async with connection() as ends:
            for end in ends:
                assert isinstance(end.reader, asyncio.StreamReader)
                assert isinstance(end.writer, asyncio.StreamWriter)
                assert type(end.reader).__name__ == "StreamReader"
                assert repr(end.reader).startswith("<StreamReader transport=<")
                assert repr(end.writer).startswith("<StreamWriter transport=<")
                assert set(vars(end.reader)) == set(vars(asyncio.StreamReader(loop=asyncio.get_running_loop())))

    run(main)


def test_the_same_pieces_and_the_same_calls_give_the_same(run, loop):
    """Against a reader of asyncio's class, which no loop feeds."""

    def pieces(chance):
        alphabet = [b"a", b"bb\n", b"\r\n", b"|", b"\n", b"<end>", b"<en", b"x" * 40, b"y" * 3000]
        return [b"".join(chance.choices(alphabet, k=chance.randint(1, 8))) for _ in range(chance.randint(1, 12))]

    def calls(chance):
        ways = {
            "read": lambda: (chance.choice([0, 1, 7, 100, 5000]),),
            "readexactly": lambda: (chance.choice([0, 1, 2, 9, 700, -1]),),
            "readline": tuple,
            "readuntil": lambda: chance.choice([(), (b"|",), (b"\r\n",), (b"<end>",), (b"",), (bytearray(b"\n"),)]),
        }
        for _ in range(60):
            name = chance.choice(list(ways))
            yield name, ways[name]()

    async def both(seed):
        chance = random.Random(seed)
        limit = chance.choice([1, 10, 64, 1 << 16])
        sent = pieces(chance)
        reference = asyncio.StreamReader(limit=limit, loop=loop)
        reference.feed_data(b"".join(sent))
        reference.feed_eof()
        async with connection(limit) as (here, there):
            sending = asyncio.ensure_future(send(here.writer, sent, chance.random() < 0.5))
            for name, arguments in calls(chance):
                expected = await outcome_of(getattr(reference, name)(*arguments))
                found = await outcome_of(getattr(there.reader, name)(*arguments))
                if name == "read" and isinstance(expected, bytes):
                    # It takes what has come so far.
                    while isinstance(found, bytes) and len(found) < len(expected):
                        found += await there.reader.read(len(expected) - len(found))
                if isinstance(expected, tuple) and expected[0] in (ValueError, asyncio.LimitOverrunError):
                    # What is consumed of a line that is too long depends on what has come.
                    assert found[0] is expected[0], (seed, name, arguments)
                    break
                assert found == expected, (seed, name, arguments)
            await sending

    async def send(writer, sent, slowly):
        for piece in sent:
            writer.write(piece)
            if slowly:
                await asyncio.sleep(0)
        writer.write_eof()

    async def main():
        for seed in range(120):
            await both(seed)

    run(main)


@pytest.mark.parametrize(
    "call", ["read(10)", "readexactly(10)", "readline()", "readuntil()", "readuntil(b'|')", "read()"]
)
def test_the_end_of_the_stream(run, call):
    async def main():
        for rest in (b"", b"rest"):
            async with connection() as (here, there):
                task = asyncio.ensure_future(outcome_of(eval(f"reader.{call}", {"reader": there.reader})))
                if not rest:
                    await waiting(there.reader)
                here.writer.write(rest)
                here.writer.write_eof()
                found = await task
                if call.startswith(("readexactly", "readuntil")):
                    assert found[0] is asyncio.IncompleteReadError
                    assert found[2] == rest
                else:
                    assert found == rest

    run(main)


@pytest.mark.parametrize("call", ["readline()", "readuntil(b'\\n')"])
@pytest.mark.parametrize("sent", [b"x" * 200, b"x" * 200 + b"\n"])
def test_more_than_the_limit(run, call, sent):
    async def main():
        async with connection(limit=100) as (here, there):
            here.writer.write(sent)
            await arrival(there.reader, len(sent))
            found = await outcome_of(eval(f"reader.{call}", {"reader": there.reader}))
            kept = len(there.reader._buffer)
            return found, kept

    found, kept = run(main)
    if call.startswith("readline"):
        assert found[0] is ValueError
        assert kept == 0
    else:
        assert found[0] is asyncio.LimitOverrunError
        assert kept == len(sent)


def test_more_than_the_limit_is_read_exactly_though_reading_was_paused(run):
    async def main():
        async with connection(limit=100) as (here, there):
            data = random.Random(1).randbytes(500_000)
            here.writer.write(data)
            assert await there.reader.readexactly(1) == data[:1]
            assert await there.reader.readexactly(len(data) - 1) == data[1:]
            here.writer.write(b"after")
            assert await there.reader.readexactly(5) == b"after"

    run(main)


@pytest.mark.parametrize("limit", [100, 1 << 16])
def test_all_of_a_stream(run, limit):
    """Several times what the reader holds before it pauses, with and without bytes that were there before."""

    async def main():
        for early in (0, 1, 1000, 500_000):
            data = random.Random(early).randbytes(1_000_000)
            async with connection(limit) as (here, there):
                here.writer.write(data[:early])
                await arrival(there.reader, min(early, limit))
                task = asyncio.ensure_future(there.reader.read())
                await turns()
                for start in range(early, len(data), 70_000):
                    here.writer.write(data[start : min(start + 70_000, len(data))])
                    await asyncio.sleep(0)
                here.writer.write_eof()
                assert await task == data
                assert await there.reader.read() == b""
                assert await there.reader.read(5) == b""
                assert there.reader.at_eof()

    run(main)


def test_all_of_a_stream_that_breaks_is_an_error(run):
    async def main():
        async with connection() as (here, there):
            task = await started(there.reader, "read")
            here.writer.write(b"some")
            while there.reader._buffer or there.reader._waiter is None:
                await asyncio.sleep(0)
            await turns()
            there.reader.set_exception(ConnectionResetError("gone"))
            with pytest.raises(ConnectionResetError, match="gone") as caught:
                await task
            assert frames_of(caught.value)[-3:] == ["read", "read", "_wait_for_data"]

    run(main)


def test_a_second_reader_does_not_take_from_who_reads_all(run):
    async def main():
        async with connection() as (here, there):
            task = asyncio.ensure_future(there.reader.read())
            await waiting(there.reader)
            with pytest.raises(RuntimeError, match=r"read\(\) called while another coroutine"):
                await there.reader.read()
            here.writer.write(b"all")
            here.writer.write_eof()
            assert await task == b"all"

    run(main)


def test_what_a_child_writes(run):
    data = bytes(range(256)) * 10_000

    async def main():
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), PIPE)
        child = await asyncio.create_subprocess_exec("cat", **pipes)
        assert await child.communicate(data) == (data, b"")
        child = await asyncio.create_subprocess_exec("sh", "-c", "cat >&2", limit=100, **pipes)
        child.stdin.write(b"line\n" + data)
        child.stdin.write_eof()
        assert await child.stderr.readline() == b"line\n"
        assert await child.stderr.readexactly(1000) == data[:1000]
        assert await child.stderr.read() == data[1000:]
        assert await child.stdout.read() == b""
        assert await child.wait() == 0

    run(main)


@pytest.mark.skipif(not has_native_streams, reason="streams are all asyncio's here")
def test_what_a_child_or_a_pipe_brings_is_read_natively(run, loop, loop_name):
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        child.stdin.write(b"line\nrest")
        child.stdin.write_eof()
        assert await child.stdout.readline() == b"line\n"
        assert await child.stdout.read() == b"rest"
        await child.wait()
        end, source = files_of_a_pipe()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, end)
        with source:
            source.write(b"piped\n")
        assert await reader.readline() == b"piped\n"
        assert await reader.read() == b""
        transport.close()

    called = functions_called(lambda: run(main), COROUTINES)
    assert called - {"_drain_helper", "drain"} == (
        {"read", "readline", "readuntil", "_wait_for_data"} if loop_name == "asyncio" else set()
    )


def test_two_at_once(run):
    async def main():
        async with connection() as (here, there):
            first = asyncio.ensure_future(there.reader.readline())
            await waiting(there.reader)
            with pytest.raises(RuntimeError, match=r"readexactly\(\) called while another coroutine"):
                await there.reader.readexactly(1)
            here.writer.write(b"line\n")
            assert await first == b"line\n"

    run(main)


def test_a_read_that_is_cancelled_when_its_data_has_come_takes_nothing(run):
    async def main():
        async with connection() as (here, there):
            task = asyncio.ensure_future(there.reader.readexactly(5))
            await waiting(there.reader)
            waiter = there.reader._waiter
            here.writer.write(b"hello")
            while not waiter.done():
                # A blocking look: the task would go on in the turn after the one that brings the data.
                await asyncio.sleep(0)
                if waiter.done():
                    task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await there.reader.readexactly(5) == b"hello"

    run(main)


def test_timeouts(run):
    async def main():
        async with connection() as (here, there):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(there.reader.readline(), 0.01)
            here.writer.write(b"late\n")
            assert await asyncio.wait_for(there.reader.readline(), 10) == b"late\n"

    run(main)


def test_an_exception_that_comes_after_the_data_is_for_the_next_read(run):
    async def main():
        for call, expected in [(("readexactly", 10), asyncio.IncompleteReadError), (("readline",), b"12345")]:
            async with connection() as (_, there):
                task = await started(there.reader, *call)
                there.reader.feed_data(b"12345")
                there.reader.feed_eof()
                there.reader.set_exception(KeyError("later"))
                found = await outcome_of(task)
                assert (found[0] if isinstance(found, tuple) else found) == expected
                assert isinstance(there.reader.exception(), KeyError)

    run(main)


def test_the_end_resumes_a_transport_that_is_paused(run):
    async def main():
        async with connection() as (here, there):
            here.writer.write_eof()
            while not there.reader._eof:
                await asyncio.sleep(0)
            there.transport = there.writer.transport
            there.transport.pause_reading()
            there.reader._paused = True
            assert await there.reader.read() == b""
            assert not there.reader._paused

    run(main)


def test_arguments(run):
    async def main():
        async with connection() as (here, there):
            reader = there.reader
            here.writer.write(b"12345|rest\n")
            assert await reader.readexactly(n=2) == b"12"
            assert await reader.readexactly(True) == b"3"
            assert await reader.read(n=2) == b"45"
            assert await reader.readuntil(separator=b"|") == b"|"
            assert await reader.readuntil() == b"rest\n"
            assert await reader.read(0) == b""
            assert await reader.readexactly(0) == b""
            wrong = [("readexactly", ()), ("readline", (1,)), ("read", (1, 2)), ("readexactly", ("x",))]
            for method, arguments in wrong:
                with pytest.raises(TypeError):
                    await getattr(reader, method)(*arguments)
            with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
                await reader.readexactly(-1)
            with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
                await reader.readuntil(b"")
            with pytest.raises(TypeError):
                await there.writer.drain(1)
            if sys.version_info >= (3, 13):
                here.writer.write(b"a;b,")
                assert await reader.readuntil((b",", b";")) == b"a;"
                assert await reader.readuntil((b",", b";")) == b"b,"

    run(main)


def test_drain_waits_while_the_peer_does_not_read(run):
    async def main():
        async with connection() as (here, there):
            assert await there.writer.drain() is None
            size = 20_000_000
            there.writer.write(bytes(size))

            async def drain():
                await there.writer.drain()

            task = asyncio.ensure_future(drain())
            await turns()
            assert not task.done()
            assert len(await here.reader.readexactly(size)) == size
            await task

            there.writer.write(bytes(size))
            cancelled = asyncio.ensure_future(frames_below(there.writer.drain()))
            await turns()
            cancelled.cancel()
            assert await cancelled == ["drain", "_drain_helper"]

    run(main)


def test_drain_of_a_connection_that_is_closed_or_lost(run):
    async def main():
        async with connection() as (_, there):
            there.reader.set_exception(OSError("told"))
            with pytest.raises(OSError, match="told") as caught:
                await there.writer.drain()
            assert frames_of(caught.value)[-1] == "drain"
        async with connection() as (_, there):
            there.writer.close()
            with pytest.raises(ConnectionResetError, match="Connection lost") as caught:
                await there.writer.drain()
            assert frames_of(caught.value)[-2:] == ["drain", "_drain_helper"]
            with pytest.raises(ConnectionResetError):
                await there.writer.drain()

    run(main)


def test_iteration_over_lines(run):
    async def main():
        async with connection() as (here, there):
            here.writer.write(b"1\n2\n3")
            here.writer.write_eof()
            assert [line async for line in there.reader] == [b"1\n", b"2\n", b"3"]

    run(main)


def test_debug_mode_has_asyncios_own_methods(run, loop, loop_name):
    async def main():
        loop.set_debug(True)
        async with connection() as (here, there):
            assert type(there.reader) is asyncio.StreamReader
            assert type(there.writer) is asyncio.StreamWriter
            here.writer.write(b"line\n")
            coroutine = there.reader.readline()
            assert isinstance(coroutine, types.CoroutineType)
            assert await coroutine == b"line\n"

    run(main)
