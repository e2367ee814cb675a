"""The result as text: for a terminal, and as a Markdown page."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from suite.loops import BASE, OURS, REFERENCE
from suite.rows import MMAP
from suite.summary import short

if TYPE_CHECKING:
    from suite.session import Result
    from suite.summary import Cell, Line

RATIOS = (f"x {BASE}", "x best peer")


def shown_loops(result: Result, lines: list[Line]) -> list[str]:
    return [name for name in result.loops if any(name in line.cells for line in lines)]


def ratios(line: Line) -> tuple[str, str]:
    to_base = line.ratios.get(OURS)
    to_best = f"{line.to_best:.2f} ({line.best})" if line.to_best is not None else "-"
    return (f"{to_base:.2f}" if to_base is not None else "-"), to_best


def remarks(result: Result, lines: list[Line]) -> list[str]:
    """What is not there, then what has to be said about single rows."""
    absent = [f"{name} is not here: {why}" for name, why in result.missing.items()]
    return absent + list(dict.fromkeys(note for line in lines for note in line.notes))


def versions(result: Result) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.versions.items() if version)


def text(result: Result, lines: list[Line]) -> str:
    loops = shown_loops(result, lines)
    width = max((len(label(line)) for line in lines), default=0) + 1
    output = [result.machine, versions(result), f"medians of {result.rounds} samples of {result.seconds:g} s", ""]
    heads = "".join(f"{name:>{max(len(name), 12)}}  " for name in loops)
    output.append(f"{'':{width + 10}}{heads}{RATIOS[0]:>10}  {RATIOS[1]}")
    for line in lines:
        cells = ""
        for name in loops:
            cell = line.cells.get(name)
            cells += f"{shown(cell) if cell else '-':>{max(len(name), 12)}}  "
        to_base, to_best = ratios(line)
        output.append(f"{label(line):{width}}{line.figure.unit:10}{cells}{to_base:>10}  {to_best}")
    return "\n".join([*output, "", *remarks(result, lines)])


def shown(cell: Cell) -> str:
    return f"{short(cell.median)} ±{cell.spread * 100:2.0f} %" if len(cell.by_round) > 1 else short(cell.median)


def label(line: Line) -> str:
    return f"{line.key} {line.figure.label}".strip()


def markdown(result: Result, lines: list[Line]) -> str:
    loops = shown_loops(result, lines)
    output = [
        "# Measurements",
        "",
        f"{result.machine}; {versions(result)}. Medians of {result.rounds} samples of {result.seconds:g} s, each in a "
        "fresh process, ± half of their range. Ratios are above 1 where ironloop is better.",
    ]
    for group, of_group in groupby(lines, key=lambda line: line.row.group):
        columns = [name for name in loops if name != REFERENCE] + ([REFERENCE] if REFERENCE in loops else [])
        heads = ["", "unit", *(f"**{name}**" if name == OURS else name for name in columns), *RATIOS]
        output += ["", f"## {group[0].upper()}{group[1:]}", "", row_of_cells(heads)]
        output.append(row_of_cells(["---", "---", *["---:"] * (len(heads) - 2)]))
        output += [row_of_cells(cells_of(line, columns)) for line in of_group]
    notes = remarks(result, lines)
    if notes:
        output += ["", "## Remarks", "", *(f"* {note.replace(MMAP, ' (mmap threshold raised)')}" for note in notes)]
    return "\n".join(output) + "\n"


def cells_of(line: Line, columns: list[str]) -> list[str]:
    cells = [line.title, line.figure.unit]
    for name in columns:
        cell = line.cells.get(name)
        value = shown(cell) if cell else "-"
        cells.append(f"**{value}**" if name == OURS and cell else value)
    return [*cells, *ratios(line)]


def row_of_cells(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
