"""A sendfile that is cancelled, once or twice, just when the connection ends: whichever is seen first, nothing is
reported."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest

from tests.support.protocols import Recorder


@contextlib.asynccontextmanager
async def sending(loop, path, size):
    """The task that sends a file of that size, its transport, and the socket of the peer, who does not read.

    At the end the connection is lost, if it was not before.
    """
    path.write_bytes(bytes(size))
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
    with peer, path.open("rb") as file:
        task = loop.create_task(loop.sendfile(transport, file))
        yield task, transport, peer
        await asyncio.wait([task])
    transport.abort()
    await asyncio.wait([protocol.lost])


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("after", range(8))
def test_an_error_of_the_kernel_s_that_comes_with_a_cancellation_is_not_left_behind(
    run, loop, reports, tmp_path, after
):
    async def main():
        async with sending(loop, tmp_path / "file", 100_000) as (task, _, peer):
            peer.close()
            await turns(after)
            task.cancel()
        if not task.cancelled():
            task.exception()

    run(main)
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("after", range(3))
def test_a_connection_that_ends_between_two_cancellations_is_not_left_behind(
    run, loop, reports, tmp_path, before, after
):
    async def main():
        async with sending(loop, tmp_path / "file", 10_000_000) as (task, transport, _):
            await turns(8)  # It waits for the peer.
            task.cancel()
            await turns(before)
            transport.abort()
            await turns(after)
            task.cancel()
        assert task.cancelled()

    run(main)
    gc.collect()
    assert reports == []
