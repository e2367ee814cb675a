"""What a pause of a reading end costs the loop: ironloop only, since CPython's loop has no counters."""

from __future__ import annotations

import asyncio

import ironloop

from tests.support.pipes import close_pipes, connected_pipe, files_of_a_pipe

TURNS = 50


async def events_during(turns: int) -> int:
    loop = asyncio.get_running_loop()
    before = loop.metrics().io_events
    for _ in range(turns):
        await asyncio.sleep(0)
    return loop.metrics().io_events - before


def test_data_that_waits_in_a_paused_pipe_is_announced_once():
    async def main():
        reader, writer = await connected_pipe(*files_of_a_pipe())
        reader.transport.pause_reading()
        writer.transport.write(b"waiting")
        assert await events_during(TURNS) <= 1
        assert await events_during(TURNS) == 0
        reader.transport.resume_reading()
        assert await reader.received(7) == b"waiting"
        await close_pipes(reader, writer)

    ironloop.run(main())


def test_reading_goes_on_after_a_pause_that_met_no_data():
    async def main():
        reader, writer = await connected_pipe(*files_of_a_pipe())
        for message in (b"one", b"two"):
            reader.transport.pause_reading()
            assert await events_during(TURNS) == 0
            reader.transport.resume_reading()
            writer.transport.write(message)
            assert await reader.received(3) == message
            reader.data.clear()
        await close_pipes(reader, writer)

    ironloop.run(main())
