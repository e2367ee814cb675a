"""What `python -m ironloop bench` shows: a table, and a chart as SVG."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from .bars import Cast, Ratios, bars
from .loops import OURS
from .rows import CONNECTIONS, ROWS, SIZE

if TYPE_CHECKING:
    from .session import Result

BASE = "asyncio"
CELL = 12
REMARKS = (
    "Operations per second of CPU time: medians, each sample in a fresh process, the loops in turns.",
    f"The echoes ({CONNECTIONS} connections, {SIZE} bytes) have a load client in Python, which limits how many",
    "requests there are: what is compared is the CPU time of the server.",
)


def medians(result: Result) -> dict[str, dict[str, float]]:
    """Row, loop, and the median of its samples that did not fail."""
    found: dict[str, dict[str, float]] = {}
    for row, loops in result.samples.items():
        rates = {name: [it["rate_of_cpu"] for it in taken if "error" not in it] for name, taken in loops.items()}
        found[row] = {name: statistics.median(rates[name]) for name in result.versions if rates.get(name)}
    return found


def table(result: Result) -> str:
    """The whole report as plain text."""
    names = list(result.versions)
    width = max(len(row.title) for row in ROWS.values()) + 2
    heads = "".join(f"{name:>{max(CELL, len(name) + 2)}}" for name in names)
    last = f"{'x ' + BASE:>{CELL}}{'x best other':>{CELL + 2}}" if OURS in names else ""
    lines = [f"{'':{width}}{heads}{last}"]
    for row, rates in medians(result).items():
        cells = "".join(
            f"{_short(rates[name]) if name in rates else '-':>{max(CELL, len(name) + 2)}}" for name in names
        )
        others = [rate for name, rate in rates.items() if name != OURS]
        to_base = _ratio(rates.get(OURS), rates.get(BASE))
        to_best = _ratio(rates.get(OURS), max(others, default=None))
        ratios = f"{to_base:>{CELL}}{to_best:>{CELL + 2}}" if OURS in names else ""
        lines.append(f"{ROWS[row].title:{width}}{cells}{ratios}")
    return "\n".join([_heading(result), "", *lines, "", *REMARKS, *_failures(result)])


def chart(result: Result) -> str:
    """How many times as good as asyncio; ValueError if that was not measured."""
    rows = []
    for row, rates in medians(result).items():
        if BASE in rates:
            rows.append(Ratios(ROWS[row].title, {name: rate / rates[BASE] for name, rate in rates.items()}))
    if not rows:
        raise ValueError(f"there is no chart without {BASE}")
    return bars(rows, Cast(list(result.versions), BASE, OURS), [result.machine, _versions(result), *REMARKS])


def _heading(result: Result) -> str:
    return f"{result.machine}\n{_versions(result)}\nsamples of {result.seconds:.2f} s, {result.rounds} of each"


def _versions(result: Result) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.versions.items())


def _failures(result: Result) -> list[str]:
    """Why something is not there."""
    lines = [f"{name} is not here: {why}" for name, why in result.missing.items()]
    for row, loops in result.samples.items():
        for name, samples in loops.items():
            lines += [f"{row}, {name}: {it['error']}" for it in samples if "error" in it][:1]
    return lines


def _short(rate: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= limit:
            return f"{rate / limit:.3g}{unit}"
    return f"{rate:.3g}"


def _ratio(ours: float | None, other: float | None) -> str:
    return f"{ours / other:.2f}" if ours and other else "-"
