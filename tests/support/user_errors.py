"""Protocols whose callbacks raise."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.protocols import Recorder


class Boom(Exception):
    """What the callbacks raise."""


def failing(method: str, exception: type[BaseException] = Boom) -> type[Recorder]:
    """A recorder of which one method raises."""

    def fail(self: Recorder, *arguments: Any) -> None:
        getattr(Recorder, method)(self, *arguments)
        raise exception(method)

    return type("Failing", (Recorder,), {method: fail})


class FailingFlowControl(Recorder):
    def pause_writing(self) -> None:
        raise Boom("pause")

    def resume_writing(self) -> None:
        raise Boom("resume")


class FailingBuffer(asyncio.BufferedProtocol):
    """Of which one method raises, or which has no room ("empty")."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.method == "get_buffer":
            raise Boom(self.method)
        return memoryview(bytearray(0 if self.method == "empty" else 100))

    def buffer_updated(self, nbytes: int) -> None:
        raise Boom(self.method)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


async def flow_control_is_reported(reports: list[dict[str, Any]], transport: Any) -> None:
    """Wait until both callbacks of a `FailingFlowControl` have raised."""
    while len(reports) < 2:
        await asyncio.sleep(0)
    assert [report["message"] for report in reports] == [
        "protocol.pause_writing() failed",
        "protocol.resume_writing() failed",
    ]
    assert all(report["transport"] is transport for report in reports)
    assert all(isinstance(report["exception"], Boom) for report in reports)
