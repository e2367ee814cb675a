"""The code of the documentation: programs run, commands print what the page says, fragments compile.

A Python block that runs something (`asyncio.run`, `ironloop.run`, an assertion) is a program and is executed; with a
title it is a file that the commands of its page find. Commands that start with `python` are executed too, and what the
page shows below them is what they print. Pages of which another test runs the code are compiled here only.
"""

from __future__ import annotations

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
# Their code needs servers, packages or a compiler: other tests run it.
ELSEWHERE = {"integrations.md", "libraries.md", "reliability.md", "extensions.md"}
BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>python|console)(?P<options>[^\n]*)\n(?P<body>.*?)^ *```$", re.M | re.S)
PROGRAM = re.compile(r"^(print\()?(asyncio|ironloop)\.run\(|^ *assert ", re.MULTILINE)
# `top` and `compare` have tests of their own; what they print is never the same twice.
# `bench` measures for minutes: tests/insight/test_bench.py has shorter ones.
NOT_RUN = re.compile(r"python -m ironloop (top|compare)|integrations\.dask|benches/|your_program|ironloop bench")


def blocks(page, kind):
    """(line, options, code) of each block."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match["kind"] == kind:
            yield text.count("\n", 0, match.start()) + 1, match["options"], textwrap.dedent(match["body"])


def title(options):
    found = re.search(r'title="([^"]+)"', options)
    return found and found[1]


def parametrize(kind, pages):
    cases = [(page, *block) for page in pages for block in blocks(page, kind)]
    return pytest.mark.parametrize(
        ("page", "options", "code"),
        [pytest.param(page, options, code, id=f"{page.name}:{line}") for page, line, options, code in cases],
    )


def run(command, folder, **options):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # `python` is the one that runs the tests, also for a shell.
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), environment["PATH"]])
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **options)


@parametrize("python", PAGES)
def test_python_compiles(page, options, code):
    compile(code, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@parametrize("python", [page for page in PAGES if page.name not in ELSEWHERE])
def test_programs_run(page, options, code, tmp_path):
    if not PROGRAM.search(code):
        pytest.skip("a fragment")
    if "loop_factory=" in code and sys.version_info < (3, 12):
        pytest.skip("asyncio.run takes a factory since Python 3.12")
    if re.search(r"^(from|import) (distributed|ray)\b", code, re.MULTILINE):
        pytest.skip("needs a cluster: tests/clusters")
    if "openssl" in code and shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    done = run([sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", program], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@parametrize("console", [page for page in PAGES if page.name not in ELSEWHERE])
def test_commands_print_what_the_page_says(page, options, code, tmp_path):
    for _, others, program in blocks(page, "python"):
        if name := title(others):
            (tmp_path / name).write_text(program, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    executed = 0
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
        if not command.startswith("python ") or NOT_RUN.search(command) or " -m venv" in command:
            continue
        done = run(["sh", "-c", command], tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout == expected or not expected, command
        executed += 1
    if not executed:
        pytest.skip("nothing to execute")
