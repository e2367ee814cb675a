"""The order of the samples: round by round, row by row, the loops in turns. Keeps everything in one Result.

A Result that was kept in a file half way goes on where it ended: what is there is not measured again.
"""

from __future__ import annotations

import json
import pathlib
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field

from suite import tools
from suite.loops import REFERENCE, packages
from suite.machine import machine, package_version
from suite.progress import Progress
from suite.rows import Row, row_of
from suite.sampling import Sample, reason, take

ATTEMPTS = 2  # so many failures and no success: that loop cannot do that row
SAVE_EVERY = 50  # samples; a machine that goes down takes no more along
# To divide a given time: seconds that a sample takes at the least besides those measured and a quarter for warming up;
# rounds that are worth more than long samples; the shortest samples.
OVERHEAD, FEWEST_ROUNDS, SHORTEST = 0.2, 3, 0.3


@dataclass
class Result:
    """What was measured where; the file that --json writes."""

    machine: str
    versions: dict[str, str]
    missing: dict[str, str]  # loops that are not there, and why
    rounds: int
    seconds: float
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)  # by row, by loop

    @property
    def loops(self) -> list[str]:
        return [*self.versions, *self.missing]

    def save(self, path: pathlib.Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def begins_as(self, other: Result) -> bool:
        """Whether the two are of the same machine and the same loops, so that samples of both may stand in one."""
        return (self.machine, self.versions, self.missing) == (other.machine, other.versions, other.missing)

    @classmethod
    def read(cls, path: pathlib.Path) -> Result:
        return cls(**json.loads(path.read_text()))


def begin(loops: list[str], failed: dict[str, str], rounds: int, seconds: float) -> Result:
    """`failed`: packages that could not be installed, and why."""
    missing = {name: why for name in loops if (why := why_not(name, failed))}
    versions = {name: version(name) for name in loops if name not in missing}
    return Result(machine(), versions, missing, rounds, seconds)


def measure(result: Result, keys: list[str], path: pathlib.Path | None, minutes: float | None = None) -> None:
    """All samples that are missing. The file is written now and then, and in the end, whatever the end is.

    With `minutes` the rounds and the length of a sample follow from them, and no round begins that would take too long.
    """
    names = [name for name in result.loops if name not in result.missing]
    pairs = [(key, name) for key in keys for name in names if applies(row_of(key), name)]
    if minutes is not None and not result.samples:
        result.rounds, result.seconds = division(minutes * 60, len(pairs))
    end = None if minutes is None else time.monotonic() + minutes * 60
    progress, tls = Progress(len(pairs) * result.rounds), tools.TlsTools()
    try:
        for number in range(result.rounds):
            start = time.monotonic()
            for key, name in pairs:
                progress.step(f"{key} {name}")
                samples = result.samples.setdefault(key, {}).setdefault(name, [])
                hopeless = len(samples) >= ATTEMPTS and all("error" in sample for sample in samples)
                if len(samples) > number or hopeless:
                    continue
                samples.append(take(key, name, result.seconds, tls))
                if path and progress.done % SAVE_EVERY == 0:
                    result.save(path)
            now = time.monotonic()
            if end is not None and now + (now - start) > end:
                result.rounds = number + 1
                break
    finally:
        tls.close()
        if path:
            result.save(path)
    progress.end()


def division(seconds: float, pairs: int) -> tuple[int, float]:
    """How many rounds of samples of which length fit into a time."""
    per_sample = seconds / max(pairs, 1)
    rounds = int(per_sample / (1.25 + OVERHEAD))
    if rounds >= FEWEST_ROUNDS:
        return rounds, 1.0
    length = (per_sample / FEWEST_ROUNDS - OVERHEAD) / 1.25
    if length >= SHORTEST:
        return FEWEST_ROUNDS, round(length, 2)
    return max(1, int(per_sample / (SHORTEST * 1.25 + OVERHEAD))), SHORTEST


def applies(row: Row, loop: str) -> bool:
    if loop == REFERENCE:
        return bool(row.reference)
    return row.network or "+" not in loop


def why_not(name: str, failed: dict[str, str]) -> str:
    """Why a loop cannot be had here; empty if it can."""
    if name == REFERENCE:
        return ""
    for package in packages(name):
        if package in failed:
            return f"{package} cannot be installed: {failed[package]}"
    program = "import sys; from suite.loops import new_loop; new_loop(sys.argv[1]).close()"
    done = subprocess.run([sys.executable, "-c", program, name], cwd=tools.BENCHES, stderr=subprocess.PIPE, text=True)
    return reason(done.stderr, done.returncode) if done.returncode else ""


def version(name: str) -> str:
    if name == REFERENCE:
        return ""
    return " + ".join(map(package_version, packages(name))) or platform.python_version()
