"""A variable that shows in which context something runs, and a protocol that keeps a trail of it."""

from __future__ import annotations

import asyncio
import contextvars

from tests.support.protocols import Recorder

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


class Trail(Recorder):
    """Notes what the variable was in each callback, and sets it to the callback's name."""

    def __init__(self):
        super().__init__()
        self.trail = []
        self._step("factory")

    def _step(self, name):
        self.trail.append((name, variable.get()))
        variable.set(name)

    def connection_made(self, transport):
        self._step("made")
        super().connection_made(transport)

    def data_received(self, data):
        self._step("data")
        super().data_received(data)

    def eof_received(self):
        self._step("eof")
        return super().eof_received()

    def pause_writing(self):
        self._step("pause")
        super().pause_writing()

    def resume_writing(self):
        self._step("resume")
        super().resume_writing()

    def connection_lost(self, exc):
        self._step("lost")
        super().connection_lost(exc)


async def in_context(name, function, *arguments):
    """Await `function(*arguments)` in a task of its own, where the variable is `name`."""

    async def step():
        variable.set(name)
        result = function(*arguments)
        return await result if asyncio.iscoroutine(result) else result

    return await asyncio.get_running_loop().create_task(step())
