"""What a worker process tells of a test, one JSON object per line.

    {"started": id}                  the test's time begins
    {"result": {...}}                a `Result`; a worker that dies or hangs in between sends none
    {"fixture": {...}}               the `Result` of a fixture that failed or skips; the tests that need it do not run
    {"finished": true}               the batch is done, the worker waits for the next one

An id is what unittest says without the package: `test_events.HandleTests.test_handle`.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

#: The package whose tests are run; the running interpreter's own.
PACKAGE = "test.test_asyncio"

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclasses.dataclass
class Result:
    """How a test ended, and which loops ran meanwhile."""

    id: str
    outcome: str
    text: str = ""
    """The traceback of a failure, the reason of a skip."""
    seconds: float = 0.0
    loops: int = 0
    """How many loops under test were made."""
    runs: int = 0
    """How often they were run (`run_forever`, which `run_until_complete` uses)."""
    other_loops: tuple[str, ...] = ()
    """The classes of the other loops that were run."""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Result:
        return Result(**{**fields, "other_loops": tuple(fields["other_loops"])})


def output(fd: int) -> str:
    """What the worker has printed since the test began, to be appended to a failure; its position in the file stays."""
    text = os.pread(fd, 1_000_000, 0).decode(errors="replace")
    return f"\n--- output ---\n{text[-10000:]}" if text.strip() else ""
