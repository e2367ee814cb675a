"""Calls from threads that have no business there: an exception, or the effect, but never a crash or a hang.

CPython promises nothing for them, and its own loop is no judge here. What is hardest for is a Python without the GIL.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.support import foreign

PROGRAM = pathlib.Path(foreign.__file__)
CALLS = int(os.environ.get("IRONLOOP_FOREIGN_CALLS", "1000"))


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("what", ["loop", "handles", "sockets", "tls", "datagrams", "pipes"])
def test_a_loop_survives_calls_of_everything_from_foreign_threads(what):
    command = [sys.executable, "-W", "ignore", "-X", "faulthandler", str(PROGRAM), "ironloop", what, "1", str(CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-5000:]
