"""A line on standard error that says how far it is, and how long it will take."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDTH = 30


@contextlib.contextmanager
def start(total: int) -> Iterator[Callable[[str], None]]:
    """What to call before each of `total` steps; on a terminal with a bar of rich's, if that is installed."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
        except ModuleNotFoundError:
            pass
        else:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
                task, done = bar.add_task("", total=total), iter(range(total))
                yield lambda what: bar.update(task, description=what, completed=next(done))
            return
    progress = Progress(total)
    yield progress.step
    progress.end()


class Progress:
    """The line, in plain text."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()

    def step(self, what: str) -> None:
        """About to do `what`. On a terminal the line is written over; elsewhere there are twenty."""
        left = (time.monotonic() - self.start) / self.done * (self.total - self.done) if self.done else 0
        bar = "#" * (WIDTH * self.done // self.total)
        line = f"[{bar:{WIDTH}}] {self.done}/{self.total}  {minutes(left)} left  {what}"
        if sys.stderr.isatty():
            print(f"\r{line:100.100}", end="", file=sys.stderr, flush=True)
        elif self.done * 20 // self.total != (self.done - 1) * 20 // self.total:
            print(line, file=sys.stderr, flush=True)
        self.done += 1

    def end(self) -> None:
        """All is done."""
        if sys.stderr.isatty():
            print(f"\r{'':100}\r", end="", file=sys.stderr)
        print(f"{self.done} samples in {minutes(time.monotonic() - self.start)}", file=sys.stderr)


def minutes(seconds: float) -> str:
    """1:05"""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
