"""A line on standard error that says how far it is, and how long it will take."""

from __future__ import annotations

import sys
import time

WIDTH = 30


class Progress:
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
        if sys.stderr.isatty():
            print(f"\r{'':100}\r", end="", file=sys.stderr)
        print(f"{self.done} samples in {minutes(time.monotonic() - self.start)}", file=sys.stderr)


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
