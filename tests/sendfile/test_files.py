"""Files that are sent, through a transport and through a plain socket: which part, in which order, what is refused.

Files with a descriptor leave through sendfile(2), others are read and sent in pieces ("fallback").
"""

from __future__ import annotations

import asyncio
import io

import pytest

from tests.support.sendfile import (
    ANY_SOCKETS,
    DATA,
    SIZE,
    OnlyReadable,
    ReadableWithoutDescriptor,
    receive,
)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (1000, None), (0, 5000), (300, 70_000), (SIZE - 9, 100), (SIZE, None), (SIZE + 5, 7), (0, 1)],
)
def test_a_part_of_a_file_is_sent(run, sockets, sender, file, offset, count):
    _, peer = sockets

    async def main():
        async with sender:
            expected = DATA[offset : None if count is None else offset + count]
            receiving = asyncio.create_task(receive(peer, len(expected) + 3))
            assert await sender.sendfile(file, offset, count) == len(expected)
            if expected:
                assert file.tell() == offset + len(expected)
            await sender.write(b"end")
            assert await receiving == expected + b"end"

    run(main)


def test_the_kernel_starts_at_the_offset_wherever_the_file_stands(run, sockets, sender, opened):
    _, peer = sockets

    async def main():
        async with sender:
            opened.seek(77)
            assert await sender.sendfile(opened, count=1000) == 1000
            assert opened.tell() == 1000
            assert await receive(peer, 1000) == DATA[:1000]

    run(main)


@ANY_SOCKETS
def test_an_empty_file_is_sent_at_once(run, sockets, sender, tmp_path):
    _, peer = sockets
    (tmp_path / "empty").touch()

    async def main():
        async with sender:
            with (tmp_path / "empty").open("rb") as empty:
                assert await sender.sendfile(empty) == 0
                assert await sender.sendfile(empty, 5) == 0
            assert await sender.sendfile(io.BytesIO()) == 0
            await sender.write(b"end")
            assert await receive(peer, 3) == b"end"

    run(main)


def test_files_and_writes_keep_their_order(run, sockets, sender, file):
    _, peer = sockets

    async def main():
        async with sender:
            expected = b""
            for number in range(10):
                # Two writes in one step: a loop may hold the second one back.
                await sender.write(b"first%d" % number)
                await sender.write(b"second%d" % number)
                assert await sender.sendfile(file, number * 1000, 900) == 900
                expected += b"first%dsecond%d" % (number, number) + DATA[number * 1000 :][:900]
            assert await receive(peer, len(expected)) == expected

    run(main)


@pytest.mark.parametrize("make", [OnlyReadable, ReadableWithoutDescriptor])
def test_a_file_that_can_only_be_read_falls_back(run, sockets, sender, make):
    _, peer = sockets

    async def main():
        async with sender:
            receiving = asyncio.create_task(receive(peer, 50_000))
            assert await sender.sendfile(make()) == 50_000
            assert await receiving == DATA[:50_000]

    run(main)


@ANY_SOCKETS
@pytest.mark.parametrize("make", [OnlyReadable, ReadableWithoutDescriptor, lambda: io.BytesIO(DATA)])
def test_without_fallback_such_a_file_is_refused(run, sockets, sender, make):
    _, peer = sockets

    async def main():
        async with sender:
            with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                await sender.sendfile(make(), fallback=False)
            await sender.assert_usable(peer)

    run(main)


@ANY_SOCKETS
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"count": 0}, ValueError, r"count must be a positive integer \(got 0\)"),
        ({"count": -5}, ValueError, r"count must be a positive integer \(got -5\)"),
        ({"count": "5"}, TypeError, r"count must be a positive integer \(got '5'\)"),
        ({"offset": -1}, ValueError, r"offset must be a non-negative integer \(got -1\)"),
        ({"offset": 1.0}, TypeError, r"offset must be a non-negative integer \(got 1.0\)"),
        ({"offset": None}, TypeError, r"offset must be a non-negative integer \(got None\)"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(run, sockets, sender, file, arguments, error, text):
    _, peer = sockets

    async def main():
        async with sender:
            with pytest.raises(error, match=text):
                await sender.sendfile(file, **arguments)
            await sender.assert_usable(peer)
            assert file.tell() == 0

    run(main)


@ANY_SOCKETS
def test_text_files_and_closed_files_are_refused(run, sockets, sender, opened):
    _, peer = sockets

    async def main():
        async with sender:
            with open(opened.name, encoding="latin-1") as text:
                with pytest.raises(ValueError, match="file should be opened in binary mode"):
                    await sender.sendfile(text)
            memory = io.BytesIO(DATA)
            memory.close()
            for closed in (text.buffer, memory):
                with pytest.raises(ValueError, match="closed file"):
                    await sender.sendfile(closed)
            await sender.assert_usable(peer)

    run(main)
