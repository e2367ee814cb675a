"""The short way into asyncio's StreamReader: nobody can tell, and whoever replaces something of it is asked.

Where the calls are counted it is a single byte that comes, which comes in one.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.streams import functions_called


class Connection:
    """A stream of asyncio's, and a plain transport that sends to it."""

    def __init__(self, loop, reader, protocol):
        self.loop, self.reader, self.protocol = loop, reader, protocol

    async def open(self):
        sender = self.loop.create_future()

        class Sender(asyncio.Protocol):
            def connection_made(self, transport):
                sender.set_result(transport)

        self.server = await self.loop.create_server(Sender, "127.0.0.1", 0)
        address = self.server.sockets[0].getsockname()
        self.transport, _ = await self.loop.create_connection(lambda: self.protocol, *address)
        self.sender = await sender

    async def close(self):
        self.sender.abort()
        self.transport.abort()
        self.server.close()
        await self.server.wait_closed()
        await asyncio.sleep(0.001)

    async def has_received(self, count):
        """Until the reader's buffer holds as many bytes."""
        while len(self.reader._buffer) < count:
            await asyncio.sleep(0.001)


@pytest.fixture
def stream(loop):
    """`stream(...)` makes an open connection; readers and protocols may be of other classes."""
    made = []

    async def make(reader_class=asyncio.StreamReader, protocol_class=asyncio.StreamReaderProtocol, limit=1000):
        reader = reader_class(limit=limit, loop=loop)
        connection = Connection(loop, reader, protocol_class(reader, loop=loop))
        await connection.open()
        made.append(connection)
        return connection

    yield make
    for connection in made:
        loop.run_until_complete(connection.close())


def test_the_methods_of_the_reader_are_not_called_where_nobody_would_see_it(run, loop_name, stream):
    async def main():
        connection = await stream()
        connection.sender.write(b"hello")
        assert await connection.reader.readexactly(5) == b"hello"

    called = functions_called(lambda: run(main), {"data_received", "feed_data", "_wakeup_waiter"})
    assert called == ({"data_received", "feed_data", "_wakeup_waiter"} if loop_name == "asyncio" else set())


def test_reading_is_paused_above_twice_the_limit_and_resumed(run, stream):
    async def main():
        connection = await stream(limit=1000)
        reader, transport = connection.reader, connection.transport
        connection.sender.write(b"x" * 2000)
        await connection.has_received(2000)
        assert transport.is_reading()
        assert not reader._paused
        connection.sender.write(b"y")
        await connection.has_received(2001)
        assert not transport.is_reading()
        assert reader._paused
        connection.sender.write(b"z" * 3000)
        await asyncio.sleep(0.01)
        assert len(reader._buffer) == 2001
        assert await reader.readexactly(1001) == b"x" * 1001
        assert not reader._paused
        assert transport.is_reading()
        assert await reader.readexactly(4000) == b"x" * 999 + b"y" + b"z" * 3000

    run(main)


@pytest.mark.parametrize("limit", [float("inf"), 1e9])
def test_a_limit_may_be_any_number(run, stream, limit):
    async def main():
        connection = await stream(limit=limit)
        connection.sender.write(b"x" * 300_000)
        assert await connection.reader.readexactly(300_000) == b"x" * 300_000
        connection.reader._limit = 0.5
        connection.sender.write(b"xy")
        await connection.has_received(2)
        assert connection.reader._paused

    run(main)


def test_a_transport_that_cannot_be_paused_is_forgotten(run, stream):
    async def main():
        class Unpausable:
            def pause_reading(self):
                raise NotImplementedError

        connection = await stream(limit=1)
        connection.reader._transport = Unpausable()
        connection.sender.write(b"x" * 100)
        await connection.has_received(100)
        assert connection.reader._transport is None
        assert not connection.reader._paused
        connection.sender.write(b"y" * 100)
        await connection.has_received(200)

    run(main)


@pytest.mark.parametrize("where", ["reader", "protocol", "StreamReader", "StreamReaderProtocol"])
def test_a_method_that_is_replaced_gets_the_data(run, stream, monkeypatch, where):
    name = "feed_data" if where.lower().endswith("reader") else "data_received"
    seen = []

    async def main():
        connection = await stream()
        connection.sender.write(b"before")
        assert await connection.reader.readexactly(6) == b"before"
        if where in ("reader", "protocol"):
            target = getattr(connection, where)
            original = getattr(target, name)
            monkeypatch.setattr(target, name, lambda data: (seen.append(data), original(data)))
        else:
            target = getattr(asyncio, where)
            original = getattr(target, name)
            monkeypatch.setattr(target, name, lambda self, data: (seen.append(data), original(self, data)))
        connection.sender.write(b"!")
        assert await connection.reader.readexactly(1) == b"!"
        monkeypatch.undo()
        connection.sender.write(b"after.")
        assert await connection.reader.readexactly(6) == b"after."

    run(main)
    assert seen == [b"!"]


@pytest.mark.parametrize("on_class", [False, True])
def test_a_wake_up_that_is_replaced_is_called(run, stream, monkeypatch, on_class):
    woken = []

    async def main():
        connection = await stream()
        reader = connection.reader
        original = asyncio.StreamReader._wakeup_waiter
        if on_class:
            replaced = lambda self: (woken.append(1), original(self))  # noqa: E731
            monkeypatch.setattr(asyncio.StreamReader, "_wakeup_waiter", replaced)
        else:
            reader._wakeup_waiter = lambda: (woken.append(1), original(reader))
        task = asyncio.ensure_future(reader.readexactly(1))
        await asyncio.sleep(0)
        connection.sender.write(b"!")
        assert await task == b"!"

    run(main)
    assert woken == [1]


def test_another_way_to_find_the_reader_is_used(run, loop, stream, monkeypatch):
    async def main():
        connection = await stream()
        other = asyncio.StreamReader(loop=loop)
        monkeypatch.setattr(asyncio.StreamReaderProtocol, "_stream_reader", property(lambda self: other))
        connection.sender.write(b"hello")
        assert await other.readexactly(5) == b"hello"
        assert not connection.reader._buffer
        monkeypatch.undo()

    run(main)


def test_subclasses_get_the_data_by_their_methods(run, stream):
    seen = []

    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            seen.append(("reader", data))
            super().feed_data(data)

    class Protocol(asyncio.StreamReaderProtocol):
        def data_received(self, data):
            seen.append(("protocol", data))
            super().data_received(data)

    async def main():
        for classes in ({"reader_class": Reader}, {"protocol_class": Protocol}):
            connection = await stream(**classes)
            connection.sender.write(b"!")
            assert await connection.reader.readexactly(1) == b"!"

    run(main)
    assert seen == [("reader", b"!"), ("protocol", b"!")]


def test_a_class_that_is_changed_on_the_way_counts(run, stream):
    """Assigning to `__class__` is how some programs subclass what others have made."""
    seen = []

    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            seen.append(data)
            super().feed_data(data)

    async def main():
        connection = await stream()
        connection.reader.__class__ = Reader
        connection.sender.write(b"!")
        assert await connection.reader.readexactly(1) == b"!"

    run(main)
    assert seen == [b"!"]


def test_set_protocol_leads_to_a_reader_and_away_from_it(run, loop, stream):
    async def main():
        connection = await stream()
        other = asyncio.StreamReader(loop=loop)
        second = asyncio.StreamReaderProtocol(other, loop=loop)
        received = loop.create_future()

        class Plain(asyncio.Protocol):
            def data_received(self, data):
                received.set_result(data)

        connection.transport.set_protocol(second)
        connection.sender.write(b"second")
        assert await other.readexactly(6) == b"second"
        connection.transport.set_protocol(Plain())
        connection.sender.write(b"!")
        assert await received == b"!"
        connection.transport.set_protocol(connection.protocol)
        connection.sender.write(b"first")
        assert await connection.reader.readexactly(5) == b"first"

    run(main)


def test_the_end_and_errors_reach_the_reader(run, stream):
    async def main():
        connection = await stream()
        connection.sender.write(b"rest")
        connection.sender.write_eof()
        assert await connection.reader.read() == b"rest"
        assert connection.reader.at_eof()
        broken = await stream()
        broken.transport._force_close(ConnectionResetError("broken"))
        with pytest.raises(ConnectionResetError, match="broken"):
            await broken.reader.read()

    run(main)


def test_data_after_the_reader_was_told_of_the_end_is_an_error(run, stream, reports):
    async def main():
        connection = await stream()
        connection.reader.feed_eof()
        connection.sender.write(b"too late")
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            await connection.protocol._closed

    run(main)
    assert [context["message"] for context in reports] == ["Fatal error: protocol.data_received() call failed."]


def test_a_buffer_that_somebody_looks_at_cannot_grow(run, stream, reports):
    async def main():
        connection = await stream()
        view = memoryview(connection.reader._buffer)
        connection.sender.write(b"hello")
        with pytest.raises(BufferError):
            await connection.protocol._closed
        view.release()

    run(main)
    assert len(reports) == 1


def test_a_reader_that_stopped_waiting_misses_nothing(run, stream):
    async def main():
        connection = await stream()
        task = asyncio.ensure_future(connection.reader.readexactly(5))
        await asyncio.sleep(0)
        waiter = connection.reader._waiter
        connection.sender.write(b"hello")
        task.cancel()
        await connection.has_received(5)
        assert waiter.cancelled()
        assert connection.reader._waiter is None
        assert await connection.reader.readexactly(5) == b"hello"

    run(main)


def test_a_waiter_that_is_cancelled_is_forgotten(run, loop, stream):
    async def main():
        connection = await stream()
        connection.reader._waiter = loop.create_future()
        connection.reader._waiter.cancel()
        connection.sender.write(b"hello")
        await connection.has_received(5)
        assert connection.reader._waiter is None

    run(main)


def test_data_for_a_reader_that_is_gone_is_dropped(run, stream):
    async def main():
        connection = await stream()
        kept = connection.reader
        connection.protocol._stream_reader_wr = None
        connection.sender.write(b"lost")
        await asyncio.sleep(0.01)
        assert not kept._buffer
        assert connection.transport.is_reading()

    run(main)


@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 100_000, 3_000_000])
def test_messages_of_any_size_arrive_whole(run, stream, size):
    message = bytes(range(251)) * (size // 251 + 1)

    async def main():
        connection = await stream(limit=1 << 16)
        for _ in range(3):
            connection.sender.write(message[:size])
            assert await connection.reader.readexactly(size) == message[:size]
        connection.sender.write(b"end")
        assert await connection.reader.readexactly(3) == b"end"

    run(main)
