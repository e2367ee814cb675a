"""Write pipe transports: flow control, the end of writing, readers that go away."""

from __future__ import annotations

import array
import asyncio
import errno
import os
import select
import socket

import pytest

from tests.support.builds import whole_calls
from tests.support.pipes import MESSAGE, CountingFile, close_pipes, connected_pipe, files_of_a_pipe, turns
from tests.support.protocols import Recorder
from tests.support.water_marks import assert_water_marks_can_be_set


@pytest.fixture(params=["pipe", "socketpair"])
def ends(request):
    """(what is read from, what is written to)."""
    both = files_of_a_pipe() if request.param == "pipe" else socket.socketpair()
    with both[0], both[1]:
        yield both


def everything(end):
    """What can be read until the end of file."""
    os.set_blocking(end.fileno(), True)
    return b"".join(iter(lambda: os.read(end.fileno(), 1 << 20), b""))


async def stuffed_writer(loop, end):
    """A protocol whose transport could not write everything yet, nor can go on."""
    transport, protocol = await loop.connect_write_pipe(Recorder, end)
    while not transport.get_write_buffer_size():
        transport.write(MESSAGE)
    while select.select([], [end], [], 0)[1]:
        await asyncio.sleep(0)
    return protocol


def test_a_full_pipe_pauses_the_protocol_until_it_is_read(run, loop, ends):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        transport = writer.transport
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[0]
        assert writer.events == ["made", "pause"]
        transport.write(b"more")
        await turns()
        assert writer.events == ["made", "pause"]
        _, reader = await loop.connect_read_pipe(Recorder, ends[0])
        while transport.get_write_buffer_size():
            await asyncio.sleep(0)
        assert writer.events == ["made", "pause", "resume"]
        await close_pipes(writer)
        await reader.lost
        assert reader.data.endswith(MESSAGE + b"more")

    run(main)


@whole_calls
def test_water_marks_can_be_set(run, loop, ends):
    async def main():
        transport, writer = await loop.connect_write_pipe(Recorder, ends[1])
        assert transport.get_write_buffer_size() == 0
        assert_water_marks_can_be_set(transport.get_write_buffer_limits, transport.set_write_buffer_limits)
        transport.set_write_buffer_limits(high=0)
        transport.write(b"small enough for the pipe")
        assert writer.events == ["made"]
        await close_pipes(writer)

    run(main)


def test_a_high_water_mark_of_zero_pauses_at_the_first_byte(run, loop, ends):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        _, reader = await loop.connect_read_pipe(Recorder, ends[0])
        writer.transport.set_write_buffer_limits(high=0)
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        reader.transport.pause_reading()
        while not writer.transport.get_write_buffer_size():
            assert writer.events == ["made", "pause", "resume"]
            writer.transport.write(b"x" * 1000)
        assert writer.events == ["made", "pause", "resume", "pause"]
        reader.transport.resume_reading()
        await close_pipes(writer)
        await reader.lost

    run(main)


@pytest.mark.parametrize("how", ["close", "write_eof"])
def test_the_end_comes_after_what_is_queued(run, loop, ends, how):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        assert writer.transport.can_write_eof() is True
        getattr(writer.transport, how)()
        getattr(writer.transport, how)()
        assert writer.transport.is_closing()
        assert writer.transport.get_write_buffer_size() > 0
        await turns()
        assert "lost" not in writer.events
        _, reader = await loop.connect_read_pipe(Recorder, ends[0])
        assert await reader.lost is None
        assert await writer.lost is None
        assert bytes(reader.data) == MESSAGE * (len(reader.data) // len(MESSAGE))
        assert writer.events[-1] == "lost"

    run(main)


def test_abort_drops_what_is_queued(run, loop, ends):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        writer.transport.abort()
        assert writer.transport.get_write_buffer_size() == 0
        assert writer.transport.is_closing()
        assert writer.events == ["made", "pause"]
        assert await writer.lost is None
        await asyncio.sleep(0)
        assert len(everything(ends[0])) % len(MESSAGE) != 0

    run(main)


def test_abort_after_close_does_not_wait_for_the_reader(run, loop, ends):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        writer.transport.close()
        writer.transport.abort()
        assert await writer.lost is None
        assert writer.events == ["made", "pause", "lost"]

    run(main)


@pytest.mark.parametrize("how", ["close", "write_eof", "abort"])
def test_writing_after_the_end_is_dropped_and_later_warned_of(run, loop, ends, how, caplog):
    async def main():
        transport, writer = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"before")
        while how == "abort" and transport.get_write_buffer_size():
            await asyncio.sleep(0)  # it would be dropped
        getattr(transport, how)()
        for _ in range(5):
            transport.write(b"after")
        assert caplog.messages == []
        transport.writelines([b"after", b"wards"])
        assert await writer.lost is None
        transport.write(b"later")
        assert caplog.messages == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2
        transport.close()
        transport.write_eof()
        await asyncio.sleep(0)
        assert everything(ends[0]) == b"before"

    run(main)


@pytest.mark.parametrize(
    "data",
    [b"0123456789abcdef", bytearray(b"0123456789abcdef"), memoryview(b"0123456789abcdef")],
    ids=["bytes", "bytearray", "memoryview"],
)
def test_every_kind_of_bytes_arrives(run, ends, data):
    async def main():
        reader, writer = await connected_pipe(*ends)
        writer.transport.write(data)
        assert await reader.received(16) == bytes(data)
        await close_pipes(writer, reader)

    run(main)


def test_a_bytearray_that_is_queued_may_change(run, loop, ends):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        data = bytearray(b"original")
        writer.transport.write(data)
        data[:] = b"replaced"
        _, reader = await loop.connect_read_pipe(Recorder, ends[0])
        writer.transport.close()
        await reader.lost
        assert reader.data.endswith(b"original")
        await writer.lost

    run(main)


@pytest.mark.parametrize("bad", ["text", 5, None, [b"x"], object(), array.array("b", [1])])
def test_what_is_no_bytes_is_refused(run, ends, bad):
    async def main():
        reader, writer = await connected_pipe(*ends)
        with pytest.raises((TypeError, AssertionError)):
            writer.transport.write(bad)
        if not isinstance(bad, array.array):  # which bytes.join takes
            with pytest.raises(TypeError):
                writer.transport.writelines([b"x", bad])
        writer.transport.write(b"still works")
        assert (await reader.received(11)).endswith(b"still works")
        await close_pipes(writer, reader)

    run(main)


def test_writelines_sends_all_pieces_in_order(run, ends):
    async def main():
        reader, writer = await connected_pipe(*ends)
        writer.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three"), b""])
        writer.transport.writelines([])
        writer.transport.writelines(iter([b" four"]))
        writer.transport.write(b"")
        assert await reader.received(18) == b"one two three four"
        assert writer.transport.get_write_buffer_size() == 0
        await close_pipes(writer, reader)

    run(main)


@whole_calls
def test_small_writes_are_in_the_pipe_when_write_returns(run, loop, ends):
    async def main():
        transport, writer = await loop.connect_write_pipe(Recorder, ends[1])
        transport.write(b"now")
        assert os.read(ends[0].fileno(), 10) == b"now"
        await close_pipes(writer)

    run(main)


def test_a_reader_that_goes_away_is_noticed_without_a_write(run, loop, ends, reports):
    async def main():
        transport, writer = await loop.connect_write_pipe(Recorder, ends[1])
        await turns(2)
        assert writer.events == ["made"]
        ends[0].close()
        assert await writer.lost is None
        assert transport.is_closing()
        assert writer.events == ["made", "lost"]
        assert reports == []

    run(main)


def test_a_reader_that_goes_away_before_the_connection_is_noticed(run, loop, ends, reports):
    async def main():
        ends[0].close()
        _, writer = await loop.connect_write_pipe(Recorder, ends[1])
        assert await writer.lost is None
        assert reports == []

    run(main)


def test_a_reader_that_goes_away_breaks_what_is_queued(run, loop, ends, reports):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        await turns(2)
        ends[0].close()
        assert isinstance(await writer.lost, BrokenPipeError)
        assert writer.transport.get_write_buffer_size() == 0
        assert writer.events == ["made", "pause", "lost"]
        assert reports == []

    run(main)


def test_writing_to_a_reader_that_is_gone_raises_nothing(run, loop, ends, reports):
    async def main():
        transport, writer = await loop.connect_write_pipe(Recorder, ends[1])
        ends[0].close()
        transport.write(b"anybody there?")
        transport.write(b"hello?")
        while not transport.is_closing():
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == 0
        assert isinstance(await writer.lost, BrokenPipeError)
        assert writer.events == ["made", "lost"]
        assert reports == []

    run(main)


@pytest.mark.parametrize("first", ["close", "abort", "write_eof", "reader", "write"])
@pytest.mark.parametrize("second", ["close", "abort", "write_eof", "reader", "write"])
def test_the_connection_is_lost_once(run, loop, pipe_of_both, reports, first, second):
    """CPython reports an AttributeError where abort() comes second; the protocol does not notice."""

    async def main():
        read, write = pipe_of_both
        transport, writer = await loop.connect_write_pipe(Recorder, write)
        for event in (first, second):
            if event == "reader":
                read.close()
            elif event == "write":
                transport.write(b"x")
            else:
                getattr(transport, event)()
        if first == second == "write":
            transport.close()
        await writer.lost
        await turns(2)
        assert writer.events == ["made", "lost"]
        assert write.closes == 1

    run(main)


@pytest.fixture
def pipe_of_both():
    read, write = files_of_a_pipe()
    with read, write:
        yield read, write


def test_the_null_device_takes_everything(run, loop, reports):
    async def main():
        file = CountingFile("/dev/null", "wb")
        transport, writer = await loop.connect_write_pipe(Recorder, file)
        for _ in range(10):
            transport.write(MESSAGE)
            assert transport.get_write_buffer_size() == 0
        await close_pipes(writer)
        await asyncio.sleep(0)
        assert writer.events == ["made", "lost"]
        assert file.closes == 1
        assert reports == []

    run(main)


def test_a_full_device_ends_the_connection_with_its_error(run, loop, reports):
    async def main():
        transport, writer = await loop.connect_write_pipe(Recorder, CountingFile("/dev/full", "wb"))
        transport.write(b"x")
        error = await writer.lost
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        assert reports == []

    run(main)


@pytest.mark.parametrize("method", ["connection_made", "pause_writing", "resume_writing", "connection_lost"])
def test_what_a_writers_callback_raises_is_reported_and_writing_goes_on(run, loop, ends, reports, method):
    class Failing(Recorder):
        pass

    def fail(self, *arguments):
        getattr(Recorder, method)(self, *arguments)
        raise LookupError(method)

    setattr(Failing, method, fail)

    async def main():
        reader, writer = await connected_pipe(*ends, Recorder, Failing)
        writer.transport.set_write_buffer_limits(high=1000)
        while writer.events[-1] != "pause":
            writer.transport.write(MESSAGE)
        while writer.events[-1] != "resume":
            await asyncio.sleep(0)
        await close_pipes(writer)
        assert await reader.lost is None
        assert len(reader.data) % len(MESSAGE) == 0
        assert writer.events == ["made", "pause", "resume", "lost"]
        (report,) = reports
        assert isinstance(report["exception"], LookupError)
        if method.endswith("writing"):
            assert report["message"] == f"protocol.{method}() failed"
            assert report["transport"] is writer.transport
            assert report["protocol"] is writer

    run(main)


def test_writing_in_resume_writing_is_fine(run, ends):
    class Refilling(Recorder):
        rounds = 0

        def resume_writing(self):
            super().resume_writing()
            if self.rounds < 5:
                self.rounds += 1
                self.transport.write(MESSAGE)
            else:
                self.transport.close()

    async def main():
        reader, writer = await connected_pipe(*ends, Recorder, Refilling)
        while "pause" not in writer.events:
            writer.transport.write(MESSAGE)
        assert await reader.lost is None
        assert await writer.lost is None
        assert writer.rounds == 5
        assert bytes(reader.data) == MESSAGE * (len(reader.data) // len(MESSAGE))

    run(main)


def test_another_protocol_can_take_over(run, loop, ends):
    async def main():
        writer = await stuffed_writer(loop, ends[1])
        other = Recorder()
        writer.transport.set_protocol(other)
        assert writer.transport.get_protocol() is other
        writer.transport.close()
        _, reader = await loop.connect_read_pipe(Recorder, ends[0])
        await reader.lost
        await other.lost
        assert other.events[-1] == "lost"
        assert writer.events == ["made", "pause"]

    run(main)


def test_a_stream_writer_drains_and_learns_of_the_end(run, loop, ends):
    async def main():
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, ends[1])
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(MESSAGE)
        drained = loop.create_task(writer.drain())
        await turns(2)
        assert not drained.done()
        ends[0].close()
        with pytest.raises(ConnectionError):
            await drained
        assert writer.is_closing()
        assert writer.get_extra_info("pipe") is ends[1]

    run(main)
