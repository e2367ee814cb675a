"""Which samples are taken, in which order, and how: the loops in turns, each in a fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any

from .client import load
from .loops import LOOPS, packages
from .machine import machine, package_version
from .rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORTEST = 0.05  # seconds of a sample
PATIENCE = 30.0

# Makes the folder of this package a package of its own name: `ironloop` itself is not imported.
_PACKAGE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("ironloop_bench", sys.argv[1])
package = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
"""
_MEASURE = "from ironloop_bench.worker import main; main(*sys.argv[2:])"
_MAKE = "from ironloop_bench.loops import new_loop; new_loop(sys.argv[2]).close()"


@dataclass
class Result:
    """Everything that was measured. `samples`: row, loop, and what each of its samples said."""

    machine: str
    versions: dict[str, str]
    missing: dict[str, str]
    rounds: int
    seconds: float
    samples: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def save(self, path: pathlib.Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def begin(wanted: list[str] | None, rows: list[str], rounds: int, budget: float) -> Result:
    """Find the loops, all that can be had or those that are wanted, and divide `budget` seconds among the samples."""
    start = time.monotonic()
    missing = {name: why for name in wanted or LOOPS if (why := _why_not(name))}
    start_up = (time.monotonic() - start) / len(wanted or LOOPS)
    names = [name for name in wanted or LOOPS if name not in missing]
    if wanted is None:
        # Nobody has asked for what is not installed.
        missing = {name: why for name, why in missing.items() if "ModuleNotFoundError" not in why}
    versions = {name: " + ".join(map(package_version, packages(name))) or platform.python_version() for name in names}
    seconds = max(budget / (len(names) * len(rows) * rounds or 1) - start_up, SHORTEST)
    return Result(machine(), versions, missing, rounds, seconds)


def _why_not(name: str) -> str:
    """Why a loop cannot be had here; empty if it can."""
    done = subprocess.run(_command(_MAKE, name), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return _last_line(done.stderr) if done.returncode else ""


def measure(result: Result, rows: list[str], step: Callable[[str], None]) -> None:
    """Take all samples; `step` is told of each before it is taken."""
    names = list(result.versions)
    for number in range(result.rounds):
        for row in rows:
            for index in range(len(names)):
                # Nobody always follows the same one.
                name = names[(index + number) % len(names)]
                step(f"{row}: {name}")
                samples = result.samples.setdefault(row, {}).setdefault(name, [])
                try:
                    samples.append(_sample(row, name, result.seconds))
                except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                    samples.append({"error": str(error)})


def _sample(row: str, name: str, seconds: float) -> dict[str, float]:
    ours, theirs = _cores()
    command = _command(_MEASURE, row, name, str(seconds))
    with _running(command, theirs) as (process, stdout, stderr):
        if ROWS[row].serves:
            port = stdout.readline()
            if not port:
                raise RuntimeError(_reason(process, stderr))
            with _pinned(ours):
                return load(int(port), process.pid, seconds)
        line = stdout.readline()
        if not line:
            raise RuntimeError(_reason(process, stderr))
        found: dict[str, float] = json.loads(line)
        process.wait(PATIENCE)
        return found


def _command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", _PACKAGE + program, str(pathlib.Path(__file__).with_name("__init__.py")), *arguments]


@contextlib.contextmanager
def _running(command: list[str], cores: set[int]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """A process and its outputs; killed at the end."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as stdout, process.stderr as stderr:
        try:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, cores)
            yield process, stdout, stderr
        finally:
            process.kill()
            process.wait()


def _cores() -> tuple[set[int], set[int]]:
    """Those of the load client and of the measured process: different ones, if there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[-1]}, {usable[0]}


@contextlib.contextmanager
def _pinned(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _reason(process: subprocess.Popen[bytes], stderr: IO[bytes]) -> str:
    process.kill()
    return _last_line(stderr.read().decode(errors="replace")) or f"ended with status {process.wait()}"


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
