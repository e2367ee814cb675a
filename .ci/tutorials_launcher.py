#!/usr/bin/env python3
"""Runs tutorial programs as `python X` and as `python -m ironloop X` and compares what they print and how they end.

    python .ci/tutorials_launcher.py FOLDER        the folder with index.toml and programs/

Programs that need hosts outside, clients, signals or random output are left to the tutorials' own runner.
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import tomllib


def applies(program: dict[str, Any]) -> bool:
    needs = program.get("needs", {})
    return (
        program.get("mode", "script") == "script"
        and program["category"] in ("runs", "old", "error-demo", "not-asyncio")
        and program.get("compare", "same") in ("same", "bag")
        and not needs.get("hosts")
        and not program.get("server")
        and "stop_after" not in program
    )


def run(folder: pathlib.Path, program: dict[str, Any], prefix: list[str]) -> tuple[list[str], str, int]:
    """(lines of stdout, last line of stderr, exit status)."""
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary) / program["file"][4:]
        shutil.copyfile(folder / "programs" / program["file"], path)
        for name, text in program.get("files", {}).items():
            (pathlib.Path(temporary) / name).write_text(text)
        command = [sys.executable, *prefix, path.name, *program.get("argv", [])]
        done = subprocess.run(
            command, cwd=temporary, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
    lines = [normal(line, temporary) for line in done.stdout.splitlines()]
    last = normal((done.stderr.strip().splitlines() or [""])[-1], temporary)
    return sorted(lines) if program.get("compare") == "bag" else lines, last, done.returncode


def normal(text: str, folder: str) -> str:
    """Without what differs from run to run (addresses, times, the folder), and without the class of the loop."""
    text = text.replace(folder, "DIR").replace("_UnixSelectorEventLoop", "Loop")
    text = re.sub(r"coroutine '\w+' was never", "coroutine was never", text)
    text = re.sub(r"<Process \d+>", "<Process>", text)
    return re.sub(r"\d\d:\d\d:\d\d|\d+\.\d+|0x[0-9a-f]+|\b\d{4,}\b", "N", text)


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    programs = [p for p in tomllib.loads((folder / "index.toml").read_text())["program"] if applies(p)]
    # They sleep most of the time: many at once, the longest first.
    programs.sort(key=lambda program: -program.get("wall", [0])[0])

    def compare(program: dict[str, Any]) -> tuple[str, Any, Any]:
        # Some print sets of tasks, whose order is that of addresses: both get three tries to agree.
        for _ in range(3):
            python, ours = run(folder, program, []), run(folder, program, ["-m", "ironloop"])
            if python == ours:
                break
        return program["file"], python, ours

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for name, python, ours in pool.map(compare, programs):
            if python != ours:
                failed += 1
                print(f"differs  {name}\n  python:   {python}\n  ironloop: {ours}")
    print(f"python -m ironloop: {len(programs) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
