"""`ironloop.trace`: what a loop does, callback by callback, as a file for Perfetto or chrome://tracing.

    with ironloop.trace("trace.json"):
        await the_interesting_part()

Each callback, I/O event, poll and turn of that time becomes a complete event ("ph": "X") of the Trace Event Format, in
microseconds of `loop.time()`. While a trace is kept, callbacks cost some microseconds more; otherwise it costs nothing.
The events are kept in memory and written at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._loop import Loop

CALLBACKS, PHASES = 1, 2
"""The two rows of the picture, in place of threads: what ran, and the turns with their polls."""


class Trace:
    """Keeps a trace of `loop` (the running one if None) and writes it to `path`.

    A context manager; enter and leave it in the loop's thread, or while the loop does not run. RuntimeError if no loop
    runs, or if a trace of this loop is being kept already; TypeError if it is no `ironloop.Loop`; OSError if the file
    cannot be written, before anything is traced.
    """

    def __init__(self, path: str | os.PathLike[str], loop: Loop | None = None) -> None:
        self.path = path
        self._loop = loop
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        from ._loop import Loop

        loop = asyncio.get_running_loop() if self._loop is None else self._loop
        if not isinstance(loop, Loop):
            raise TypeError(f"an ironloop.Loop is needed, not {loop!r}")
        if loop._trace is not None:
            raise RuntimeError("a trace of this loop is being kept already")
        with open(self.path, "w", encoding="utf-8"):
            pass
        self._loop = loop
        self._events = [
            _metadata("process_name", 0, f"ironloop in process {os.getpid()}"),
            _metadata("thread_name", CALLBACKS, f"callbacks ({threading.current_thread().name})"),
            _metadata("thread_name", PHASES, "turns"),
        ]
        loop._trace = self
        loop._set_tracing(True)
        return self

    def __exit__(self, *_exception: object) -> None:
        loop = self._loop
        assert loop is not None
        loop._set_tracing(False)
        loop._trace = None
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": self._events, "displayTimeUnit": "ms"}, file)

    # What the loop tells; times are in seconds of `loop.time()`

    def callback(self, name: str, start: float, end: float) -> None:
        """A callback ran."""
        self._add(name, "callback", CALLBACKS, start, end)

    def event(self, source: str, start: float, end: float) -> None:
        """A transport or a listener handled an event."""
        self._add(source, "I/O", CALLBACKS, start, end)

    def phase(self, what: str, start: float, end: float, events: int) -> None:
        """A turn, or the poll in it, which brought so many events, is over."""
        self._add(what, "loop", PHASES, start, end, {"events": events} if what == "poll" else {})

    def _add(
        self, name: str, category: str, row: int, start: float, end: float, arguments: dict[str, Any] | None = None
    ) -> None:
        self._events.append(
            {
                "name": name,
                "cat": category,
                "ph": "X",
                "ts": start * 1e6,
                "dur": (end - start) * 1e6,
                "pid": os.getpid(),
                "tid": row,
                "args": arguments or {},
            }
        )


def _metadata(name: str, row: int, value: str) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": os.getpid(), "tid": row, "args": {"name": value}}
