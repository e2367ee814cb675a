"""A chart of ratios as bars, as SVG that follows the reader's light or dark theme."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Legible on white and on near-black; ours stands out.
COLOURS = {
    "asyncio": "#8b949e",
    "uvloop": "#3b82c4",
    "rloop": "#2a9d6f",
    "rsloop": "#a371c9",
    "veloxloop": "#c2609a",
    "uvloop+aiofastnet": "#29a3b8",
    "zuvloop": "#b8932b",
    "ironloop": "#e4572e",
    "reference": "#8b949e",
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
LEAST = 1 / 8  # of the scale: one loop that is very slow at something would take the room of all others
LETTER = 7.4  # a generous mean, to place the legend's entries


@dataclass(frozen=True)
class Ratios:
    """One row: how many times as good as the base each loop is."""

    title: str
    of: dict[str, float]


@dataclass(frozen=True)
class Cast:
    """Who is shown, in which order, which of them is named at the right, and which is a limit: a stroke, not a bar."""

    loops: list[str]
    base: str
    ours: str
    limit: str = ""

    @property
    def bars(self) -> list[str]:
        return [name for name in self.loops if name not in (self.base, self.limit)]


def bars(rows: list[Ratios], cast: Cast, remarks: list[str]) -> str:
    """The chart; `remarks` stand below it."""
    shown = [ratio for row in rows for ratio in row.of.values() if 0 < ratio < math.inf]
    low, high = scale_limits(shown)
    if min(shown, default=low) < low:
        remarks = ["Bars that reach the left edge go on beyond it.", *remarks]

    def x_of(ratio: float) -> float:
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return LABELS + share * (WIDTH - LABELS - RIGHT)

    heights = [sum(name in row.of for name in cast.bars) * BAR + GAP for row in rows]
    bottom = TOP + sum(heights)
    parts = [text(12, 22, f"Times as good as {cast.base}; right is better, on a logarithmic scale")]
    parts += legend(cast.bars, WIDTH, 46)
    parts.append(text(WIDTH - 12, TOP - 10, cast.ours, "end", "ours"))
    if cast.limit in cast.loops:
        parts.append(text(WIDTH - 12, 22, "upright stroke: a server without Python, the limit", "end", "small"))
    parts += grid(low, high, x_of, bottom)
    y = float(TOP)
    for row, height in zip(rows, heights, strict=True):
        parts += group(row, cast, x_of, y, height)
        y += height
    for number, remark in enumerate(remarks):
        parts.append(text(12, bottom + 40 + 16 * number, remark, style="small"))
    return svg(WIDTH, int(bottom) + 36 + 16 * len(remarks), parts)


def group(row: Ratios, cast: Cast, x_of: Callable[[float], float], y: float, height: float) -> list[str]:
    """The bars of one row, from 1 to the left or to the right."""
    top, middle = y, y + (height - GAP) / 2 + 5
    parts = [text(LABELS - 12, middle, row.title, "end")]
    if cast.ours in row.of:
        parts.append(text(WIDTH - 12, middle, f"{row.of[cast.ours]:.2f}", "end", "ours"))
    for name in cast.bars:
        if name not in row.of:
            continue
        left, right = sorted((x_of(1), x_of(row.of[name])))
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left, 1):.1f}" height="{BAR - 1}" '
            f'fill="{COLOURS[name]}"/>'
        )
        y += BAR
    if cast.limit in row.of:
        x = x_of(row.of[cast.limit])
        parts.append(line(x, top - 3, x, top + height - GAP + 3, "limit"))
    return parts


def scale_limits(ratios: list[float]) -> tuple[float, float]:
    """Powers of two around all ratios that are not below `LEAST`, and 1."""
    low, high = max(min([*ratios, 0.5]), LEAST), max([*ratios, 2.0])
    return 2.0 ** math.floor(math.log2(low)), 2.0 ** math.ceil(math.log2(high))


def grid(low: float, high: float, x_of: Callable[[float], float], bottom: float) -> list[str]:
    parts = []
    for power in range(round(math.log2(low)), round(math.log2(high)) + 1):
        ratio, x = 2.0**power, x_of(2.0**power)
        parts.append(line(x, TOP - 4, x, bottom, "one" if power == 0 else "grid"))
        parts.append(text(x, bottom + 16, f"{ratio:g}x", "middle", "small"))
    return parts


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


def svg(width: int, height: int, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, content: str, anchor: str = "start", style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'
