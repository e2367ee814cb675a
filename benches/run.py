#!/usr/bin/env python3
"""Measures event loops side by side.

    python benches/run.py                     # everything; takes two to three hours
    python benches/run.py --quick             # the headline rows, in less than three minutes
    python benches/run.py --rows call_soon_chain,echo --loops uvloop,ironloop --rounds 9 --json result.json
    python benches/run.py --minutes 60 --json result.json            # as many rounds as fit
    python benches/run.py --minutes 60 --json result.json --resume   # goes on after an interruption
    python benches/run.py --list

The first run makes an environment in benches/.venv with the other loops from PyPI and this ironloop, and builds the
load client. Every sample runs in a fresh process; the loops take turns, round by round, so that a machine that slows
down slows all of them. Servers run on core 0, the load client on core 1.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from suite import chart, environment, session, table
from suite.loops import LOOPS, REFERENCE
from suite.rows import GROUPS, ROWS, keys
from suite.summary import lines

QUICK_ROUNDS, QUICK_SECONDS = 1, 0.3


def names(text: str) -> list[str]:
    """Rows by name, by group, or by the beginning of their name."""
    found = []
    for part in text.split(","):
        chosen = [part] if part in ROWS else [row.name for row in ROWS.values() if row.group == part]
        chosen = chosen or [name for name in ROWS if name.startswith(part)]
        if not chosen:
            raise SystemExit(f"{part}: no row, group ({', '.join(GROUPS)}) or beginning of a row's name")
        found += chosen
    return list(dict.fromkeys(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="names, beginnings of names or groups, comma-separated; default: all")
    parser.add_argument("--loops", default=",".join((*LOOPS, REFERENCE)), help="comma-separated; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time of a sample")
    parser.add_argument("--minutes", type=float, help="time for all of it, from which rounds and seconds follow")
    parser.add_argument("--quick", action="store_true", help=f"headline rows, one round of {QUICK_SECONDS} s")
    parser.add_argument(
        "--fresh-only", action="store_true", help="no second sample with malloc's mmap threshold raised"
    )
    parser.add_argument("--per-cpu", action="store_true", help="per second of CPU time, for a machine with other work")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all samples")
    parser.add_argument("--resume", action="store_true", help="go on with what the file of --json has already")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="write a page with tables")
    parser.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="write a chart of the headline rows")
    parser.add_argument("--growth-svg", type=pathlib.Path, metavar="FILE", help="write a chart of the rows of growth")
    parser.add_argument(
        "--report", type=pathlib.Path, metavar="FILE", help="measure nothing, show what --json wrote, all or --rows"
    )
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument("--update", action="store_true", help="install the newest versions of the other loops")
    parser.add_argument("--here", action="store_true", help="use this interpreter and what it can import")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> session.Result:
    chosen = names(options.rows) if options.rows else list(ROWS)
    rounds, seconds = options.rounds, options.seconds
    if options.quick:
        rounds, seconds = QUICK_ROUNDS, QUICK_SECONDS
        chosen = chosen if options.rows else [name for name in chosen if ROWS[name].headline]
    wanted = chosen if options.quick or options.fresh_only else keys(chosen)
    result = session.begin(options.loops.split(","), environment.failures(), rounds, seconds)
    if options.resume and options.json and options.json.exists():
        earlier = session.Result.read(options.json)
        if not earlier.begins_as(result):
            raise SystemExit(f"{options.json} is of another machine, or of other loops: it cannot go on here")
        result = earlier
    session.measure(result, wanted, options.json, options.minutes)
    return result


def main() -> None:
    options = arguments()
    if options.list:
        for row in ROWS.values():
            print(f"{row.group:18}{row.name:22}{row.title}")
        return
    if not options.here and not options.report:
        python = str(environment.prepare(options.update))
        os.execv(python, [python, *sys.argv, "--here"])
    result = session.Result.read(options.report) if options.report else measured(options)
    shown = lines(result, options.per_cpu)
    if options.report and options.rows:
        wanted = names(options.rows)
        shown = [line for line in shown if line.row.name in wanted]
    if options.markdown:
        options.markdown.write_text(table.markdown(result, shown))
    if options.svg:
        options.svg.write_text(chart.bars(result, shown))
    if options.growth_svg:
        options.growth_svg.write_text(chart.growth(result, shown))
    print(table.text(result, shown))


if __name__ == "__main__":
    main()
