"""Programs in an interpreter of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

NEW_LOOP = {"asyncio": "asyncio.SelectorEventLoop()", "ironloop": "__import__('ironloop').new_event_loop()"}


def run_program(body: str, *arguments: str, timeout: float = 50, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `body`, with warnings as errors, to the end."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(body), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
