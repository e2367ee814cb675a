"""The command line of `python -m ironloop bench`."""

from __future__ import annotations

import argparse
import pathlib
import sys

from . import report
from .loops import LOOPS
from .progress import start
from .rows import ROWS
from .session import begin, measure


def main(arguments: list[str]) -> int:
    """Measure and show; returns the exit status: 1 if a sample failed, or there is no loop to measure."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for kind, given, known in (("row", options.rows, ROWS), ("loop", options.loops or [], LOOPS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"there is no {kind} {unknown[0]!r}: {', '.join(known)}")
    if options.rounds < 1:
        parser.error("there is at least one round")
    if options.list:
        print("\n".join(f"{row.name:<14}{row.title}" for row in ROWS.values()))
        return 0
    if sys.platform != "linux":
        parser.error("measures on Linux only: it reads the clocks of other processes, and ties them to cores")
    rows = options.rows or list(ROWS)
    result = begin(options.loops, rows, options.rounds, options.seconds)
    if not result.versions:
        print("\n".join(f"{name} is not here: {why}" for name, why in result.missing.items()), file=sys.stderr)
        return 1
    with start(len(rows) * len(result.versions) * result.rounds) as step:
        measure(result, rows, step)
    print(report.table(result))
    try:
        if options.json is not None:
            result.save(options.json)
        if options.svg is not None:
            options.svg.write_text(report.chart(result), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"python -m ironloop bench: {error}", file=sys.stderr)
        return 1
    failed = any("error" in it for loops in result.samples.values() for taken in loops.values() for it in taken)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ironloop bench", description="Measures the event loops that are installed here, side by side."
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure (default: everything, see --list)")
    parser.add_argument("--loop", dest="loops", action="append", metavar="LOOP", help=f"one of {', '.join(LOOPS)}")
    parser.add_argument(
        "--seconds", type=float, default=45.0, help="how long it may take in all, roughly (default: 45)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="samples of each loop in each row (default: 3)")
    parser.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="draw a chart")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--list", action="store_true", help="say what can be measured, and stop")
    return parser
