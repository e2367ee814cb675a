"""The C of docs/extensions.md: compiled with the header that the package ships, and run."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

import ironloop
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extensions.md").read_text(encoding="utf-8")
HEADERS = pathlib.Path(ironloop.__file__).parent / "include"


def block(kind, containing):
    (found,) = [
        code for code in re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if containing in code
    ]
    return found


@pytest.fixture
def compiler():
    """The C compiler's command for an extension, with the warnings that a careful program asks for."""
    headers = sysconfig.get_paths()["include"]
    if shutil.which("cc") is None or not pathlib.Path(headers, "Python.h").exists():
        pytest.skip("needs a C compiler and Python's headers")
    allowed = ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]
    warnings = ["-Wall", "-Wextra", "-Werror", *allowed]
    return ["cc", "-shared", "-fPIC", *warnings, f"-I{HEADERS}", "-isystem", headers]


@pytest.mark.slow
def test_the_pages_c_gives_what_the_page_says(compiler, tmp_path):
    (tmp_path / "basel.c").write_text(block("c", "PyInit_basel"), encoding="utf-8")
    (tmp_path / "program.py").write_text(block("python", "import basel"), encoding="utf-8")
    subprocess.run([*compiler, "basel.c", "-o", "basel.so", "-pthread"], cwd=tmp_path, check=True, timeout=50)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50
    )
    # Of 999999 terms; the whole series has π²/6.
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1.6449, 1.6449, 1.6449]\n", "")


@pytest.mark.slow
def test_the_header_is_for_cplusplus_too_and_may_be_included_twice(compiler, tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    (tmp_path / "twice.cpp").write_text("#include <Python.h>\n#include <ironloop.h>\n#include <ironloop.h>\n")
    subprocess.run(["c++", *compiler[1:], "twice.cpp", "-o", "twice.so"], cwd=tmp_path, check=True, timeout=50)
