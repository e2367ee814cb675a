"""`python -m ironloop compare`: real programs under both loops."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest


def compare(*arguments, environment=None):
    return subprocess.run(
        [sys.executable, "-m", "ironloop", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **(environment or {})},
    )


@pytest.fixture
def program(tmp_path):
    def write(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return write


def test_a_program_that_behaves_the_same(program):
    path = program("import asyncio, sys\nasyncio.run(asyncio.sleep(0))\nprint(sys.argv[1:])\nsys.exit(3)\n")
    result = compare("--runs", 1, "--no-strace", path, "--runs", "x")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["asyncio", "ironloop", "ratio"]
    assert [line.split(",")[0] for line in lines[1:4]] == ["wall time", "CPU time", "peak memory"]
    assert lines[-1] == "same output, same exit status (3)"


def test_each_runs_on_its_loop_and_differences_are_shown(program):
    path = program(
        "import asyncio, sys\n"
        "async def main():\n"
        "    name = type(asyncio.get_running_loop()).__module__.partition('.')[0]\n"
        "    print(name)\n"
        "    sys.exit(name == 'ironloop')\n"
        "asyncio.run(main())\n"
    )
    result = compare("--runs", 1, "--no-strace", path)
    assert result.returncode == 1
    assert "exit status: asyncio 0, ironloop 1" in result.stdout
    assert "-asyncio" in result.stdout
    assert "+ironloop" in result.stdout


def test_output_that_differs_anyway_is_said_to(program):
    path = program("import os\nprint(os.getpid())\n")
    result = compare("--runs", 2, "--no-strace", path)
    assert result.returncode == 1
    assert "it also does from run to run" in result.stdout


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_system_calls_are_counted(program):
    result = compare("--runs", 1, program("pass\n"))
    assert result.returncode == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("system calls")]
    asyncio_calls, ironloop_calls = (int(field.replace(",", "")) for field in line.split()[2:4])
    assert 0 < asyncio_calls < ironloop_calls


def test_without_strace_it_says_what_is_missing(program):
    result = compare("--runs", 1, program("pass\n"), environment={"PATH": "/nonexistent"})
    assert result.returncode == 0
    assert "counted if strace is installed" in result.stdout


def test_a_program_that_does_not_end_is_killed(program):
    result = compare("--runs", 1, "--timeout", 1, program("import time\ntime.sleep(1000)\n"))
    assert result.returncode == 1
    assert result.stdout == "asyncio: not over after 1 s, killed\n"


def test_modules_can_be_compared():
    result = compare("--runs", 1, "--no-strace", "-m", "this")
    assert result.returncode == 0
    assert "same output" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["--runs", "0", "x.py"], ["--runs", "1"]])
def test_a_wrong_usage(arguments):
    result = compare(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m ironloop compare")
