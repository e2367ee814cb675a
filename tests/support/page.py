"""docs/integrations.md as the tests use it: its files and its command lines, by section.

    a block with a title (```python title="app.py")    a file
    a line of a console block that starts with "$ "    a command line

Port 8000 stands for a free one, `python` for the interpreter that runs the tests.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


@dataclass
class Section:
    """What stands between a heading and the next one."""

    files: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def write(self, folder: Path, port: int = 8000, names: dict[str, str] | None = None) -> None:
        """Write the files, under the names that they have on the page or other ones."""
        for name, text in self.files.items():
            (folder / (names or {}).get(name, name)).write_text(text.replace("8000", str(port)))

    def command(self, line: str, port: int) -> list[str]:
        """The command of a line of this section."""
        assert line in self.lines
        words = shlex.split(line.replace("8000", str(port)))
        return [sys.executable if word == "python" else word for word in words]


@cache
def page() -> dict[str, Section]:
    """The sections by their titles."""
    sections: dict[str, Section] = {}
    section = Section()
    for heading, language, name, block in re.findall(
        r'^(?:#+ (.+)|```(\w+)(?: title="(.+)")?\n((?:.*\n)*?)```)$', PAGE.read_text(), re.MULTILINE
    ):
        if heading:
            section = sections[heading] = Section()
        elif name:
            section.files[name] = block
        elif language == "console":
            section.lines += re.findall(r"^\$ (.+)$", block, re.MULTILINE)
    return sections
