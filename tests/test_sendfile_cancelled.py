"""A sendfile that is cancelled, once or twice, just when the connection ends: whichever is seen first, nothing is
reported."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from tests.support.protocols import Recorder


@pytest.mark.parametrize("after", range(8))
def test_an_error_of_the_kernel_s_that_comes_with_a_cancellation_is_not_left_behind(
    run, loop, reports, tmp_path, after
):
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))

    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
        with path.open("rb") as file:
            sending = loop.create_task(loop.sendfile(transport, file))
            peer.close()
            for _ in range(after):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()
        transport.abort()
        await asyncio.wait([protocol.lost])

    run(main)
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("after", range(3))
def test_a_connection_that_ends_between_two_cancellations_is_not_left_behind(
    run, loop, reports, tmp_path, before, after
):
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000_000))

    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
        with peer, path.open("rb") as file:
            sending = loop.create_task(loop.sendfile(transport, file))
            for _ in range(8):  # It waits for the peer, who does not read.
                await asyncio.sleep(0)
            sending.cancel()
            for _ in range(before):
                await asyncio.sleep(0)
            transport.abort()
            for _ in range(after):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled()
            await asyncio.wait([protocol.lost])

    run(main)
    gc.collect()
    assert reports == []
