"""Programs of the page that run to their end: as a user starts them, in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.page import page
from tests.support.web_servers import environment


def output_of(section: str, name: str, folder: Path, port: int = 8000) -> str:
    """Run a file of the page with warnings as errors; what it printed. It must succeed and report nothing."""
    page()[section].write(folder, port)
    command = [sys.executable, "-W", "error", name]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=50)
    assert (done.stderr, done.returncode) == ("", 0), (done.stdout, done.stderr)
    return done.stdout
