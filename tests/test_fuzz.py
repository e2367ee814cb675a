"""Everything native, called with everything, at random and repeatably: never a crash, never a hang.

A failure names the seed and the step; `IRONLOOP_FUZZ_SEEDS=5000` tries that many seeds.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest
from ironloop import _native

from tests.support import fuzz

PROGRAM = pathlib.Path(fuzz.__file__)
SEEDS = int(os.environ.get("IRONLOOP_FUZZ_SEEDS", "4"))
STEPS = 3000


def test_every_native_class_is_in_it():
    assert {"LoopCore", "Handle", "TimerHandle", "StreamTransport", "TlsTransport"} <= {
        c.__name__ for c in fuzz.CLASSES
    }
    assert {cls.__name__ for cls in fuzz.CLASSES} == {
        name for name, value in vars(_native).items() if isinstance(value, type)
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_that_is_called_with_anything_crashes(seed, tmp_path):
    log = tmp_path / "step"
    environment = {**os.environ, "IRONLOOP_FUZZ_LOG": str(log), "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(PROGRAM), str(seed), str(STEPS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=environment)
    except subprocess.TimeoutExpired:
        pytest.fail(f"seed {seed} hangs, {log.read_text()}")
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
    assert done.returncode == 0, f"seed {seed}, {log.read_text()}: {how}\n{done.stderr[-3000:]}"
    assert done.stdout == f"alive after {STEPS} steps on {len(fuzz.CLASSES)} classes\n"
