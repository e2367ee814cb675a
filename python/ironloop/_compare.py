"""`python -m ironloop compare script.py`: a program under asyncio and under ironloop, side by side.

The two take turns, each run in a fresh process of this interpreter with empty standard input. Shown are the medians of
wall time, CPU time (of the process and its children) and peak memory, the number of system calls if strace is
installed, and whether both printed the same and ended with the same status.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import resource

LOOPS: dict[str, list[str]] = {"asyncio": [], "ironloop": ["-m", "ironloop"]}
DIFFERENCES_SHOWN = 20


@dataclass(frozen=True)
class Run:
    """What one run of the program took and gave; seconds and KiB."""

    wall: float
    cpu: float
    peak_memory: int
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def outcome(self) -> tuple[int, bytes, bytes]:
        return self.status, self.stdout, self.stderr


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status: 0 if the outcomes are the same, 1 if not, 2 for a wrong usage."""
    own, program = _split(arguments)
    options = _parser().parse_args(own)
    if not program:
        _parser().error("a program is missing")
    runs: dict[str, list[Run]] = {loop: [] for loop in LOOPS}
    for number in range(options.runs):
        for loop in LOOPS:
            _progress(f"run {number + 1} of {options.runs}: {loop}")
            try:
                runs[loop].append(_run(_command(loop, program), options.timeout))
            except subprocess.TimeoutExpired:
                _progress("")
                print(f"{loop}: not over after {options.timeout:g} s, killed")
                return 1
    system_calls = {}
    if shutil.which("strace") and not options.no_strace:
        for loop in LOOPS:
            _progress(f"counting system calls: {loop}")
            system_calls[loop] = _count_system_calls(_command(loop, program), options.timeout)
    _progress("")
    _print_table(runs, system_calls)
    return _print_outcomes(runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ironloop compare", description="Runs a program under asyncio and under ironloop."
    )
    parser.add_argument("--runs", type=_positive, default=3, help="how often each (default: 3)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until a run is killed (default: 300)")
    parser.add_argument("--no-strace", action="store_true", help="do not count system calls")
    parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " (script.py | -m module) [args ...]"
    return parser


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own options, and the program with its arguments, which may begin with an option of Python's."""
    index = 0
    while index < len(arguments) and (arguments[index].startswith("--") or arguments[index] == "-h"):
        if arguments[index] == "--":
            return arguments[:index], arguments[index + 1 :]
        index += 2 if arguments[index] in ("--runs", "--timeout") else 1
    return arguments[:index], arguments[index:]


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _command(loop: str, program: list[str]) -> list[str]:
    return [sys.executable, *LOOPS[loop], *program]


def _run(command: list[str], timeout: float) -> Run:
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        start = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            status, usage = _wait(process.pid, start + timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.monotonic() - start
        # It was reaped behind subprocess's back.
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (stdout, stderr):
            file.seek(0)
        cpu = usage.ru_utime + usage.ru_stime
        # KiB, and bytes on macOS.
        peak_memory = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
        return Run(wall, cpu, peak_memory, process.returncode, stdout.read(), stderr.read())


def _wait(pid: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    """The status and the resources of a child when it is over; TimeoutExpired at the deadline."""
    pause = 0.0005
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired("program", deadline)
        time.sleep(pause)
        pause = min(pause * 1.2, 0.02)


def _count_system_calls(command: list[str], timeout: float) -> int | None:
    """How many system calls a run made, in all threads and children; None if strace may not trace."""
    with tempfile.NamedTemporaryFile("r") as summary:
        traced = ["strace", "-f", "-c", "-o", summary.name, *command]
        try:
            subprocess.run(
                traced, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return None
        for line in summary:
            # "100.00    0.012345           4      2890       123 total"; errors may be missing.
            fields = line.split()
            if fields and fields[-1] == "total":
                return int(fields[3])
    return None


def _print_table(runs: dict[str, list[Run]], system_calls: dict[str, int | None]) -> None:
    rows = [
        ("wall time", "s", 3, {loop: statistics.median(run.wall for run in runs[loop]) for loop in LOOPS}),
        ("CPU time", "s", 3, {loop: statistics.median(run.cpu for run in runs[loop]) for loop in LOOPS}),
        (
            "peak memory",
            "MiB",
            1,
            {loop: statistics.median(run.peak_memory for run in runs[loop]) / 1024 for loop in LOOPS},
        ),
    ]
    counted = {loop: count for loop, count in system_calls.items() if count is not None}
    if len(counted) == len(LOOPS):
        rows.append(("system calls", "", 0, {loop: float(count) for loop, count in counted.items()}))
    print(f"{'':<20}{'asyncio':>12}{'ironloop':>12}{'ratio':>9}")
    for name, unit, digits, values in rows:
        label = f"{name}, {unit}" if unit else name
        figures = "".join(f"{values[loop]:>12,.{digits}f}" for loop in LOOPS)
        ratio = values["ironloop"] / values["asyncio"] if values["asyncio"] else 1.0
        print(f"{label:<20}{figures}{ratio:>9.2f}")
    count = len(next(iter(runs.values())))
    if not counted:
        print("(system calls are counted if strace is installed)")
    print(f"medians of {count} {'run' if count == 1 else 'runs'} each; start-up of the interpreter included")


def _print_outcomes(runs: dict[str, list[Run]]) -> int:
    ours, theirs = runs["ironloop"][-1], runs["asyncio"][-1]
    if ours.outcome == theirs.outcome:
        print(f"same output, same exit status ({ours.status})")
        return 0
    if len({run.outcome for run in runs["asyncio"]}) > 1:
        print("the output differs, but it also does from run to run under asyncio alone")
    if ours.status != theirs.status:
        print(f"exit status: asyncio {theirs.status}, ironloop {ours.status}")
    for name, theirs_out, ours_out in (("stdout", theirs.stdout, ours.stdout), ("stderr", theirs.stderr, ours.stderr)):
        if theirs_out != ours_out:
            _print_difference(name, theirs_out, ours_out)
    return 1


def _print_difference(name: str, theirs: bytes, ours: bytes) -> None:
    import difflib

    lines = list(
        difflib.unified_diff(
            theirs.decode(errors="backslashreplace").splitlines(),
            ours.decode(errors="backslashreplace").splitlines(),
            f"{name} (asyncio)",
            f"{name} (ironloop)",
            lineterm="",
        )
    )
    print("\n".join(lines[:DIFFERENCES_SHOWN]))
    if len(lines) > DIFFERENCES_SHOWN:
        print(f"... {len(lines) - DIFFERENCES_SHOWN} more lines")
