"""The loops that are compared, and how each is made. Imports nothing that would be part of their start-up."""

from __future__ import annotations

import asyncio
import importlib

OURS = "ironloop"
BASE = "uvloop"  # ratios are relative to this one
REFERENCE = "reference"  # a server without Python: the limit
LOOPS = ("asyncio", BASE, "rloop", "rsloop", "veloxloop", "uvloop+aiofastnet", "zuvloop", OURS)


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """A loop by name; "+aiofastnet" exchanges its networking methods for those of that library."""
    base, _, library = name.partition("+")
    if base == "asyncio":
        loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
    else:
        loop = importlib.import_module(base).new_event_loop()
    if library:
        loop = importlib.import_module(library).patch_loop(loop)
    return loop


def packages(name: str) -> list[str]:
    """What has to be installed for a loop."""
    return [part for part in name.split("+") if part not in ("asyncio", REFERENCE)]
