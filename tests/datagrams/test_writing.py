"""Datagrams that find no room: queued in order, with flow control."""

from __future__ import annotations

import asyncio
import socket
import sys
import time

import pytest

from tests.support.datagrams import close, drained, fill, filled, opened, turns
from tests.support.water_marks import assert_water_marks_can_be_set


def test_the_protocol_is_paused_once_and_resumed_once(run, path, receiver):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        client.transport.set_write_buffer_limits(high=1000, low=500)
        sent = fill(client.transport, 901)
        assert client.events == ["made"]
        for number in range(5):
            sent.append(b"more %d" % number * 20)
            client.transport.sendto(sent[-1])
            assert client.events == ["made", "pause"]
        assert await drained(receiver, len(sent)) == sent
        await client.seen("resume")
        assert client.events == ["made", "pause", "resume"]
        await close(client)

    run(main)


def test_the_queue_has_the_size_of_what_is_in_it(run, path, receiver, loop_name):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        assert client.transport.get_write_buffer_size() == 0
        # From Python 3.13 on each datagram counts eight bytes more, for its header.
        each = 108 if sys.version_info >= (3, 13) else 100
        sent = fill(client.transport)
        assert client.transport.get_write_buffer_size() == each
        for number in range(2, 6):
            sent.append(bytearray(100))
            client.transport.sendto(sent[-1])
            assert client.transport.get_write_buffer_size() == number * each
        assert "bufsize=" in repr(client.transport)
        assert await drained(receiver, len(sent)) == sent
        if loop_name != "asyncio" or sys.version_info[:2] != (3, 13):  # whose first versions forget the headers
            while client.transport.get_write_buffer_size():
                await asyncio.sleep(0)
        await close(client)

    run(main)


def test_water_marks_can_be_set(run, path, receiver):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        transport = client.transport
        assert_water_marks_can_be_set(transport.get_write_buffer_limits, transport.set_write_buffer_limits)
        transport.set_write_buffer_limits(low=100)
        fill(transport, 300)
        assert client.events == ["made"]
        transport.set_write_buffer_limits(high=0)
        assert client.events == ["made", "pause"]
        await close(client)

    run(main)


@pytest.mark.parametrize("connected", [True, False])
def test_hundreds_of_queued_datagrams_keep_their_order(run, path, receiver, connected):
    """The kernel calls a sender that is not connected writable although its datagrams find no room."""

    async def main():
        client = await opened(remote_addr=path if connected else None, family=socket.AF_UNIX)
        sent = fill(client.transport, 30_000, path)
        assert len(sent) > 250
        assert await drained(receiver, len(sent)) == sent
        client.transport.sendto(b"last", path)
        assert await drained(receiver, 1) == [b"last"]
        await close(client)

    run(main)


def test_what_is_sent_while_others_wait_does_not_overtake_them(run, path, receiver):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        sent = fill(client.transport)
        got = []
        for number in range(30):
            got += await drained(receiver, 1)
            sent.append(b"more %d" % number)
            client.transport.sendto(sent[-1])
            await turns(number % 3)
        got += await drained(receiver, len(sent) - 30)
        assert got == sent
        await close(client)

    run(main)


def test_what_is_changed_while_it_is_queued_arrives_as_it_was(run, path, receiver):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        sent = fill(client.transport)
        changed = bytearray(b"original")
        viewed = bytearray(b"original")
        client.transport.sendto(changed)
        client.transport.sendto(memoryview(viewed))
        viewed[:] = b"replaced"
        changed += bytes(1000)
        changed.clear()
        assert await drained(receiver, len(sent) + 2) == sent + [b"original"] * 2
        await close(client)

    run(main)


def test_close_sends_what_is_queued_first(run, path, receiver):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        sent = await filled(client.transport, 2000)
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        await turns(5)
        assert client.events == ["made"]
        assert client.transport.get_write_buffer_size() >= 2000
        assert await drained(receiver, len(sent)) == sent
        assert await client.lost is None
        await turns(2)
        assert client.events == ["made", "lost"]
        assert client.transport.get_extra_info("socket").fileno() == -1

    run(main)


@pytest.mark.parametrize("closing", [True, False])
def test_abort_drops_what_is_queued(run, path, receiver, closing):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        sent = fill(client.transport, 2000)
        if closing:
            client.transport.close()
        client.transport.abort()
        assert client.transport.is_closing()
        assert client.events == ["made"]
        assert await client.lost is None
        await turns(2)
        assert client.events == ["made", "lost"]
        got = []
        with pytest.raises(BlockingIOError):
            while True:
                got.append(receiver.recv(1000))
        assert got == sent[: len(got)]
        assert len(sent) - len(got) >= 2000 // 108

    run(main)


def test_queued_datagrams_that_fail_are_reported_and_the_others_sent(run, path, receiver):
    async def main():
        client = await opened(family=socket.AF_UNIX)
        sent = fill(client.transport, 1, path)
        for number in range(5):
            client.transport.sendto(b"lost", f"{path}-{number}")
            sent.append(b"sent %d" % number)
            client.transport.sendto(sent[-1], path)
        assert client.errors == []
        assert await drained(receiver, len(sent)) == sent
        assert [type(error) for error in client.errors] == [FileNotFoundError] * 5
        await close(client)

    run(main)


def test_a_receiver_that_goes_away_fails_all_that_is_queued(run, path, receiver):
    async def main():
        client = await opened(remote_addr=path, family=socket.AF_UNIX)
        client.transport.set_write_buffer_limits(high=1000, low=500)
        fill(client.transport, 2000)
        receiver.close()
        await client.seen("resume")
        assert type(client.errors[0]) is ConnectionRefusedError
        assert len(client.errors) >= 10
        assert not client.transport.is_closing()
        await close(client)

    run(main)


def happened(loop):
    metrics = loop.metrics()
    return metrics.timers_fired + metrics.io_events


def test_a_full_receiver_is_asked_once_in_a_millisecond(run, loop, path, receiver, loop_name):
    """The kernel calls the socket writable all the time: asking again and again would be a busy loop."""
    if loop_name == "asyncio":
        pytest.skip("CPython's loop spins")

    async def main():
        client = await opened(family=socket.AF_UNIX)
        fill(client.transport, 30_000, path)
        # However slow the machine is: no more happens than the time that passes has room for.
        before, started = happened(loop), time.monotonic()
        await asyncio.sleep(0.1)
        assert happened(loop) - before <= (time.monotonic() - started) / 0.001 + 5
        await close(client)

    run(main)
