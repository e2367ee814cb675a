"""What `python -m ironloop bench` measures: every row."""

from __future__ import annotations

from dataclasses import dataclass

CONNECTIONS = 10
SIZE = 1024  # of a message, in bytes


@dataclass(frozen=True)
class Row:
    """One question. `program` is MODULE.FUNCTION of `programs`; work has a `count`, a few milliseconds' worth."""

    name: str
    title: str
    program: str
    count: int = 0

    @property
    def serves(self) -> bool:
        """A server, which is given a load."""
        return not self.count


_ROWS = (
    Row("call_soon", "call_soon, each schedules the next", "callbacks.call_soon_chain", 10_000),
    Row("sleep", "sleep(0)", "tasks.sleep_zero", 10_000),
    Row("create_task", "create_task and await", "tasks.create_task", 5_000),
    Row("gather", "gather, 100 coroutines a call", "tasks.gather", 5_000),
    Row("timers", "call_later and cancel", "timers.cancelled", 10_000),
    Row("threadsafe", "call_soon_threadsafe, busy loop", "threads.threadsafe_busy", 10_000),
    Row("executor", "run_in_executor, one by one", "threads.executor", 500),
    Row("echo", "TCP echo, Protocol, 1 KiB", "echoes.serve_protocol"),
    Row("streams", "TCP echo, streams, 1 KiB", "echoes.serve_streams"),
)
ROWS = {row.name: row for row in _ROWS}
