#!/usr/bin/env python3
"""Counts the instructions per operation of a handful of programs and compares them with the committed baseline.

    python benches/counts/run.py              # fails when a program takes 3 % more than the baseline says
    python benches/counts/run.py --update     # rewrites the baseline; belongs into the commit that changes the counts

Needs valgrind, a C compiler, and ironloop for this interpreter. Counts repeat where times do not: each program runs
under cachegrind, by a clock of its own (clock.c), with a number of operations and with twice as many, and the
difference is what the operations took, without start-up and shutdown. The baseline is of one
libc and one version of Python; small differences elsewhere are normal.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor

from programs import PROGRAMS

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = HERE / f"baseline-{sysconfig.get_python_version()}.json"
ALLOWED = 0.03
# Counts what callgrind counts, in a third less time.
TOOL = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
COUNTED = re.compile(r"I +refs: +([\d,]+)")


def build_clock(folder: str) -> str:
    path = f"{folder}/clock.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(HERE / "clock.c"), "-o", path], check=True)
    return path


def instructions(name: str, count: int, clock: str) -> int:
    """Of a whole run. The environment is the same everywhere, as far as it decides about addresses and hashes."""
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "LD_PRELOAD": clock, "IRONLOOP_TSC": "0"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    command = ["valgrind", *TOOL, sys.executable, str(HERE / "programs.py"), name, str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = COUNTED.search(done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return int(found[1].replace(",", ""))


def per_operation(name: str, clock: str) -> float:
    count = PROGRAMS[name][1]
    return (instructions(name, 2 * count, clock) - instructions(name, count, clock)) / count


def measure(names: list[str]) -> dict[str, float]:
    for name in names:  # the byte code of everything is cached from here on
        subprocess.run([sys.executable, str(HERE / "programs.py"), name, "100"], check=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        clock = build_clock(folder)
        return dict(zip(names, pool.map(lambda name: per_operation(name, clock), names), strict=True))


def grown(counts: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """The programs that take too many, or that are new."""
    return [name for name, count in counts.items() if count > baseline.get(name, 0) * (1 + ALLOWED)]


def compare(counts: dict[str, float], baseline: dict[str, float]) -> bool:
    """Print all; whether none has grown too much."""
    too_many = grown(counts, baseline)
    for name, count in counts.items():
        change = f"{count / baseline[name] - 1:+8.2%}" if name in baseline else "     new"
        print(f"{name:20}{count:12,.0f}{change}{'  too many' if name in too_many else ''}")
    return not too_many


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts instructions per operation.")
    parser.add_argument("--update", action="store_true", help="rewrite the baseline")
    parser.add_argument("programs", nargs="*", help=f"some of {', '.join(PROGRAMS)}; default: all")
    options = parser.parse_args()
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if not known and not options.update:
        print(f"no baseline for Python {sysconfig.get_python_version()}; --update makes one")
        return
    baseline = known.get("instructions", {})
    counts = measure(options.programs or list(PROGRAMS))
    # A program can take more than it has to, if a file of it was compiled on the way, but never less.
    if again := [name for name in grown(counts, baseline) if name in baseline]:
        counts.update((name, min(count, counts[name])) for name, count in measure(again).items())
    passed = compare(counts, baseline)
    if options.update:
        rounded = baseline | {name: round(count, 1) for name, count in counts.items()}
        made = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver()), "instructions": rounded}
        BASELINE.write_text(json.dumps(made, indent=1) + "\n")
    elif not passed:
        raise SystemExit(f"more than {ALLOWED:.0%} above {BASELINE.name}: make it less, or say why and --update")


if __name__ == "__main__":
    main()
