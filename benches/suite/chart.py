"""Charts, as SVG that follows the reader's light or dark theme: ratios as bars, growth as curves."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from suite.loops import BASE, OURS, REFERENCE
from suite.rows import MMAP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from suite.session import Result
    from suite.summary import Line

# Legible on white and on near-black; ours stands out.
COLOURS = {
    "asyncio": "#8b949e",
    BASE: "#3b82c4",
    "rloop": "#2a9d6f",
    "rsloop": "#a371c9",
    "veloxloop": "#c2609a",
    "uvloop+aiofastnet": "#29a3b8",
    "zuvloop": "#b8932b",
    OURS: "#e4572e",
    REFERENCE: "#8b949e",
}
STYLE = """<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.ours { font-weight: 700; fill: #e4572e }
.limit { stroke: #24292f; stroke-width: 2 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.one { stroke: #57606a; stroke-width: 1.5 }
.curve { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9da7b1 }
  .grid { stroke: #30363d }
  .one { stroke: #9da7b1 }
  .ours { fill: #ff7a50 }
  .limit { stroke: #e6edf3 }
}
</style>"""

WIDTH, LABELS, RIGHT = 900, 340, 72  # of the chart, of the rows' names, of the room for a number
BAR, GAP, TOP = 7, 16, 78
LETTER = 7.4  # a generous mean, to place the legend's entries


def svg(width: int, height: int, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, content: str, anchor: str = "start", style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def legend(loops: list[str], width: int, y: float) -> list[str]:
    """One line, or two where one is not enough."""
    parts, x = [], 12.0
    for name in loops:
        needed = 18 + len(name) * LETTER + 16
        if x + needed > width:
            x, y = 12.0, y + 20
        parts.append(f'<rect x="{x:.1f}" y="{y - 10}" width="12" height="12" rx="2" fill="{COLOURS[name]}"/>')
        parts.append(text(x + 18, y, name))
        x += needed
    return parts


def bars(result: Result, lines: list[Line]) -> str:
    """How many times as good as BASE: the headline rows, or all where there are none of them."""
    lines = [each for each in lines if each.ratios and not each.key.endswith(MMAP)]
    lines = [each for each in lines if each.row.headline] or lines
    loops = [name for name in result.versions if any(name in each.ratios for each in lines) and name != BASE]
    ratios = [ratio for each in lines for ratio in each.ratios.values() if 0 < ratio < math.inf]
    low, high = scale_limits(ratios)

    def x_of(ratio: float) -> float:
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return LABELS + share * (WIDTH - LABELS - RIGHT)

    heights = [sum(name in each.ratios for name in loops if name != REFERENCE) * BAR + GAP for each in lines]
    bottom = TOP + sum(heights)
    parts = [text(12, 22, f"Times as good as {BASE}; right is better, on a logarithmic scale")]
    parts += legend([name for name in loops if name != REFERENCE], WIDTH, 46)
    parts.append(text(WIDTH - 12, TOP - 10, OURS, "end", "ours"))
    if REFERENCE in loops:
        parts.append(text(WIDTH - 12, 22, "upright stroke: a server without Python, the limit", "end", "small"))
    parts += grid(low, high, x_of, bottom)
    y = float(TOP)
    for each, height in zip(lines, heights, strict=True):
        parts += group(each, loops, x_of, y, height)
        y += height
    parts.append(text(12, bottom + 40, result.machine, style="small"))
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items() if version)
    parts.append(text(12, bottom + 56, versions, style="small"))
    return svg(WIDTH, int(bottom) + 68, parts)


def scale_limits(ratios: list[float]) -> tuple[float, float]:
    """Powers of two around all ratios and 1."""
    low, high = min([*ratios, 0.5]), max([*ratios, 2.0])
    return 2.0 ** math.floor(math.log2(low)), 2.0 ** math.ceil(math.log2(high))


def grid(low: float, high: float, x_of: Callable[[float], float], bottom: float) -> list[str]:
    parts = []
    for power in range(round(math.log2(low)), round(math.log2(high)) + 1):
        ratio, x = 2.0**power, x_of(2.0**power)
        parts.append(line(x, TOP - 4, x, bottom, "one" if power == 0 else "grid"))
        parts.append(text(x, bottom + 16, f"{ratio:g}x", "middle", "small"))
    return parts


def group(each: Line, loops: list[str], x_of: Callable[[float], float], y: float, height: float) -> list[str]:
    """The bars of one row, from 1 to the left or to the right."""
    top, middle = y, y + (height - GAP) / 2 + 5
    parts = [text(LABELS - 12, middle, each.title, "end")]
    if OURS in each.ratios:
        parts.append(text(WIDTH - 12, middle, f"{each.ratios[OURS]:.2f}", "end", "ours"))
    for name in loops:
        ratio = each.ratios.get(name)
        if ratio is None:
            continue
        if name == REFERENCE:
            parts.append(line(x_of(ratio), top - 3, x_of(ratio), top + height - GAP + 3, "limit"))
            continue
        left, right = sorted((x_of(1), x_of(ratio)))
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left, 1):.1f}" height="{BAR - 1}" '
            f'fill="{COLOURS[name]}"/>'
        )
        y += BAR
    return parts


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
