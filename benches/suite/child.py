"""The measured process: `python -m suite.child ROW LOOP SECONDS`, in the folder above this one.

Servers print their address and serve until they are killed; work and figures print one line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys

from suite.loops import new_loop
from suite.rows import ROWS
from suite.work import work

CORE = 0


def main() -> None:
    row, name, seconds = ROWS[sys.argv[1]], sys.argv[2], float(sys.argv[3])
    os.sched_setaffinity(0, {CORE})
    module, _, function = row.program.partition(".")
    program = getattr(importlib.import_module(f"programs.{module}"), function)
    if row.argument == "loop":  # makes its own
        print(json.dumps(program(seconds, name)))
        return
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    if row.load:
        loop.run_until_complete(program(row.size))
    elif row.count:
        print(json.dumps(loop.run_until_complete(work(program, row.count, seconds))))
    else:
        arguments = () if row.argument is None else (row.argument,)
        print(json.dumps(loop.run_until_complete(program(seconds, *arguments))))


if __name__ == "__main__":
    main()
