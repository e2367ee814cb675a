"""Short versions of benches/load.py and benches/soak.py, judged by counts: what is taken is given back."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

BENCHES = pathlib.Path(__file__).resolve().parent.parent / "benches"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _are_here():
    if not BENCHES.is_dir():
        pytest.skip("the benchmarks are not beside the tests")


def start(program, *arguments):
    command = [sys.executable, "-W", "error", str(BENCHES / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(what, loop_name, *arguments):
    return json.loads(start("load.py", what, "--loop", loop_name, *arguments))


def test_a_thousand_clients_that_vanish_at_once_are_all_released(loop_name):
    said = load("connections", loop_name, "--count", "1000", "--seconds", "1")
    assert said["made and lost"] == [2000, 2000]
    for turn in ("first", "second"):
        # Connections, the child's pidfd on some versions, and nothing else.
        assert said[f"{turn} connected"]["descriptors"] - said["before"]["descriptors"] <= 1002
        assert said[f"{turn} vanished"]["descriptors"] <= said["before"]["descriptors"]
        assert said[f"{turn} echoing"]["messages"] > 0
    if loop_name == "ironloop":
        assert said["second vanished"]["MiB"] - said["first vanished"]["MiB"] < 4


def test_stalled_handshakes_end_by_the_timeout_and_take_no_thread(loop_name):
    said = load("handshakes", loop_name, "--count", "300")
    (error,) = said["errors"]
    assert "SSL handshake is taking longer than 3.0 seconds" in error
    assert said["errors"][error] == 300
    assert said["threads more"] == 0
    assert said["after"]["descriptors"] <= said["before"]["descriptors"]


def test_the_other_loads_can_be_measured(loop_name):
    assert load("slowloris", loop_name, "--count", "100", "--seconds", "1")["ratio"] > 0
    assert load("flood", loop_name, "--seconds", "0.5")["timers"] > 0


def test_a_short_soak_stays_flat_and_draws_a_picture(loop_name, tmp_path):
    picture = tmp_path / "soak.svg"
    start("soak.py", "--loop", loop_name, "--minutes", "0.1", "--sample", "0.5", "--svg", str(picture))
    assert picture.read_text().count("<polyline") == 8
