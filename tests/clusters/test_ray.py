"""An async actor of Ray's on ironloop, as docs/many-cores.md has it.

Skipped where Ray is not installed, and CI does not install it: a wheel of 80 MB, 286 MB installed, is much for one
program. Run it by hand, with `pip install ray`, after a change of the policy or of the page.
"""

from __future__ import annotations

import importlib.util
import tempfile

import pytest

from tests.clusters.conftest import PROGRAMS, run_program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray"),
]


def test_the_actor_of_the_page(tmp_path):
    (code,) = [code for code in PROGRAMS if "ray.init(" in code]
    code = code.replace("ray.init(", "ray.init(num_cpus=1, include_dashboard=False, ")
    # Not below `tmp_path`: the names of Ray's Unix sockets get too long.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        output = run_program(code, tmp_path, RAY_TMPDIR=folder, RAY_USAGE_STATS_ENABLED="0")
    assert output.splitlines() == ["328350", "ironloop._loop"]
