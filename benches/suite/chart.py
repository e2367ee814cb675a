"""Charts, as SVG that follows the reader's light or dark theme: ratios as bars, growth as curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from suite import bars as chart_of_bars
from suite.bars import COLOURS, legend, line, svg, text
from suite.loops import BASE, OURS, REFERENCE
from suite.rows import MMAP

if TYPE_CHECKING:
    from suite.session import Result
    from suite.summary import Line


def bars(result: Result, lines: list[Line]) -> str:
    """How many times as good as BASE: the headline rows, or all where there are none of them."""
    lines = [each for each in lines if each.ratios and not each.key.endswith(MMAP)]
    lines = [each for each in lines if each.row.headline] or lines
    loops = [name for name in result.versions if any(name in each.ratios for each in lines)]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items() if version)
    rows = [chart_of_bars.Ratios(each.title, each.ratios) for each in lines]
    cast = chart_of_bars.Cast(loops, BASE, OURS, limit=REFERENCE)
    return chart_of_bars.bars(rows, cast, [result.machine, versions])


PANEL, PLOT_LEFT, PLOT_TOP, PLOT_HEIGHT = 440, 62, 92, 220
PANELS = (
    ("growth_c", "rate", "requests per second by connections"),
    ("growth_c", "p99_us", "latency (99 %, µs) by connections"),
    ("timer_among_", "ns", "ns per timer by pending timers"),
)


def growth(result: Result, lines: list[Line]) -> str:
    """Curves over the number of connections and of pending timers, both axes logarithmic."""
    panels = []
    for prefix, key, title in PANELS:
        points = [each for each in lines if each.key.startswith(prefix) and not each.key.endswith(MMAP)]
        points = [each for each in points if each.row.figures[0].key == key or each.figure.key == key]
        points = [each for each in points if (each.figure.key in ("rate", "rate_of_cpu")) == (key == "rate")]
        if points:
            panels.append((title, points))
    loops = [name for name in result.versions if any(name in each.cells for _, points in panels for each in points)]
    width = max(PANEL * len(panels), 620)
    parts = legend(loops, width, 24)
    for index, (title, points) in enumerate(panels):
        parts += panel(index * PANEL, title, points, loops)
    return svg(width, PLOT_TOP + PLOT_HEIGHT + 40, parts)


def amount(each: Line) -> float:
    return float(each.row.argument or each.row.connections)


def round_number(value: float) -> str:
    """1M, 10k, 5k, 100, 0.1"""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def panel(left: float, title: str, points: list[Line], loops: list[str]) -> list[str]:
    values = [cell.median for each in points for cell in each.cells.values()]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)) + 1e-9)
    first, last = amount(points[0]), amount(points[-1])
    x0, x1, y1 = left + PLOT_LEFT, left + PANEL - 24, PLOT_TOP + PLOT_HEIGHT

    def x_of(value: float) -> float:
        return x0 + math.log(value / first) / max(math.log(last / first), 1e-9) * (x1 - x0)

    def y_of(value: float) -> float:
        return y1 - math.log(value / low) / math.log(high / low) * PLOT_HEIGHT

    parts = [text(left + 12, PLOT_TOP - 16, title)]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = y_of(10.0**power)
        parts += [line(x0, y, x1, y, "grid"), text(x0 - 8, y + 4, round_number(10.0**power), "end", "small")]
    for each in points:
        parts.append(text(x_of(amount(each)), y1 + 18, round_number(amount(each)), "middle", "small"))
    for name in loops:
        known = [(x_of(amount(each)), y_of(each.cells[name].median)) for each in points if name in each.cells]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        dashes = ' stroke-dasharray="4 4"' if name == REFERENCE else ""
        parts.append(f'<polyline points="{path}" class="curve" stroke="{COLOURS[name]}"{dashes}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>' for x, y in known]
    return parts
