"""Systems that ironloop is not written for, or never ran on: whoever installs it there is told so, and what to do."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build_script(tmp_path_factory):
    """build.rs as a program, as cargo runs it (without what it asks of PyO3)."""
    rustc = shutil.which("rustc")
    if rustc is None:
        pytest.skip("needs rustc")
    program = tmp_path_factory.mktemp("build") / "build-script"
    command = [rustc, "--edition", "2021", "--cap-lints", "allow", "-o", program, ROOT / "build.rs"]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    return program


def run(program, system):
    environment = {**os.environ, "CARGO_CFG_TARGET_OS": system}
    return subprocess.run([program], env=environment, capture_output=True, text=True, timeout=50)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["windows", "freebsd"])
def test_the_build_is_refused_in_words_that_help(build_script, system):
    done = run(build_script, system)
    assert done.returncode == 1
    assert f"ironloop runs on Linux only, and this is {system}." in done.stderr
    assert 'ironloop; sys_platform == "linux"' in done.stderr


@pytest.mark.slow
def test_who_builds_for_macos_is_warned(build_script):
    done = run(build_script, "macos")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cargo:warning=")
    assert "untested" in done.stdout
    assert 'ironloop; sys_platform == "linux"' in done.stdout


@pytest.mark.slow
def test_linux_is_not_refused(build_script):
    done = run(build_script, "linux")
    assert (done.returncode, done.stderr) == (0, "")
