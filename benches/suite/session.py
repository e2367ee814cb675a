"""The order of the samples: round by round, row by row, the loops in turns. Keeps everything in one Result."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import platform
import ssl
import subprocess
import sys
from dataclasses import asdict, dataclass, field

from suite import tools
from suite.loops import REFERENCE, packages
from suite.progress import Progress
from suite.rows import Row, row_of
from suite.sampling import Sample, reason, take

ATTEMPTS = 2  # so many failures and no success: that loop cannot do that row


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

    @classmethod
    def read(cls, path: pathlib.Path) -> Result:
        return cls(**json.loads(path.read_text()))


def begin(loops: list[str], failed: dict[str, str], rounds: int, seconds: float) -> Result:
    """`failed`: packages that could not be installed, and why."""
    missing = {name: why for name in loops if (why := why_not(name, failed))}
    versions = {name: version(name) for name in loops if name not in missing}
    return Result(machine(), versions, missing, rounds, seconds)


def measure(result: Result, keys: list[str], path: pathlib.Path | None) -> None:
    """All samples; the file is written after each round."""
    names = [name for name in result.loops if name not in result.missing]
    pairs = [(key, name) for key in keys for name in names if applies(row_of(key), name)]
    progress, tls = Progress(len(pairs) * result.rounds), tools.TlsTools()
    try:
        for _ in range(result.rounds):
            for key, name in pairs:
                progress.step(f"{key} {name}")
                samples = result.samples.setdefault(key, {}).setdefault(name, [])
                if len(samples) < ATTEMPTS or any("error" not in sample for sample in samples):
                    samples.append(take(key, name, result.seconds, tls))
            if path:
                result.save(path)
    finally:
        tls.close()
    progress.end()


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


def package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "from sources"


def machine() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}, {python}, {ssl.OPENSSL_VERSION}"
