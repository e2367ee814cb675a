"""Writes the tables of `docs/compatibility.md` that say whose code each part of asyncio's surface is.

    python docs/make_compatibility.py               the column of this Python's version
    python docs/make_compatibility.py PYTHON...     the columns of these; each has ironloop installed, as in the
                                                    environments that `tests/matrix.sh --keep` leaves

The other columns stay. `tests/test_compatibility.py` fails when a column is not true any more.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- make_compatibility.py: begin -->\n", "<!-- make_compatibility.py: end -->\n"

#: What a cell says of a version that does not have the member.
NOT_THERE = "-"

#: Version of Python -> class -> member -> whose code it is.
Columns = dict[str, dict[str, dict[str, str]]]


def read(document: str) -> Columns:
    """The tables of a document."""
    columns: Columns = {}
    for section in re.split(r"^### ", between(document), flags=re.MULTILINE)[1:]:
        title, _, table = section.partition("\n")
        versions: list[str] = []
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if not cells or cells[0] == "---":
                continue
            if not versions:
                versions = cells[1:]
                continue
            for version, cell in zip(versions, cells[1:], strict=True):
                if cell != NOT_THERE:
                    columns.setdefault(version, {}).setdefault(title, {})[cells[0].strip("`")] = cell
    return columns


def write(document: str, columns: Columns) -> str:
    """The document with other tables."""
    versions = sorted(columns, key=lambda version: [int(part) for part in version.split(".")])
    titles = list(dict.fromkeys(title for version in versions for title in columns[version]))
    tables = "".join(f"\n### {title}\n\n{table(title, versions, columns)}" for title in titles)
    head, begin, rest = document.partition(BEGIN)
    return f"{head}{begin}{tables}\n{END}{rest.partition(END)[2]}"


def table(title: str, versions: list[str], columns: Columns) -> str:
    names = sorted({name for version in versions for name in columns[version].get(title, {})})
    lines = [["", *versions], ["---"] * (len(versions) + 1)]
    for name in names:
        lines.append([f"`{name}`", *(columns[version].get(title, {}).get(name, NOT_THERE) for version in versions)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def between(document: str) -> str:
    """What stands between the marks."""
    return document.partition(BEGIN)[2].partition(END)[0]


def ask(python: str) -> tuple[str, dict[str, dict[str, str]]]:
    """The version and the column of an interpreter."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.check_output([python, "-c", program], text=True).strip()
    surface = subprocess.check_output([python, "-m", "tests.support.surface"], cwd=ROOT)
    return version, json.loads(surface)


def main() -> None:
    document = DOCUMENT.read_text()
    DOCUMENT.write_text(
        write(document, read(document) | dict(ask(python) for python in sys.argv[1:] or [sys.executable]))
    )


if __name__ == "__main__":
    main()
