"""Every part of the engine that is fuzzed has a target and a corpus; the fuzzing itself is fuzz/run."""

from __future__ import annotations

import pathlib
import re

import pytest

FUZZ = pathlib.Path(__file__).resolve().parent.parent / "fuzz"
pytestmark = pytest.mark.skipif(not FUZZ.exists(), reason="the source distribution has no fuzzing in it")


def test_every_target_is_built_and_has_a_corpus():
    targets = {path.stem for path in (FUZZ / "targets").glob("*.rs")}
    assert {"write_queue", "stream_core", "tls_core", "timer_heap", "addresses"} <= targets
    assert set(re.findall(r'path = "targets/(\w+)\.rs"', (FUZZ / "Cargo.toml").read_text())) == targets
    assert {path.name for path in (FUZZ / "corpus").iterdir() if any(path.iterdir())} == targets
