"""Pipe transports: what they take, how reading goes and ends, who closes the file. Writing: test_writing.py."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import pty
import socket
import sys
import tty
import weakref

import pytest

from tests.support.pipes import MESSAGE, CountingFile, close_pipes, connected_pipe, files_of_a_pipe, turns
from tests.support.protocols import HalfOpen, Paused, Recorder

BOTH_METHODS = pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])


@pytest.fixture
def pipe():
    """(file to read from, file to write to)."""
    reader, writer = files_of_a_pipe()
    with reader, writer:
        yield reader, writer


@pytest.fixture(params=["pipe", "fifo", "socketpair"])
def ends(request, tmp_path):
    """(what is read from, what is written to), of every kind that has an end of file."""
    if request.param == "pipe":
        both = files_of_a_pipe()
    elif request.param == "socketpair":
        both = socket.socketpair()
    else:
        os.mkfifo(tmp_path / "fifo")
        read = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        both = CountingFile(read, "rb"), CountingFile(tmp_path / "fifo", "wb")
    with both[0], both[1]:
        yield both


@pytest.fixture
def terminal():
    """(master, slave) of a pseudo-terminal that changes no bytes and echoes none, as unbuffered files."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    with open(master, "r+b", 0) as ours, open(slave, "r+b", 0) as theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_data_and_the_end_pass(run, ends, size):
    async def main():
        reader, writer = await connected_pipe(*ends)
        data = MESSAGE[:size]
        writer.transport.write(data)
        writer.transport.close()
        assert await reader.lost is None
        assert await writer.lost is None
        assert bytes(reader.data) == data
        assert reader.events == (["made", "data", "eof", "lost"] if size else ["made", "eof", "lost"])
        assert [event for event in writer.events if event not in ("pause", "resume")] == ["made", "lost"]

    run(main)


def test_a_terminal_passes_data_both_ways(run, terminal):
    async def main():
        master, slave = terminal
        for source, sink in ((master, slave), (slave, master)):
            files = CountingFile(os.dup(sink.fileno()), "rb"), CountingFile(os.dup(source.fileno()), "wb")
            reader, writer = await connected_pipe(*files)
            writer.transport.write(MESSAGE)
            assert await reader.received(len(MESSAGE)) == MESSAGE
            await close_pipes(reader, writer)
            assert [file.closes for file in files] == [1, 1]

    run(main)


def test_the_master_of_a_terminal_ends_with_an_io_error_that_is_not_reported(run, loop, terminal, reports):
    async def main():
        master, slave = terminal
        transport, protocol = await loop.connect_read_pipe(Recorder, master)
        slave.write(b"last words")
        assert await protocol.received(10) == b"last words"
        slave.close()
        error = await protocol.lost
        assert isinstance(error, OSError)
        assert error.errno == errno.EIO
        assert protocol.events == ["made", "data", "lost"]
        assert transport.is_closing()
        assert reports == []

    run(main)


def test_the_slave_of_a_terminal_ends_when_the_master_is_gone(run, loop, terminal, reports):
    async def main():
        master, slave = terminal
        _, protocol = await loop.connect_read_pipe(Recorder, slave)
        master.write(b"last words")
        assert await protocol.received(10) == b"last words"
        master.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "data", "eof", "lost"]
        assert reports == []

    run(main)


def test_a_fifo_whose_writer_comes_later_is_read(run, loop, tmp_path):
    async def main():
        path = tmp_path / "fifo"
        os.mkfifo(path)
        file = CountingFile(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
        _, protocol = await loop.connect_read_pipe(Recorder, file)
        await turns()
        assert protocol.events == ["made"]
        path.write_bytes(b"here I am")
        assert await protocol.lost is None
        assert bytes(protocol.data) == b"here I am"

    run(main)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("connect_read_pipe", "Pipe transport is for pipes/sockets only."),
        ("connect_write_pipe", "Pipe transport is only for pipes, sockets and character devices"),
    ],
)
def test_a_regular_file_is_refused_and_stays_open(run, loop, tmp_path, method, text):
    async def main():
        protocol = Recorder()
        with open(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError) as caught:
                await getattr(loop, method)(lambda: protocol, file)
            assert str(caught.value) == text
            await turns()
            file.write(b"still open")
            assert os.get_blocking(file.fileno())
        assert protocol.events == []

    run(main)


# CPython's transport is half made then, and its finalizer raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@BOTH_METHODS
def test_what_is_no_file_is_refused(run, loop, pipe, method):
    async def main():
        for bad in (pipe[0].fileno(), "text", None, object()):
            with pytest.raises(AttributeError):
                await getattr(loop, method)(Recorder, bad)
        for file in pipe:
            file.close()
            with pytest.raises(ValueError, match="closed file"):
                await getattr(loop, method)(Recorder, file)

    run(main)


@BOTH_METHODS
def test_a_factory_that_raises_leaves_the_file_alone(run, loop, pipe, method):
    def factory():
        raise LookupError("no protocol today")

    async def main():
        for file in pipe:
            with pytest.raises(LookupError):
                await getattr(loop, method)(factory, file)
            assert not file.closed

    run(main)


@BOTH_METHODS
def test_a_connect_that_is_cancelled_closes_the_file(run, loop, pipe, method):
    async def main():
        file = pipe[method == "connect_write_pipe"]
        protocol = Recorder()
        task = loop.create_task(getattr(loop, method)(lambda: protocol, file))
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await protocol.lost is None
        assert protocol.events == ["made", "lost"]
        assert file.closes == 1

    run(main)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_that_cannot_be_polled_is_taken_and_reports_that(run, loop, reports, device):
    async def main():
        file = CountingFile(device, "rb")
        transport, protocol = await loop.connect_read_pipe(Recorder, file)
        await turns(2)
        assert [type(report["exception"]) for report in reports] == [PermissionError]
        transport.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "lost"]
        assert file.closes == 1

    run(main)


def test_the_file_is_closed_once_after_connection_lost(run, ends):
    class Looking(Recorder):
        def connection_lost(self, exc):
            pipe = self.transport.get_extra_info("pipe")
            os.fstat(pipe.fileno())
            super().connection_lost(exc)

    async def main():
        numbers = [end.fileno() for end in ends]
        reader, writer = await connected_pipe(*ends, Looking, Looking)
        await close_pipes(writer, reader)
        await asyncio.sleep(0)
        # Whoever gets the numbers next keeps them, though the files are closed again.
        others = [os.open("/dev/null", os.O_RDONLY) for _ in numbers]
        assert set(numbers) <= set(others)
        for end in ends:
            assert end.close() is None
            if isinstance(end, CountingFile):
                assert end.closes == 1
        for other in others:
            os.close(other)

    run(main)


@BOTH_METHODS
def test_a_transport_is_one_of_asyncios_and_knows_its_pipe(run, loop, pipe, method):
    async def main():
        file = pipe[method == "connect_write_pipe"]
        transport, protocol = await getattr(loop, method)(Recorder, file)
        assert isinstance(transport, asyncio.ReadTransport if method == "connect_read_pipe" else asyncio.WriteTransport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert protocol.transport is transport
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("pipe") is file
        assert transport.get_extra_info("socket") is None
        assert transport.get_extra_info("colour", "green") == "green"
        assert not os.get_blocking(file.fileno())
        assert weakref.ref(transport)() is transport
        transport.note = 5
        assert transport.note == 5
        assert f"fd={file.fileno()}" in repr(transport)
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert protocol.events == ["made"]
        await protocol.lost
        assert protocol.events == ["made", "lost"]
        assert transport.get_extra_info("pipe") is file
        assert "closed" in repr(transport)

    run(main)


@BOTH_METHODS
def test_an_unclosed_transport_warns_and_closes_its_file(loop, pipe, method):
    file = pipe[method == "connect_write_pipe"]
    loop.run_until_complete(getattr(loop, method)(Recorder, file))
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()
    assert file.closes == 1


def test_reading_can_be_paused_and_resumed(run, ends):
    async def main():
        reader, writer = await connected_pipe(*ends)
        reader.transport.pause_reading()
        reader.transport.pause_reading()
        writer.transport.write(b"waiting")
        await turns()
        assert not reader.data
        reader.transport.resume_reading()
        reader.transport.resume_reading()
        assert await reader.received(7) == b"waiting"
        await close_pipes(reader, writer)
        reader.transport.pause_reading()
        reader.transport.resume_reading()

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="is_reading of pipes is new in Python 3.11.4")
def test_is_reading_tells_whether_it_reads(run, loop, pipe):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe[0])
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert not transport.is_reading()
        await protocol.lost

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="CPython's transport starts reading before 3.11.4")
def test_pausing_in_connection_made_works(run, loop, pipe):
    async def main():
        pipe[1].write(b"early")
        transport, protocol = await loop.connect_read_pipe(Paused, pipe[0])
        await turns()
        assert not protocol.data
        transport.resume_reading()
        assert await protocol.received(5) == b"early"
        await close_pipes(protocol)

    run(main)


def test_the_end_is_seen_after_a_pause(run, ends):
    async def main():
        reader, writer = await connected_pipe(*ends)
        reader.transport.pause_reading()
        writer.transport.write(b"last words")
        await close_pipes(writer)
        await turns()
        assert reader.events == ["made"]
        reader.transport.resume_reading()
        assert await reader.lost is None
        assert bytes(reader.data) == b"last words"
        assert reader.events == ["made", "data", "eof", "lost"]

    run(main)


def test_a_true_eof_received_keeps_nothing_open(run, pipe):
    async def main():
        reader, writer = await connected_pipe(*pipe, HalfOpen)
        await close_pipes(writer)
        assert await reader.lost is None
        assert reader.events == ["made", "eof", "lost"]

    run(main)


def test_nothing_comes_after_close(run, pipe):
    class Enough(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

    async def main():
        reader, writer = await connected_pipe(*pipe, Enough)
        writer.transport.write(MESSAGE)
        assert await reader.lost is None
        assert reader.events == ["made", "data", "lost"]
        assert 0 < len(reader.data) < len(MESSAGE)
        await writer.lost

    run(main)


def test_another_protocol_can_take_over(run, pipe):
    async def main():
        reader, writer = await connected_pipe(*pipe)
        writer.transport.write(b"first")
        await reader.received(5)
        other = Recorder()
        other.transport = reader.transport
        reader.transport.set_protocol(other)
        assert reader.transport.get_protocol() is other
        writer.transport.write(b"second")
        assert await other.received(6) == b"second"
        assert bytes(reader.data) == b"first"
        await close_pipes(writer)
        await other.lost
        assert reader.events == ["made", "data"]

    run(main)


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_what_a_readers_callback_raises_is_reported_and_reading_goes_on(run, pipe, reports, method):
    class Failing(Recorder):
        pass

    def fail(self, *arguments):
        getattr(Recorder, method)(self, *arguments)
        raise LookupError(method)

    setattr(Failing, method, fail)

    async def main():
        reader, writer = await connected_pipe(*pipe, Failing)
        writer.transport.write(b"x")
        await reader.received(1)
        await close_pipes(writer)
        assert await reader.lost is None
        await asyncio.sleep(0)
        assert reader.events == ["made", "data", "eof", "lost"]
        (report,) = reports
        assert report["message"].startswith("Exception in callback")
        assert isinstance(report["exception"], LookupError)
        assert pipe[0].closes == 1

    run(main)


def test_a_stream_reader_reads_a_pipe(run, loop, ends):
    async def main():
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), ends[0])
        _, writer = await connected_writer(loop, ends[1])
        writer.write(b"a line\n" + MESSAGE)
        assert await stream.readline() == b"a line\n"
        assert await stream.readexactly(len(MESSAGE)) == MESSAGE
        await writer.drain()
        writer.close()
        assert await stream.read() == b""
        assert stream.at_eof()
        assert transport.is_closing()
        await turns(2)

    run(main)


async def connected_writer(loop, file):
    """(transport, stream writer) of a file that is written to."""
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
    return transport, asyncio.StreamWriter(transport, protocol, None, loop)


def test_a_stream_reader_pauses_the_pipe_at_its_limit(run, loop, pipe):
    async def main():
        stream = asyncio.StreamReader(limit=100)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe[0])
        _, writer = await connected_writer(loop, pipe[1])
        message = MESSAGE * 10  # more than any pipe holds
        writer.write(message)
        sent = loop.create_task(writer.drain())
        await turns()
        assert not sent.done(), "a reader with a limit of 100 bytes took everything"
        assert await stream.readexactly(len(message)) == message
        await sent
        transport.close()
        writer.close()
        await turns(2)

    run(main)


def test_many_pipes_at_once_do_not_mix(run, loop):
    async def main():
        with contextlib.ExitStack() as stack:
            pairs = []
            for _ in range(50):
                files = [stack.enter_context(file) for file in files_of_a_pipe()]
                pairs.append(await connected_pipe(*files))
            for number, (_, writer) in enumerate(pairs):
                writer.transport.write(bytes([number]) * 70_000)
                writer.transport.close()
            for number, (reader, writer) in enumerate(pairs):
                await reader.lost
                await writer.lost
                assert bytes(reader.data) == bytes([number]) * 70_000

    run(main)


def test_transports_that_a_closed_loop_left_open_say_so(loop, pipe):
    async def connect():
        return await connected_pipe(*pipe)

    protocols = loop.run_until_complete(connect())
    loop.close()
    for protocol, file in zip(protocols, pipe, strict=True):
        assert "open" in repr(protocol.transport)
        protocol.transport._pipe = None
        assert "closed" in repr(protocol.transport)
        assert not file.closed
