"""A sendfile that is cancelled just when the peer is gone: whichever is seen first, nothing is reported."""

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
