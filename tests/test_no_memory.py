"""An allocation that fails, whichever it is, is a MemoryError: no panic, no crash, and the loop works on."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).parent / "support" / "no_memory.py"
OPERATIONS_AT_LEAST = 25


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other interpreters do not all survive it themselves")
@pytest.mark.parametrize("tls", ["direct", "fallback"])
def test_every_allocation_of_every_operation_may_fail(tls):
    pytest.importorskip("_testcapi")
    root = str(pathlib.Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([*sys.path, root])
    environment = {**os.environ, "IRONLOOP_TLS": tls, "PYTHONPATH": path, "RUST_BACKTRACE": "0"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=140, env=environment, cwd=root
    )
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert "panicked" not in done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) >= OPERATIONS_AT_LEAST
    assert sum(int(failures) for _, failures, _ in rows) > 100, "hardly an allocation has failed"
