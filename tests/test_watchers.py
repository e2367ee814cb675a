"""add_reader and add_writer: level-triggered callbacks for descriptors."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.protocols import Echo, Recorder, close_all, connected_pair


def turns(loop, count=5):
    """Run a few turns."""

    async def main():
        for _ in range(count):
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())


def test_a_reader_runs_until_it_has_taken_everything(loop, pair):
    left, right = pair
    got = []
    loop.add_reader(left, lambda: got.append(left.recv(1)))
    right.send(b"hello")
    turns(loop, 10)
    assert b"".join(got) == b"hello"
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_a_reader_gets_its_arguments(loop, pair):
    left, right = pair
    got = []
    assert loop.add_reader(left.fileno(), lambda *a: (got.append(a), loop.remove_reader(left)), 1, 2) is None
    right.send(b"x")
    turns(loop)
    assert got == [(1, 2)]


def test_the_last_reader_wins(loop, pair):
    left, right = pair
    got = []
    loop.add_reader(left, got.append, "the first")
    loop.add_reader(left, lambda: (got.append(1), left.recv(10)))
    right.send(b"x")
    turns(loop)
    assert got == [1]
    loop.remove_reader(left)


def test_a_writer_runs_in_every_turn_in_which_there_is_room(loop, pair):
    left, _right = pair
    seen = []
    loop.add_writer(left, seen.append, 1)
    turns(loop, 3)
    assert len(seen) >= 3
    assert loop.remove_writer(left) is True
    assert loop.remove_writer(left) is False
    count = len(seen)
    turns(loop, 2)
    assert len(seen) == count


def test_reading_goes_on_when_the_writer_is_removed(loop, pair):
    left, right = pair
    got = []
    loop.add_reader(left, lambda: got.append(left.recv(10)))
    loop.add_writer(left, lambda: loop.remove_writer(left))
    turns(loop, 2)
    right.send(b"x")
    turns(loop, 2)
    assert got == [b"x"]
    loop.remove_reader(left)


def test_a_reader_that_removes_the_writer_of_the_same_event_stops_it(loop, pair):
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, lambda: (left.recv(10), loop.remove_writer(left)))
    loop.add_writer(left, lambda: None)
    seen = []
    loop.add_writer(left, seen.append, 1)
    turns(loop, 2)
    assert seen == []
    loop.remove_reader(left)


def test_a_closed_file_object_can_still_be_removed(loop):
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    left.close()
    right.close()
    assert loop.remove_reader(left) is True


@pytest.mark.parametrize("bad", ["text", object(), None, 1.5])
def test_what_is_no_file_is_refused(loop, bad):
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match="Invalid file object"):
            method(bad, print)


def test_a_negative_descriptor_is_refused(loop):
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        loop.add_reader(-1, print)


def test_a_descriptor_that_is_not_open_is_refused(loop):
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(read, print)
    assert loop.remove_reader(read) is False


def test_a_regular_file_cannot_be_polled(loop, tmp_path):
    with (tmp_path / "file").open("wb") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)


def test_the_descriptor_of_a_transport_is_taken_and_the_transport_unharmed(run, loop):
    async def main():
        client, peer, server = await connected_pair(Recorder, Echo)
        fd = client.transport.get_extra_info("socket").fileno()
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
                method(fd, print)
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                method(fd)
        message = bytes(1_000_000)
        client.transport.write(message)
        assert await client.received(len(message)) == message
        await close_all(client, peer, server)

    run(main)


def test_the_descriptor_of_a_datagram_transport_is_taken(run, loop):
    async def main():
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(transport.get_extra_info("socket").fileno(), print)
        transport.close()
        await asyncio.sleep(0.01)

    run(main)


def test_a_reader_that_raises_is_reported_and_stays(loop, pair, reports):
    left, right = pair
    loop.add_reader(left, lambda: (left.recv(1), 1 / 0))
    right.send(b"xy")
    turns(loop, 4)
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2
    assert loop.remove_reader(left) is True


def test_the_end_of_a_stream_wakes_the_reader(loop, pair):
    left, right = pair
    got = []
    loop.add_reader(left, lambda: (got.append(left.recv(10)), loop.remove_reader(left)))
    right.close()
    turns(loop)
    assert got == [b""]


def test_readers_of_pipes_work(loop):
    read, write = os.pipe()
    got = []
    loop.add_reader(read, lambda: (got.append(os.read(read, 100)), loop.remove_reader(read)))
    os.write(write, b"through a pipe")
    turns(loop)
    os.close(read)
    os.close(write)
    assert got == [b"through a pipe"]


def test_a_number_that_was_closed_and_opened_again_can_be_watched(loop):
    import ironloop

    if not isinstance(loop, ironloop.Loop):
        pytest.skip("CPython's selector remembers the old registration and raises FileNotFoundError")
    left, right = socket.socketpair()
    number = left.fileno()
    got = []
    loop.add_reader(number, got.append, "the old one")
    left.close()
    right.close()
    left, right = socket.socketpair()
    with left, right:
        assert left.fileno() == number
        loop.add_reader(left, lambda: got.append(left.recv(10)))
        right.send(b"new")
        turns(loop)
        assert got == [b"new"]
        loop.remove_reader(left)


def test_closing_the_loop_ends_all_registrations(loop, pair):
    left, _right = pair
    loop.add_reader(left, print)
    loop.close()
    assert loop.remove_reader(left) is False
