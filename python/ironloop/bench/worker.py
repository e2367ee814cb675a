"""The measured process: `main(ROW, LOOP, SECONDS)`. Only the loop under test is imported.

Work prints one line of JSON; a server prints its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import importlib
import json

from .loops import new_loop
from .rows import ROWS, SIZE
from .work import work


def main(row_name: str, loop_name: str, seconds: str) -> None:
    """Measure, or serve."""
    row = ROWS[row_name]
    module, _, function = row.program.partition(".")
    program = getattr(importlib.import_module(f".programs.{module}", __package__), function)
    loop = new_loop(loop_name)
    asyncio.set_event_loop(loop)
    if row.serves:
        loop.run_until_complete(program(SIZE))
    else:
        print(json.dumps(loop.run_until_complete(work(program, row.count, float(seconds)))))
