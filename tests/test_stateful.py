"""Whatever is made, used and closed in whatever order: the model of tests/support/stateful.py holds on both loops.

`IRONLOOP_STATEFUL_EXAMPLES=5000` tries so many random ones. Needs hypothesis.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tests.peers.programs import missing

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = os.environ.get("IRONLOOP_STATEFUL_EXAMPLES")


@pytest.mark.slow
@pytest.mark.timeout(0 if EXAMPLES else 60)
def test_any_sequence_of_calls_has_the_effects_of_asyncios(loop_name):
    if importlib.util.find_spec("hypothesis") is None:
        missing("hypothesis")
    arguments = [EXAMPLES, "random"] if EXAMPLES else ["150"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "stateful.py"), loop_name, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert done.stdout == f"alive after {arguments[0]} examples\n"
