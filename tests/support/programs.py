"""Programs in an interpreter of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

NEW_LOOP = {"asyncio": "asyncio.SelectorEventLoop()", "ironloop": "__import__('ironloop').new_event_loop()"}


# What a program for one of the loops begins with.
PRELUDE = "import asyncio, ironloop, os, signal, sys, threading\nloop = {}\n"


def run_program(body: str, *arguments: str, timeout: float = 50, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `body`, with warnings as errors, to the end."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(body), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)


def run_with_loop(loop_name: str, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `body`, which has a new loop as `loop`, to the end."""
    return run_program(_with_loop(loop_name, body), *arguments, timeout=30)


@contextlib.contextmanager
def started_with_loop(loop_name: str, body: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An interpreter that runs `body`, which has a new loop as `loop`, until the end of the block."""
    command = [sys.executable, "-W", "error", "-c", _with_loop(loop_name, body), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _with_loop(loop_name: str, body: str) -> str:
    return PRELUDE.format(NEW_LOOP[loop_name]) + textwrap.dedent(body)
