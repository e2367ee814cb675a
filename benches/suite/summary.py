"""From samples to what is shown: medians, spread, ratios, and what has to be said about them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from suite.loops import BASE, OURS, REFERENCE
from suite.rows import MMAP, ROWS, Figure, Row, keys, row_of

if TYPE_CHECKING:
    from suite.sampling import Sample
    from suite.session import Result

SATURATED = 0.95  # of a core: the load client is the limit
COSTS = ("cpu_s_per_gib", "cpu_us")
OF_CPU = Figure("rate_of_cpu", "/CPU s", more_is_better=True)

Rounds = dict[int, "Sample"]


@dataclass(frozen=True)
class Cell:
    median: float
    spread: float  # half of the range, as a share of the median
    by_round: dict[int, float]


@dataclass
class Line:
    """One figure of one row for all loops. Ratios are above 1 where a loop is better than the other.

    They are medians of the ratios of each round, whose samples follow each other: a machine that is slower for a while
    is so for both.
    """

    key: str
    row: Row
    figure: Figure
    cells: dict[str, Cell]
    ratios: dict[str, float] = field(default_factory=dict)  # to BASE
    to_best: float | None = None  # OURS to the best of the other loops
    best: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        more = [self.figure.label] if self.figure.label else []
        return ", ".join([self.row.title, *more, *(["mmap threshold raised"] if self.key.endswith(MMAP) else [])])


def lines(result: Result, per_cpu: bool) -> list[Line]:
    return [
        summarise(key, figure, result.samples[key], per_cpu)
        for key in keys(list(ROWS))
        for figure in row_of(key).figures
        if key in result.samples
    ]


def summarise(key: str, figure: Figure, by_loop: dict[str, list[Sample]], per_cpu: bool) -> Line:
    good = {
        name: {number: sample for number, sample in enumerate(samples) if "error" not in sample}
        for name, samples in by_loop.items()
    }
    notes = [note for name, samples in by_loop.items() for note in remarks(key, name, samples)]
    limited = [name for name, samples in good.items() if name != REFERENCE and client_share(samples) >= SATURATED]
    if figure.key == "rate" and limited:
        notes.append(f"{key}: the load client was the limit with {', '.join(limited)}")
    # A row that shows the server's CPU time besides needs no other rate.
    apart = any(other.key in COSTS for other in row_of(key).figures)
    if figure.key == "rate" and (per_cpu or (limited and not apart)) and any_has(good, OF_CPU.key):
        figure = replace(OF_CPU, unit=figure.unit.replace("/s", OF_CPU.unit))
        if limited:
            notes[-1] += "; per CPU second of the server"
    cells = {name: cell(samples, figure.key) for name, samples in good.items() if any_has({name: samples}, figure.key)}
    line = Line(key, row_of(key), figure, cells, notes=notes)
    compare(line)
    return line


def any_has(good: dict[str, Rounds], key: str) -> bool:
    return any(key in sample for samples in good.values() for sample in samples.values())


def client_share(samples: Rounds) -> float:
    return statistics.median(sample.get("client_cpu", 0.0) for sample in samples.values()) if samples else 0.0


def cell(samples: Rounds, key: str) -> Cell:
    by_round = {number: sample[key] for number, sample in samples.items()}
    values = sorted(by_round.values())
    median = statistics.median(values)
    return Cell(median, abs((values[-1] - values[0]) / median / 2) if median else 0.0, by_round)


def compare(line: Line) -> None:
    def better(name: str, other: str) -> float:
        one, two = line.cells[name], line.cells[other]
        pairs = [(value, two.by_round.get(number, 0.0)) for number, value in one.by_round.items()]
        pairs = [pair for pair in pairs if min(pair) > 0] or [(one.median, two.median)]
        return statistics.median(a / b if line.figure.more_is_better else b / a for a, b in pairs)

    # What is not above zero (a timer that fires early) is no result to compare with.
    comparable = [name for name, cell in line.cells.items() if cell.median > 0]
    if BASE in comparable:
        line.ratios = {name: better(name, BASE) for name in comparable}
    peers = [name for name in comparable if name not in (OURS, REFERENCE)]
    if OURS in comparable and peers:
        line.best = min(peers, key=lambda name: better(OURS, name))
        line.to_best = better(OURS, line.best)


def remarks(key: str, name: str, samples: list[Sample]) -> list[str]:
    notes = []
    errors = [sample["error"] for sample in samples if "error" in sample]
    if errors:
        notes.append(f"{key}, {name}: {len(errors)} of {len(samples)} failed: {errors[-1]}")
    early = [sample for sample in samples if sample.get("early")]
    if early:
        share = statistics.mean(sample.get("early", 0.0) for sample in samples if "error" not in sample)
        earliest = max(sample["earliest_us"] for sample in early)
        notes.append(f"{key}, {name}: {share:.1%} woke up early, by up to {earliest:.1f} µs")
    resent = sum(sample.get("resent", 0) for sample in samples)
    if resent:
        share = resent / sum(sample.get("count", 0) for sample in samples)
        notes.append(f"{key}, {name}: {resent} datagrams ({share:.2%}) had no answer within 200 ms")
    return notes


def short(value: float) -> str:
    """Three digits: 0.123, 12.3, 187k, 1.60M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.{digits(scaled)}f}{unit}"
    return f"{value:.{digits(value)}f}"


def digits(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
